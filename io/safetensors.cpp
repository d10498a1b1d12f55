// Reads safetensors; checks the whole header before it gives out any tensor. The format: a uint64 with the length of
// the header, the header (a JSON object name -> {dtype, shape, data_offsets}), then the tensors' bytes without gaps.
// Writing is in safetensors_writer.cpp.
#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <set>

#include "core/error.h"
#include "io/json.h"
#include "io/torch_file.h"

namespace longlora {

namespace {

constexpr std::int64_t kMostHeaderBytes = 100'000'000;  // the limit of the Hugging Face library

/// The bits of one element of a type in the safetensors format; 0 for an unknown type.
std::int64_t bits_of(const std::string& type) {
    static const std::map<std::string, std::int64_t> bits = {
        {"BOOL", 8},    {"U8", 8},      {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F4", 4},
        {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"I16", 16}, {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},
        {"U32", 32},    {"F32", 32},    {"C64", 64}, {"F64", 64},    {"I64", 64},    {"U64", 64}};
    const auto found = bits.find(type);
    return found == bits.end() ? 0 : found->second;
}

bool find_dtype(const std::string& type, DType& dtype) {
    static const std::map<std::string, DType> ours = {
        {"F32", DType::float32}, {"F16", DType::float16}, {"BF16", DType::bfloat16}, {"F64", DType::float64},
        {"I32", DType::int32},   {"I64", DType::int64},   {"U8", DType::uint8},      {"U16", DType::uint16},
        {"U32", DType::uint32},  {"U64", DType::uint64}};
    const auto found = ours.find(type);
    if (found == ours.end()) return false;
    dtype = found->second;
    return true;
}

/// Parses the header. nlohmann-json silently keeps the last of equal keys, so a callback looks for equal keys during
/// parsing.
Json parse_header(std::string_view content, const std::string& path) {
    std::set<std::string> names;
    std::string twice;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth == 1 && event == Json::parse_event_t::key && !names.insert(parsed.get<std::string>()).second)
            twice = parsed.get<std::string>();
        return true;
    };
    try {
        Json header = Json::parse(content, watch);
        require(twice.empty(), path, " has the tensor ", twice, " twice");
        require(header.is_object(), path, " is not a safetensors file: its header is not a JSON object");
        return header;
    } catch (const Json::exception&) {
        fail(text(path, " is not a safetensors file: its header is not valid JSON"));
    }
}

}  // namespace

struct SafetensorsFile::Copies {
    std::mutex mutex;
    std::map<std::string, std::vector<double>> of;  // double: aligned for every type
};

SafetensorsFile::SafetensorsFile(const std::string& path) : map_(path), copies_(std::make_unique<Copies>()) {
    read_header();
    check_layout();
}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

void SafetensorsFile::read_header() {
    const std::string& path = map_.path();
    require(map_.size() >= 8, path, " is not a safetensors file: it has ", map_.size(), " bytes, less than a header");
    std::uint64_t length = 0;
    std::memcpy(&length, map_.data(), 8);
    require(length >= 2 && length <= static_cast<std::uint64_t>(kMostHeaderBytes), path,
            " is not a safetensors file: its header would have ", length, " bytes");
    require(length <= static_cast<std::uint64_t>(map_.size() - 8), path, " is cut short: its header has ", length,
            " bytes, the file ", map_.size());
    data_begin_ = 8 + static_cast<std::int64_t>(length);
    const Json header =
        parse_header({reinterpret_cast<const char*>(map_.data()) + 8, static_cast<std::size_t>(length)}, path);
    for (const auto& [name, value] : header.items()) {
        if (name == "__metadata__") {
            require(value.is_object(), path, ": __metadata__ is not a JSON object");
            for (const auto& [key, content] : value.items())
                metadata_[key] = content.is_string() ? content.get<std::string>() : to_line(content);
            continue;
        }
        const std::string where = path + ", tensor " + name;
        Entry entry;
        entry.type = get_text(value, "dtype", where);
        const Json& shape = member(value, "shape", where);
        const Json& offsets = member(value, "data_offsets", where);
        const auto whole = [](const Json& v) {
            return v.is_number_unsigned() && v.get<std::uint64_t>() <= (std::uint64_t{1} << 60);
        };
        require(shape.is_array() && std::all_of(shape.begin(), shape.end(), whole), where,
                ": \"shape\" is not a list of sizes");
        require(offsets.is_array() && offsets.size() == 2 && whole(offsets[0]) && whole(offsets[1]), where,
                ": \"data_offsets\" is not two positions");
        entry.shape = shape.get<std::vector<std::int64_t>>();
        entry.begin = offsets[0].get<std::int64_t>();
        entry.end = offsets[1].get<std::int64_t>();
        entries_.emplace(name, std::move(entry));
    }
}

void SafetensorsFile::check_layout() const {
    const std::string& path = map_.path();
    const std::int64_t data_bytes = map_.size() - data_begin_;
    std::vector<std::pair<std::pair<std::int64_t, std::int64_t>, const std::string*>> ranges;
    for (const auto& [name, entry] : entries_) {
        const std::int64_t bits = bits_of(entry.type);
        require(bits > 0, path, ": tensor ", name, " has the unknown type ", entry.type);
        require(entry.begin <= entry.end && entry.end <= data_bytes, path, " is cut short or damaged: tensor ", name,
                " lies at bytes ", entry.begin, " to ", entry.end, " of ", data_bytes);
        std::int64_t total = bits;
        bool overflow = false;
        for (std::int64_t size : entry.shape) overflow = __builtin_mul_overflow(total, size, &total) || overflow;
        const bool fits = !overflow && total % 8 == 0 && total / 8 == entry.end - entry.begin;
        require(fits, path, ": tensor ", name, " has ", entry.end - entry.begin,
                " bytes, which is not what its shape and type ", entry.type, " need");
        ranges.push_back({{entry.begin, entry.end}, &name});
    }
    std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::int64_t done = 0;
    for (const auto& [range, name] : ranges) {
        require(range.first == done, path, " is damaged: tensor ", *name, " begins at byte ", range.first,
                ", the one before ends at ", done);
        done = range.second;
    }
    require(done == data_bytes, path, " is damaged: its tensors end at byte ", done, " of ", data_bytes);
}

std::vector<std::string> SafetensorsFile::names() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
}

std::optional<HostTensor> SafetensorsFile::find(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return std::nullopt;
    const Entry& entry = found->second;
    HostTensor tensor;
    require(find_dtype(entry.type, tensor.dtype), path(), ": tensor ", name, " has the type ", entry.type,
            ", which is not supported; convert the model to F32, BF16 or F16");
    require(entry.shape.size() <= 4, path(), ": tensor ", name, " has ", entry.shape.size(),
            " dimensions; at most four are supported");
    tensor.shape.rank = static_cast<int>(entry.shape.size());
    std::copy(entry.shape.begin(), entry.shape.end(), tensor.shape.sizes.begin());
    tensor.bytes = map_.data() + data_begin_ + entry.begin;
    const bool aligned =
        reinterpret_cast<std::uintptr_t>(tensor.bytes) % static_cast<std::uintptr_t>(size_of(tensor.dtype)) == 0;
    if (aligned) return tensor;
    const std::lock_guard lock(copies_->mutex);
    std::vector<double>& copy = copies_->of[name];
    if (copy.empty()) {
        copy.resize(static_cast<std::size_t>(tensor.size_bytes() + 7) / 8 + 1);
        std::memcpy(copy.data(), tensor.bytes, tensor.size_bytes());
    }
    tensor.bytes = reinterpret_cast<const std::byte*>(copy.data());
    return tensor;
}

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
    if (path.ends_with(".bin")) return std::make_unique<TorchFile>(path);
    return std::make_unique<SafetensorsFile>(path);
}

SafetensorsFolder::SafetensorsFolder(const std::string& path) : path_(path) {
    const auto whole = [this](const std::string& file) {
        files_.push_back(open_tensor_file(file));
        for (const std::string& name : files_[0]->names()) file_index_[name] = 0;
    };
    if (!is_folder(path)) whole(path);
    for (const std::string name : {"/model.safetensors", "/pytorch_model.bin"}) {
        if (files_.empty() && file_exists(path + name)) whole(path + name);
        if (files_.empty() && file_exists(path + name + ".index.json")) read_index(path + name + ".index.json");
    }
    require(!files_.empty(), path,
            " has neither model.safetensors nor model.safetensors.index.json, nor pytorch_model.bin or its ", "index");
}

void SafetensorsFolder::read_index(const std::string& index_path) {
    const Json index = read_json_file(index_path);
    const Json& map = member(index, "weight_map", index_path);
    require(map.is_object() && !map.empty(), index_path, ": \"weight_map\" is not an object of names");
    std::map<std::string, std::size_t> opened;
    for (const auto& [name, file] : map.items()) {
        const std::string shard = get_text(map, name.c_str(), index_path);
        require(shard.find('/') == std::string::npos, index_path, ": ", shard,
                " is not the name of a file in the same folder");
        if (opened.emplace(shard, files_.size()).second) files_.push_back(open_tensor_file(path_ + "/" + shard));
        require(files_[opened[shard]]->has(name), index_path, " expects ", name, " in ", shard,
                ", which does not have it");
        file_index_[name] = opened[shard];
    }
}

std::vector<std::string> SafetensorsFolder::names() const {
    std::vector<std::string> names;
    for (const auto& [name, index] : file_index_) names.push_back(name);
    return names;
}

std::optional<HostTensor> SafetensorsFolder::find(const std::string& name) const {
    const auto found = file_index_.find(name);
    if (found == file_index_.end()) return std::nullopt;
    return files_[found->second]->find(name);
}

HostTensor SafetensorsFolder::get(const std::string& name) const {
    const auto tensor = find(name);
    require(tensor.has_value(), path_, " has no tensor ", name);
    return *tensor;
}

std::string SafetensorsFolder::file_of(const std::string& name) const {
    const auto found = file_index_.find(name);
    return found == file_index_.end() ? "" : files_[found->second]->path();
}

}  // namespace longlora
