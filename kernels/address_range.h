// AddressRange: a range of address space from the kernel, kept until destroyed, pages of it come when first touched.
// Not an allocator; kernels/arena.h hands it out. And the copies between ranges that host code may touch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor.h"

namespace longlora {

enum class Access { none, read_write };

class AddressRange {
public:
    /// Takes as much of `bytes` as the process may have (halving it until the kernel agrees); Access::none: any touch
    /// is SIGSEGV.
    AddressRange(std::int64_t bytes, Access access);
    ~AddressRange();
    AddressRange(const AddressRange&) = delete;
    AddressRange& operator=(const AddressRange&) = delete;

    std::byte* begin() const { return begin_; }
    std::int64_t size_bytes() const { return bytes_; }

private:
    std::byte* begin_ = nullptr;
    std::int64_t bytes_ = 0;
};

/// Makes n bytes of a read_write range 0, and gives whole pages back: they cost nothing until they are touched.
void forget_bytes(std::byte* begin, std::int64_t n);

/// Throws unless `to` and `from` have one shape and type and share no bytes.
void check_copy(const ConstTensor& to, const ConstTensor& from, const char* name);
/// Row by row; both are memory that the host may touch.
void copy_rows(const Tensor& to, const ConstTensor& from);

}  // namespace longlora
