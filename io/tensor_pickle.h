// Reads the pickle of a PyTorch file as data. A pickle is a program for Python; this reads only the instructions that a
// dict of tensors needs, and calls nothing: the names of functions in it are compared with those of torch that build
// tensors, and any other name is an Error.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace longlora {

/// A tensor in a storage of the file.
struct PickledTensor {
    std::string storage_type;        // "FloatStorage", "BFloat16Storage", ...
    std::string storage;             // the name of its entry: "0", "1", ...
    std::int64_t storage_count = 0;  // elements of the whole storage
    std::int64_t offset = 0;         // the first element
    std::vector<std::int64_t> shape, strides;
};

/// The tensors by name. Values that are no tensors (such as "_metadata") are left out. An Error names the file and what
/// is not supported.
std::map<std::string, PickledTensor> read_tensor_pickle(std::string_view pickle, const std::string& path);

}  // namespace longlora
