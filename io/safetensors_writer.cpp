// Writes safetensors: one tensor in memory at a time, and a file gets its name only when it is complete.
// io/safetensors.cpp reads them.
#include <algorithm>
#include <cstdio>
#include <set>

#include "core/error.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace longlora {

namespace {

const char* type_name(DType dtype) {
    switch (dtype) {
        case DType::float32:
            return "F32";
        case DType::bfloat16:
            return "BF16";
        case DType::float16:
            return "F16";
        case DType::float64:
            return "F64";
        case DType::int32:
            return "I32";
        case DType::int64:
            return "I64";
        case DType::uint8:
            return "U8";
        case DType::uint16:
            return "U16";
        case DType::uint32:
            return "U32";
        case DType::uint64:
            return "U64";
    }
    return "";
}

/// The first bytes of the file: the length and the header, which is padded with spaces so that the data begin at a
/// multiple of 8.
std::string header_of(const std::vector<TensorToWrite>& tensors) {
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
    std::int64_t at = 0;
    std::set<std::string> names;
    for (const TensorToWrite& tensor : tensors) {
        ensure(names.insert(tensor.name).second, "a tensor would be written twice");
        Json shape = Json::array();
        for (int i = 0; i < tensor.shape.rank; ++i) shape.push_back(tensor.shape[i]);
        const std::int64_t end = at + tensor.size_bytes();
        header += text(",", to_line(tensor.name), ":{\"dtype\":\"", type_name(tensor.dtype),
                       "\",\"shape\":", to_line(shape), ",\"data_offsets\":[", at, ",", end, "]}");
        at = end;
    }
    header += "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    std::string prefix(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) prefix[i] = static_cast<char>(header.size() >> (8 * i));
    return prefix + header;
}

std::int64_t bytes_of(const std::vector<TensorToWrite>& tensors) {
    std::int64_t bytes = 0;
    for (const TensorToWrite& tensor : tensors) bytes += tensor.size_bytes();
    return bytes;
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors) {
    // Like the Hugging Face writer, puts tensors of wider elements first, which aligns every tensor. Tensors of equal
    // width keep the given order.
    std::vector<TensorToWrite> ordered = tensors;
    std::stable_sort(ordered.begin(), ordered.end(),
                     [](const auto& a, const auto& b) { return size_of(a.dtype) > size_of(b.dtype); });
    const std::string partial = path + ".partial", header = header_of(ordered);
    try {
        const FileHandle file = FileHandle::create(partial);
        std::int64_t at = static_cast<std::int64_t>(header.size());
        file.reserve(at + bytes_of(ordered));
        file.write_at(header.data(), at, 0);
        std::vector<double> buffer;  // double: aligned for every type
        for (const TensorToWrite& tensor : ordered) {
            const std::int64_t bytes = tensor.size_bytes();
            buffer.resize(static_cast<std::size_t>(bytes + 7) / 8);
            auto* place = reinterpret_cast<std::byte*>(buffer.data());
            if (bytes) tensor.fill(place);
            file.write_at(place, bytes, at);
            at += bytes;
        }
        file.sync();
    } catch (...) {
        std::remove(partial.c_str());
        throw;
    }
    rename_file(partial, path);
}

std::vector<std::string> write_safetensors_folder(const std::string& folder, const std::vector<TensorToWrite>& tensors,
                                                  std::int64_t max_shard_bytes) {
    std::vector<std::vector<TensorToWrite>> shards(1);
    std::int64_t held = 0;
    for (const TensorToWrite& tensor : tensors) {
        if (!shards.back().empty() && held + tensor.size_bytes() > max_shard_bytes) shards.emplace_back(), held = 0;
        shards.back().push_back(tensor);
        held += tensor.size_bytes();
    }
    if (shards.size() == 1) {
        write_safetensors(folder + "/model.safetensors", tensors);
        return {"model.safetensors"};
    }
    std::vector<std::string> files;
    Json map = Json::object();
    for (std::size_t i = 0; i < shards.size(); ++i) {
        char name[64];
        std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
        write_safetensors(folder + "/" + name, shards[i]);
        files.emplace_back(name);
        for (const TensorToWrite& tensor : shards[i]) map[tensor.name] = name;
    }
    write_text_file(folder + "/model.safetensors.index.json",
                    Json({{"metadata", {{"total_size", bytes_of(tensors)}}}, {"weight_map", map}}).dump(2) + "\n");
    files.emplace_back("model.safetensors.index.json");
    return files;
}

}  // namespace longlora
