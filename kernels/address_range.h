// AddressRange: a range of address space of this process. The operating system provides a page when it is first
// touched. kernels/arena.h hands the range out as tensors. Also here: copies between tensors that host code may
// touch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor.h"

namespace longlora {

enum class Access { none, read_write };

class AddressRange {
public:
    /// Reserves `bytes`, or half of it, a quarter and so on, as much as the operating system grants; throws
    /// Error(does_not_fit) if it grants not even 1 MiB. With Access::none, any touch ends the process (SIGSEGV).
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

/// Sets n bytes of a read_write range to 0. Whole pages go back to the operating system: they use no memory until
/// they are touched again.
void forget_bytes(std::byte* begin, std::int64_t n);

/// Throws unless `to` and `from` have the same shape and type and share no bytes.
void check_copy(const ConstTensor& to, const ConstTensor& from, const char* name);
/// Copies all rows of `from` to `to`. The host must be able to touch both tensors.
void copy_rows(const Tensor& to, const ConstTensor& from);

}  // namespace longlora
