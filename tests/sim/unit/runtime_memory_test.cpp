// Tests of memory in the simulated runtime: its limits, the unmapped gaps between allocations, freed and pinned memory,
// and the attributes of pointers.
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "runtime_testing.h"

using namespace sim::testing;
using sim::probe::Misuse;

namespace {

/// Whether the process may read the byte at `address`.
bool is_mapped(const void* address) {
    int ends[2];
    BOOST_REQUIRE(pipe(ends) == 0);
    const bool readable = write(ends[1], address, 1) == 1;
    if (!readable) BOOST_TEST(errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return readable;
}

std::size_t free_bytes() {
    std::size_t free = 0, total = 0;
    ok(cudaMemGetInfo(&free, &total));
    return free;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_memory)

BOOST_AUTO_TEST_CASE(allocations_have_unmapped_gaps_between) {
    constexpr std::ptrdiff_t kGap = 1 << 20;
    const DeviceBuffer<std::byte> a(5000), b(5000);
    const std::byte *low = std::min(a.get(), b.get()), *high = std::max(a.get(), b.get());
    BOOST_TEST(high - (low + 5000) >= kGap);
    BOOST_TEST(is_mapped(low));
    BOOST_TEST(is_mapped(low + 4999));
    for (const std::ptrdiff_t distance : {std::ptrdiff_t{1}, kGap / 2, kGap}) BOOST_TEST(!is_mapped(low - distance));
    for (const std::ptrdiff_t distance : {std::ptrdiff_t{8192}, kGap / 2, kGap}) BOOST_TEST(!is_mapped(low + distance));
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(a.get()) % 512 == 0U);
}

BOOST_AUTO_TEST_CASE(the_device_is_as_large_as_it_says) {
    const sim::probe::ChangedSettings small(
        [](auto& settings) { settings.device_memory_bytes = std::size_t{64} << 20; });
    std::size_t free = 0, total = 0;
    ok(cudaMemGetInfo(&free, &total));
    BOOST_TEST(total == std::size_t{64} << 20);
    void* pointer = nullptr;
    BOOST_TEST(cudaMalloc(&pointer, free + 1) == cudaErrorMemoryAllocation);
    BOOST_TEST(pointer == nullptr);
    BOOST_TEST(cudaGetLastError() == cudaErrorMemoryAllocation);
    ok(cudaMalloc(&pointer, free));
    BOOST_TEST(free_bytes() == 0U);
    void* more = nullptr;
    BOOST_TEST(cudaMalloc(&more, 1) == cudaErrorMemoryAllocation);
    cudaGetLastError();
    ok(cudaFree(pointer));
    BOOST_TEST(free_bytes() == free);
}

BOOST_AUTO_TEST_CASE(gigabytes_cost_nothing_until_touched) {
    const DeviceBuffer<std::byte> large(std::size_t{6} << 30);
    const TestStream stream;
    PinnedBuffer<unsigned char> host(1);
    ok(cudaMemsetAsync(large.get() + (std::size_t{5} << 30), 3, 1, stream));
    ok(cudaMemcpyAsync(host.get(), large.get() + (std::size_t{5} << 30), 1, cudaMemcpyDeviceToHost, stream));
    stream.synchronize();
    BOOST_TEST(host[0] == 3);
}

BOOST_AUTO_TEST_CASE(addresses_are_not_used_again) {
    void *first = nullptr, *second = nullptr;
    ok(cudaMalloc(&first, 100));
    ok(cudaFree(first));
    ok(cudaMalloc(&second, 100));
    BOOST_TEST(first != second);
    const TestStream stream;
    throws<Misuse>([&] { return cudaMemsetAsync(first, 0, 1, stream); }, "freed");
    BOOST_TEST(cudaFree(first) == cudaErrorInvalidValue);
    BOOST_TEST(cudaFree(static_cast<std::byte*>(second) + 1) == cudaErrorInvalidValue);
    cudaGetLastError();
    ok(cudaFree(second));
    ok(cudaFree(nullptr));
}

BOOST_AUTO_TEST_CASE(every_device_has_its_own_memory) {
    const DeviceBuffer<unsigned char> here(16);
    const std::size_t left = free_bytes();
    ok(cudaSetDevice(1));
    BOOST_TEST(free_bytes() >= left + 16);
    {
        const TestStream there;
        throws<Misuse>([&] { return cudaMemsetAsync(here.get(), 0, 16, there); },
                       "memory of device 0, the stream is on device 1");
    }
    ok(cudaSetDevice(0));
}

BOOST_AUTO_TEST_CASE(allocations_are_counted) {
    const auto before = sim::probe::totals();
    const std::uint64_t allocations = before.allocations, pinned = before.pinned_allocations,
                        bytes = before.allocated_bytes;
    {
        const DeviceBuffer<std::byte> device(1000);
        const PinnedBuffer<std::byte> host(1000);
        BOOST_TEST(sim::probe::totals().allocations == allocations + 1);
        BOOST_TEST(sim::probe::totals().allocated_bytes == bytes + 1000);
        BOOST_TEST(sim::probe::totals().pinned_allocations == pinned + 1);
    }
    BOOST_TEST(sim::probe::totals().allocated_bytes == bytes);
}

BOOST_AUTO_TEST_CASE(types_of_pointers) {
    const auto type_of = [](const void* pointer) {
        cudaPointerAttributes attributes{};
        ok(cudaPointerGetAttributes(&attributes, pointer));
        return attributes.type;
    };
    const DeviceBuffer<std::byte> device(100);
    const PinnedBuffer<std::byte> pinned(100);
    int local = 0;
    BOOST_TEST(type_of(device.get() + 99) == cudaMemoryTypeDevice);
    BOOST_TEST(type_of(device.get() + 100) == cudaMemoryTypeUnregistered);
    BOOST_TEST(type_of(pinned.get() + 50) == cudaMemoryTypeHost);
    BOOST_TEST(type_of(&local) == cudaMemoryTypeUnregistered);
}

BOOST_AUTO_TEST_CASE(pinned_memory_has_a_device_pointer_only_if_mapped) {
    const PinnedBuffer<std::byte> plain(100), mapped(100, std::byte{}, cudaHostAllocMapped);
    void* pointer = nullptr;
    BOOST_TEST(cudaHostGetDevicePointer(&pointer, plain.get(), 0) == cudaErrorInvalidValue);
    ok(cudaHostGetDevicePointer(&pointer, mapped.get(), 0));
    BOOST_TEST(pointer == mapped.get());
    cudaGetLastError();
}

BOOST_AUTO_TEST_CASE(registered_memory) {
    std::vector<unsigned char> host(4096, 5);
    ok(cudaHostRegister(host.data(), 2048, cudaHostRegisterDefault));
    BOOST_TEST(cudaHostRegister(host.data() + 2047, 100, cudaHostRegisterDefault) ==
               cudaErrorHostMemoryAlreadyRegistered);
    ok(cudaHostRegister(host.data() + 2048, 2048, cudaHostRegisterDefault));
    const DeviceBuffer<unsigned char> device(4096);
    const TestStream stream;
    throws<Misuse>([&] { return cudaMemcpyAsync(device.get(), host.data(), 2049, cudaMemcpyHostToDevice, stream); },
                   "reach over the bounds of the pinned host memory");
    ok(cudaMemcpyAsync(device.get(), host.data(), 2048, cudaMemcpyHostToDevice, stream));
    host[0] = 6;  // pinned: read when the copy runs
    stream.synchronize();
    BOOST_TEST(unsigned{[&] {
                   unsigned char first = 0;
                   ok(cudaMemcpy(&first, device.get(), 1, cudaMemcpyDeviceToHost));
                   return first;
               }()} == 6U);
    ok(cudaHostUnregister(host.data()));
    BOOST_TEST(cudaHostUnregister(host.data()) == cudaErrorHostMemoryNotRegistered);
    BOOST_TEST(cudaFreeHost(host.data() + 2048) == cudaErrorInvalidValue);
    ok(cudaHostUnregister(host.data() + 2048));
    cudaGetLastError();
}

BOOST_AUTO_TEST_SUITE_END()
