// Tests of copies in the simulated runtime: when a copy reads and writes host memory, which copies are refused, and
// that bytes that were never written do not leave the device.
#include <numeric>

#include "runtime_testing.h"

using namespace sim::testing;
using sim::probe::Misuse;

BOOST_AUTO_TEST_SUITE(runtime_copy)

BOOST_AUTO_TEST_CASE(pinned_memory_is_read_when_the_copy_runs) {
    const DeviceBuffer<int> device(1);
    const PinnedBuffer<int> host(1, 5);
    const TestStream stream;
    ok(cudaMemcpyAsync(device.get(), host.get(), sizeof(int), cudaMemcpyHostToDevice, stream));
    host[0] = 6;  // reused too early
    stream.synchronize();
    BOOST_TEST(device.values()[0] == 6);
}

BOOST_AUTO_TEST_CASE(pageable_memory_is_read_at_the_call) {
    const DeviceBuffer<int> device(1);
    int host = 5;
    const TestStream stream;
    ok(cudaMemcpyAsync(device.get(), &host, sizeof(int), cudaMemcpyHostToDevice, stream));
    host = 6;
    BOOST_TEST(sim::probe::queued_operations() == 1U);  // the device gets the value later
    stream.synchronize();
    BOOST_TEST(device.values()[0] == 5);
}

BOOST_AUTO_TEST_CASE(pinned_memory_is_written_when_the_copy_runs_pageable_at_the_call) {
    const DeviceBuffer<int> device(std::vector<int>{5});
    const PinnedBuffer<int> pinned(1, 1);
    int pageable = 1;
    const TestStream stream;
    ok(cudaMemcpyAsync(pinned.get(), device.get(), sizeof(int), cudaMemcpyDeviceToHost, stream));
    BOOST_TEST(pinned[0] == 1);
    ok(cudaMemcpyAsync(&pageable, device.get(), sizeof(int), cudaMemcpyDeviceToHost, stream));
    BOOST_TEST(pageable == 5);
    BOOST_TEST(pinned[0] == 5);
}

BOOST_AUTO_TEST_CASE(blocking_copies) {
    const DeviceBuffer<int> a(4), b(4);
    const PinnedBuffer<int> pinned(4, 3);
    std::vector<int> host{1, 2, 3, 4};
    ok(cudaMemcpy(a.get(), host.data(), sizeof(int) * 4, cudaMemcpyDefault));
    host.assign(4, 0);
    ok(cudaMemcpy(b.get(), a.get(), sizeof(int) * 4, cudaMemcpyDefault));
    ok(cudaMemcpy(host.data(), b.get(), sizeof(int) * 4, cudaMemcpyDefault));
    BOOST_TEST(host == (std::vector<int>{1, 2, 3, 4}));
    ok(cudaMemcpy(a.get(), pinned.get(), sizeof(int) * 4, cudaMemcpyHostToDevice));
    BOOST_TEST(sim::probe::queued_operations() == 0U);
    ok(cudaMemcpy(host.data(), pinned.get(), sizeof(int) * 4, cudaMemcpyHostToHost));
    BOOST_TEST(host == std::vector<int>(4, 3));
}

BOOST_AUTO_TEST_CASE(rows_with_pitches) {
    std::vector<int> host(5 * 7);
    std::iota(host.begin(), host.end(), 0);
    const DeviceBuffer<int> device(6 * 7);
    const TestStream stream;
    constexpr std::size_t kWidth = 3 * sizeof(int);
    ok(cudaMemcpy2DAsync(device.get(), 6 * sizeof(int), host.data(), 5 * sizeof(int), kWidth, 7, cudaMemcpyHostToDevice,
                         stream));
    const PinnedBuffer<int> back(4 * 7, -1);
    ok(cudaMemcpy2DAsync(back.get(), 4 * sizeof(int), device.get(), 6 * sizeof(int), kWidth, 7, cudaMemcpyDeviceToHost,
                         stream));
    stream.synchronize();
    for (std::size_t row = 0; row < 7; ++row)
        for (std::size_t i = 0; i < 4; ++i) BOOST_TEST(back[4 * row + i] == (i < 3 ? host[5 * row + i] : -1));
    BOOST_TEST(cudaMemcpy2DAsync(device.get(), kWidth - 1, host.data(), 5 * sizeof(int), kWidth, 7,
                                 cudaMemcpyHostToDevice, stream) == cudaErrorInvalidPitchValue);
    cudaGetLastError();
    throws<sim::ptx::Fault>(
        [&] {
            return cudaMemcpy2D(host.data(), 4 * sizeof(int), device.get(), 6 * sizeof(int), 4 * sizeof(int), 7,
                                cudaMemcpyDeviceToHost);
        },
        "cudaMemcpy2D");
}

BOOST_AUTO_TEST_CASE(last_rows_end_within_the_allocation) {
    const DeviceBuffer<std::byte> device(10 * 8 + 4);  // ten whole rows and a part of the eleventh
    std::vector<std::byte> host(11 * 4);
    const TestStream stream;
    ok(cudaMemcpy2DAsync(device.get(), 8, host.data(), 4, 4, 11, cudaMemcpyHostToDevice, stream));
    throws<Misuse>(
        [&] { return cudaMemcpy2DAsync(device.get(), 8, host.data(), 4, 4, 12, cudaMemcpyHostToDevice, stream); },
        "reach over the bounds of the device memory");
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(directions_and_bounds_are_checked) {
    const DeviceBuffer<std::byte> device(100);
    const PinnedBuffer<std::byte> pinned(100);
    std::vector<std::byte> host(200);
    const TestStream stream;
    throws<Misuse>([&] { return cudaMemcpyAsync(host.data(), device.get(), 100, cudaMemcpyHostToDevice, stream); },
                   "the target");
    throws<Misuse>([&] { return cudaMemcpyAsync(device.get(), host.data(), 100, cudaMemcpyDeviceToDevice, stream); },
                   "the source");
    throws<Misuse>([&] { return cudaMemcpyAsync(device.get(), device.get(), 100, cudaMemcpyHostToDevice, stream); },
                   "the source");
    throws<Misuse>([&] { return cudaMemcpyAsync(device.get(), host.data(), 101, cudaMemcpyHostToDevice, stream); },
                   "reach over the bounds of the device memory");
    throws<Misuse>([&] { return cudaMemcpyAsync(device.get() + 1, host.data(), 100, cudaMemcpyHostToDevice, stream); },
                   "reach over the bounds");
    throws<Misuse>([&] { return cudaMemcpyAsync(device.get(), pinned.get() + 1, 100, cudaMemcpyHostToDevice, stream); },
                   "reach over the bounds of the pinned host memory");
    throws<Misuse>([&] { return cudaMemsetAsync(pinned.get(), 0, 100, stream); }, "is not device memory");
    throws<Misuse>([&] { return cudaMemsetAsync(device.get(), 0, 101, stream); }, "reach over the bounds");
    BOOST_TEST(sim::probe::queued_operations() == 0U);
}

BOOST_AUTO_TEST_CASE(source_and_target_do_not_overlap) {
    const DeviceBuffer<std::byte> device(std::vector<std::byte>(100));
    const PinnedBuffer<std::byte> pinned(100);
    std::vector<std::byte> host(100);
    const TestStream stream;
    std::byte* const d = device.get();
    throws<Misuse>([&] { return cudaMemcpyAsync(d + 10, d, 11, cudaMemcpyDeviceToDevice, stream); },
                   "overlaps the source");
    throws<Misuse>([&] { return cudaMemcpyAsync(d, d + 10, 11, cudaMemcpyDeviceToDevice, stream); },
                   "overlaps the source");
    throws<Misuse>([&] { return cudaMemcpyAsync(d, d, 11, cudaMemcpyDeviceToDevice, stream); }, "overlaps the source");
    throws<Misuse>([&] { return cudaMemcpy(d + 10, d, 11, cudaMemcpyDeviceToDevice); }, "overlaps the source");
    throws<Misuse>([&] { return cudaMemcpy(pinned.get() + 10, pinned.get(), 11, cudaMemcpyHostToHost); },
                   "overlaps the source");
    throws<Misuse>([&] { return cudaMemcpy(host.data(), host.data() + 10, 11, cudaMemcpyHostToHost); },
                   "overlaps the source");
    ok(cudaMemcpyAsync(d + 10, d, 10, cudaMemcpyDeviceToDevice, stream));
    ok(cudaMemcpyAsync(d, d + 10, 10, cudaMemcpyDeviceToDevice, stream));
    // Copies four columns of 5 rows of 10 to other columns of the same rows. A target that begins in column 8 continues
    // in columns 0 and 1 of the next row. The last cases have another pitch for the target.
    const auto columns = [&](std::size_t to, std::size_t pitch, std::size_t from) {
        return cudaMemcpy2DAsync(d + to, pitch, d + from, 10, 4, 5, cudaMemcpyDeviceToDevice, stream);
    };
    ok(columns(4, 10, 0));
    ok(columns(0, 10, 4));
    ok(columns(8, 10, 2));
    throws<Misuse>([&] { return columns(3, 10, 0); }, "overlaps the source");
    throws<Misuse>([&] { return columns(8, 10, 0); }, "overlaps the source");
    throws<Misuse>([&] { return columns(4, 11, 0); }, "overlaps the source");
    ok(columns(4, 20, 0));
    throws<Misuse>([&] { return cudaMemcpy2D(d + 3, 10, d, 10, 4, 5, cudaMemcpyDeviceToDevice); },
                   "overlaps the source");
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(bytes_never_written_do_not_leave_the_device) {
    const DeviceBuffer<unsigned char> device(16), other(16);
    const PinnedBuffer<unsigned char> host(16);
    const TestStream stream;
    ok(cudaMemsetAsync(device.get(), 1, 15, stream));
    ok(cudaMemcpyAsync(host.get(), device.get(), 15, cudaMemcpyDeviceToHost, stream));
    stream.synchronize();
    ok(cudaMemcpyAsync(host.get(), device.get(), 16, cudaMemcpyDeviceToHost, stream));
    throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(stream); }, "cudaMemcpyAsync");
    ok(cudaMemcpyAsync(other.get(), device.get(), 16, cudaMemcpyDeviceToDevice, stream));
    throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(stream); }, "cudaMemcpyAsync");
    BOOST_TEST(sim::probe::queued_operations() == 0U);  // the queue is usable again
}

BOOST_AUTO_TEST_CASE(copies_are_counted) {
    const DeviceBuffer<std::byte> a(100), b(100);
    const PinnedBuffer<std::byte> host(100);
    const TestStream stream;
    const auto before = sim::probe::totals();
    ok(cudaMemcpyAsync(a.get(), host.get(), 100, cudaMemcpyHostToDevice, stream));
    ok(cudaMemcpyAsync(b.get(), a.get(), 50, cudaMemcpyDeviceToDevice, stream));
    ok(cudaMemcpyAsync(host.get(), b.get(), 20, cudaMemcpyDeviceToHost, stream));
    BOOST_TEST(sim::probe::totals().copies == before.copies);
    stream.synchronize();
    BOOST_TEST(sim::probe::totals().copies == before.copies + 3);
    BOOST_TEST(sim::probe::totals().bytes_to_device == before.bytes_to_device + 100);
    BOOST_TEST(sim::probe::totals().bytes_on_device == before.bytes_on_device + 50);
    BOOST_TEST(sim::probe::totals().bytes_to_host == before.bytes_to_host + 20);
}

BOOST_AUTO_TEST_SUITE_END()
