// Joins the pickle, which says what the tensors are, with the entries of the zip file, which have their bytes.
#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "io/tensor_pickle.h"
#include "io/torch_file.h"
#include "io/zip_archive.h"

namespace longlora {

namespace {

struct StorageType {
    const char* name;
    DType dtype;
    std::int64_t bytes;
    bool is_ours;  // else it is known, so that its size can be checked, but has no DType
};

constexpr StorageType kTypes[] = {
    {"FloatStorage", DType::float32, 4, true},     {"HalfStorage", DType::float16, 2, true},
    {"BFloat16Storage", DType::bfloat16, 2, true}, {"DoubleStorage", DType::float64, 8, true},
    {"IntStorage", DType::int32, 4, true},         {"LongStorage", DType::int64, 8, true},
    {"ByteStorage", DType::uint8, 1, true},        {"CharStorage", DType::uint8, 1, false},
    {"BoolStorage", DType::uint8, 1, false},       {"ShortStorage", DType::uint16, 2, false},
};

const StorageType* type_of(const std::string& name) {
    const auto* found =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](const StorageType& t) { return t.name == name; });
    return found == std::end(kTypes) ? nullptr : found;
}

/// The elements of a shape; -1 if there are too many to count.
std::int64_t count_of(const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape)
        if (__builtin_mul_overflow(count, size, &count)) return -1;
    return count;
}

bool is_contiguous(const PickledTensor& tensor) {
    std::int64_t expected = 1;
    for (std::size_t i = tensor.shape.size(); i-- > 0; expected *= tensor.shape[i])
        if (tensor.shape[i] > 1 && tensor.strides[i] != expected) return false;
    return true;
}

/// The entry of the zip file that ends with this; PyTorch puts all in a folder whose name is free.
const ZipEntry* entry_of(const std::map<std::string, ZipEntry>& entries, const std::string& folder,
                         const std::string& name) {
    const auto found = entries.find(folder + name);
    return found == entries.end() ? nullptr : &found->second;
}

/// "archive/", the folder of data.pkl.
std::string folder_of_pickle(const std::map<std::string, ZipEntry>& entries, const std::string& path) {
    for (const auto& [name, entry] : entries)
        if (name.ends_with("/data.pkl")) return name.substr(0, name.size() - std::strlen("data.pkl"));
    fail(text(path, " is a zip file without data.pkl, so torch.save did not write it"));
}

void check_byte_order(const MappedFile& map, const ZipEntry* order) {
    if (order == nullptr) return;  // older files do not say it: little
    const std::string_view said(reinterpret_cast<const char*>(map.data()) + order->begin,
                                static_cast<std::size_t>(order->bytes));
    require(said == "little", map.path(), " has the byte order ", said.substr(0, 20), "; only little is supported");
}

void check_is_zip(const MappedFile& map) {
    const bool zip = map.size() >= 4 && std::memcmp(map.data(), "PK\3\4", 4) == 0;
    require(zip, map.path(),
            " is not a file of PyTorch 1.6 or later, which are zip files; load it with torch and save ",
            "its state dict again, best as safetensors");
}

}  // namespace

TorchFile::TorchFile(const std::string& path) : map_(path) {
    check_is_zip(map_);
    const auto entries = zip_entries(map_);
    const std::string folder = folder_of_pickle(entries, path);
    check_byte_order(map_, entry_of(entries, folder, "byteorder"));
    const ZipEntry& pickle = *entry_of(entries, folder, "data.pkl");
    const std::string_view program(reinterpret_cast<const char*>(map_.data()) + pickle.begin,
                                   static_cast<std::size_t>(pickle.bytes));
    for (const auto& [name, tensor] : read_tensor_pickle(program, path)) {
        const ZipEntry* storage = entry_of(entries, folder, "data/" + tensor.storage);
        require(storage != nullptr, path, " has no bytes of the tensor ", name);
        const StorageType* type = type_of(tensor.storage_type);
        require(type != nullptr, path, ": the tensor ", name, " has the type ", tensor.storage_type,
                ", which is not supported; convert the model to float32, bfloat16 or float16");
        require(is_contiguous(tensor), path, ": the tensor ", name,
                " is not contiguous; save the state dict again with .contiguous()");
        const std::int64_t count = count_of(tensor.shape), room = storage->bytes / type->bytes;
        require(count >= 0 && tensor.offset <= room && count <= room - tensor.offset, path, " is damaged: the tensor ",
                name, " has more elements than its storage of ", storage->bytes, " bytes");
        Entry entry{tensor.storage_type, tensor.shape, map_.data() + storage->begin + tensor.offset * type->bytes};
        if (reinterpret_cast<std::uintptr_t>(entry.bytes) % static_cast<std::uintptr_t>(type->bytes) != 0) {
            std::vector<double>& copy = copies_[name];
            copy.resize(static_cast<std::size_t>(count * type->bytes + 7) / 8 + 1);
            std::memcpy(copy.data(), entry.bytes, static_cast<std::size_t>(count * type->bytes));
            entry.bytes = reinterpret_cast<const std::byte*>(copy.data());
        }
        entries_.emplace(name, std::move(entry));
    }
}

std::vector<std::string> TorchFile::names() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
}

std::optional<HostTensor> TorchFile::find(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) return std::nullopt;
    const Entry& entry = found->second;
    const StorageType& type = *type_of(entry.storage_type);
    require(type.is_ours, path(), ": tensor ", name, " has the type ", entry.storage_type,
            ", which is not supported; convert the model to float32, bfloat16 or float16");
    require(entry.shape.size() <= 4, path(), ": tensor ", name, " has ", entry.shape.size(),
            " dimensions; at most four are supported");
    HostTensor tensor;
    tensor.dtype = type.dtype;
    tensor.shape.rank = static_cast<int>(entry.shape.size());
    std::copy(entry.shape.begin(), entry.shape.end(), tensor.shape.sizes.begin());
    tensor.bytes = entry.bytes;
    return tensor;
}

}  // namespace longlora
