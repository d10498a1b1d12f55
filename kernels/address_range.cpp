// Address space by mmap, and copies of rows on the host.
#include "kernels/address_range.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace longlora {

AddressRange::AddressRange(std::int64_t bytes, Access access) {
    constexpr std::int64_t kLeast = std::int64_t{1} << 20, kPage = std::int64_t{1} << 21;
    const int protection = access == Access::none ? PROT_NONE : PROT_READ | PROT_WRITE;
    for (bytes_ = std::max(bytes, kLeast); bytes_ >= kLeast; bytes_ /= 2) {
        // Asks for one huge page more, so that the range can begin at the boundary of a huge page.
        void* place = mmap(nullptr, bytes_ + kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED) continue;
        const auto address = reinterpret_cast<std::uintptr_t>(place), aligned = (address + kPage - 1) / kPage * kPage;
        if (aligned > address) munmap(place, aligned - address);
        begin_ = reinterpret_cast<std::byte*>(aligned);
        const std::uintptr_t end = aligned + static_cast<std::uintptr_t>(bytes_ + 4095) / 4096 * 4096,
                             mapped_end = address + static_cast<std::uintptr_t>(bytes_ + kPage + 4095) / 4096 * 4096;
        if (mapped_end > end) munmap(reinterpret_cast<void*>(end), mapped_end - end);
        if (access != Access::none)
            madvise(begin_, bytes_,
                    MADV_HUGEPAGE);  // only a hint: without huge pages the program is slower
        return;
    }
    fail("the operating system gives this process no address space; raise its limit (ulimit -v)",
         ExitCode::does_not_fit);
}

AddressRange::~AddressRange() { munmap(begin_, bytes_); }

void forget_bytes(std::byte* begin, std::int64_t n) {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE)),
               from = reinterpret_cast<std::uintptr_t>(begin), to = from + static_cast<std::uintptr_t>(n);
    const std::uintptr_t first = (from + page - 1) / page * page, last = to / page * page;
    if (first >= last) return static_cast<void>(std::memset(begin, 0, n));
    std::memset(begin, 0, first - from);
    std::memset(reinterpret_cast<void*>(last), 0, to - last);
    if (madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED) != 0)
        std::memset(reinterpret_cast<void*>(first), 0, last - first);
}

void check_copy(const ConstTensor& to, const ConstTensor& from, const char* name) {
    const bool fits = to.shape == from.shape && to.dtype == from.dtype && !overlap(to, from) &&
                      (to.count() == 0 || (to.bytes && from.bytes));
    if (!fits)
        ensure(false, text(name, ": the tensors must have one shape and type and share no memory: ", name_of(to.dtype),
                           to_text(to.shape), " ", name_of(from.dtype), to_text(from.shape))
                          .c_str());
}

void copy_rows(const Tensor& to, const ConstTensor& from) {
    if (to.count() == 0) return;
    const std::int64_t size = size_of(to.dtype);
    if (to.contiguous() && from.contiguous()) {
        std::memcpy(to.bytes, from.bytes, to.size_bytes());
        return;
    }
    for (std::int64_t row = 0; row < to.num_rows(); ++row)
        std::memcpy(to.bytes + row * to.row_stride * size, from.bytes + row * from.row_stride * size,
                    to.width() * size);
}

}  // namespace longlora
