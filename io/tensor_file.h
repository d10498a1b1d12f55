// A file of named tensors that stay on the host: what the readers of safetensors (io/safetensors.h) and of PyTorch's
// files (io/torch_file.h) have in common. What the tensors mean is in src/model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace longlora {

/// A read-only view into a mapped file, or into an aligned copy of the tensor. It is valid while its file lives.
struct HostTensor {
    DType dtype = DType::float32;
    Shape shape;
    const std::byte* bytes = nullptr;  // aligned to its type
    std::int64_t count() const { return shape.count(); }
    std::int64_t size_bytes() const { return count() * size_of(dtype); }
};

class TensorFile {
public:
    virtual ~TensorFile() = default;
    virtual const std::string& path() const = 0;
    /// Sorted.
    virtual std::vector<std::string> names() const = 0;
    virtual bool has(const std::string& name) const = 0;
    /// The tensor with this name; nullopt if there is none. An Error if its type or its number of dimensions (more than
    /// 4) is not supported. Thread-safe.
    virtual std::optional<HostTensor> find(const std::string& name) const = 0;
};

}  // namespace longlora
