// Tests of heaps: a heap is one allocation that a program shares out by itself, as the product's arena does. The
// simulation finds accesses outside of a tensor, accesses to a freed tensor, and reads of bytes that only an earlier
// tensor at this address has written. It does not blame work that was queued before a tensor was freed. The tests cover
// the heap of the shadow memory (sim/ptx/launch.h), then NVTX, then the arena of the CUDA device.
#if __has_include(<nvtx3/nvToolsExtMem.h>)

#include <nvtx3/nvToolsExtMem.h>

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "sim/ptx/launch.h"
#include "sim/runtime/probe.h"
#include "sim/unit/runtime_testing.h"

namespace sim {
namespace {

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

/// The message of the Fault or Misuse that `call` throws; "nothing" if it throws none.
template <class Call> std::string found_by(Call&& call) {
    const probe::ErrorsAreThrown thrown;
    try {
        call();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "nothing";
}
void check_has(const std::string& sentence, std::initializer_list<const char*> parts) {
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(sentence.find(part) != std::string::npos, "'" << part << "' is not in: " << sentence);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(heap)

BOOST_AUTO_TEST_CASE(regions_in_the_shadow_memory) {
    std::vector<std::byte> bytes(1024);
    ptx::GlobalMemory memory;
    memory.add(bytes.data(), bytes.size());
    memory.wrote(bytes.data(), 1024);
    BOOST_CHECK_THROW(memory.add_region(bytes.data(), 16), ptx::Fault);  // no heap yet
    BOOST_CHECK_THROW(memory.make_heap(bytes.data() + 1), ptx::Fault);
    memory.make_heap(bytes.data());
    BOOST_CHECK_THROW(memory.make_heap(bytes.data()), ptx::Fault);
    BOOST_TEST(!memory.contains(bytes.data(), 1));
    memory.add_region(bytes.data() + 256, 100);
    for (const auto& [first, number] : {std::pair{1000, 25}, {1024, 1}})
        BOOST_CHECK_THROW(memory.add_region(bytes.data() + first, static_cast<std::size_t>(number)), ptx::Fault);
    memory.add_region(bytes.data() + 512, 512);
    BOOST_TEST(memory.contains(bytes.data() + 256, 100));
    BOOST_TEST((!memory.contains(bytes.data() + 255, 2) && !memory.contains(bytes.data() + 355, 2) &&
                !memory.contains(bytes.data() + 256, 300)));
    for (const auto& [first, number] : {std::pair{355, 10}, {200, 57}, {256, 1}})
        BOOST_CHECK_THROW(memory.add_region(bytes.data() + first, static_cast<std::size_t>(number)), ptx::Fault);
    // A new region counts as never written, although the heap was written.
    check_has(found_by([&] { memory.require_written(bytes.data() + 256, 1, "a copy"); }), {"never written"});
    check_has(found_by([&] { memory.wrote(bytes.data() + 360, 4); }),
              {"not inside", "byte 104 of an allocation of 100 bytes", "152 bytes before",
               "byte 360 of a heap of 1024 bytes"});
    memory.wrote(bytes.data() + 256, 100);
    memory.require_written(bytes.data() + 256, 100, "a copy");

    // Work that is queued now is checked against the regions of now, even if they change before it runs. Each region at
    // the same address has its own record of written bytes.
    const auto before = memory.view();
    memory.remove_region(bytes.data() + 256);
    BOOST_CHECK_THROW(memory.remove_region(bytes.data() + 256), ptx::Fault);
    BOOST_TEST(!memory.contains(bytes.data() + 256, 1));
    memory.add_region(bytes.data() + 256, 128);
    const auto after = memory.view();
    memory.use(before);
    memory.require_written(bytes.data() + 256, 100, "earlier work");
    BOOST_TEST(!memory.contains(bytes.data() + 256, 128));
    memory.use(after);
    check_has(found_by([&] { memory.require_written(bytes.data() + 256, 100, "later work"); }),
              {"byte 0 ", "never written"});
    memory.use(nullptr);
    memory.end_heap(bytes.data());
    BOOST_TEST(!memory.contains(bytes.data() + 512, 1));
    BOOST_CHECK_THROW(memory.add_region(bytes.data(), 16), ptx::Fault);
    BOOST_CHECK_THROW(memory.end_heap(bytes.data()), ptx::Fault);
    memory.remove(bytes.data());
    memory.add(bytes.data(), bytes.size());
    BOOST_TEST(memory.contains(bytes.data(), 1024));
}

/// Regions may begin and end at any byte, so two regions may share a word.
BOOST_AUTO_TEST_CASE(unaligned_regions) {
    std::vector<std::byte> bytes(64);
    ptx::GlobalMemory memory;
    memory.add(bytes.data(), bytes.size());
    memory.make_heap(bytes.data());
    memory.add_region(bytes.data() + 5, 4);
    memory.add_region(bytes.data() + 9, 2);
    BOOST_TEST((memory.contains(bytes.data() + 5, 4) && memory.contains(bytes.data() + 9, 2) &&
                !memory.contains(bytes.data() + 8, 2) && !memory.contains(bytes.data() + 4, 1)));
    memory.wrote(bytes.data() + 6, 3);
    check_has(found_by([&] { memory.require_written(bytes.data() + 5, 4, "a copy"); }),
              {"byte 0 ", "byte 0 of its allocation"});
    memory.require_written(bytes.data() + 6, 3, "a copy");
    check_has(found_by([&] { memory.require_written(bytes.data() + 9, 2, "a copy"); }), {"byte 0 ", "never written"});
    memory.wrote(bytes.data() + 9, 2);
    memory.require_written(bytes.data() + 9, 2, "a copy");
}

BOOST_AUTO_TEST_CASE(heaps_registered_by_nvtx) {
    const testing::DeviceBuffer<float> pool(256), other(256);
    const nvtxMemVirtualRangeDesc_t whole{.size = pool.bytes(), .ptr = pool.get()};
    nvtxMemHeapDesc_t description{};
    description.extCompatID = NVTX_EXT_COMPATID_MEM, description.structSize = sizeof description;
    description.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR, description.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    description.typeSpecificDescSize = sizeof whole, description.typeSpecificDesc = &whole;
    const nvtxMemHeapHandle_t heap = nvtxMemHeapRegister(nullptr, &description);
    BOOST_TEST(heap == static_cast<void*>(pool.get()));
    check_has(found_by([&] { testing::ok(cudaMemset(pool.get(), 0, 4)), testing::ok(cudaDeviceSynchronize()); }),
              {"not inside"});
    const nvtxMemVirtualRangeDesc_t ranges[] = {{.size = 40, .ptr = pool.get()}, {.size = 4, .ptr = pool.get() + 64}};
    nvtxMemRegionsRegisterBatch_t regions{};
    regions.extCompatID = NVTX_EXT_COMPATID_MEM, regions.structSize = sizeof regions;
    regions.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS, regions.heap = heap, regions.regionCount = 2,
    regions.regionDescElementSize = sizeof ranges[0], regions.regionDescElements = ranges;
    nvtxMemRegionsRegister(nullptr, &regions);
    BOOST_TEST(found_by([&] { testing::ok(cudaMemset(pool.get(), 0, 40)), testing::ok(cudaDeviceSynchronize()); }) ==
               "nothing");
    check_has(found_by([&] { testing::ok(cudaMemset(pool.get() + 64, 0, 8)), testing::ok(cudaDeviceSynchronize()); }),
              {"not inside", "of an allocation of 4 bytes"});
    const auto refused = [&](auto description, auto change, auto&& call) {
        change(description);
        return found_by([&] { call(nullptr, &description); });
    };
    regions.regionDescElements = ranges + 1, regions.regionCount = 1;
    check_has(refused(
                  regions, [](auto& r) { r.structSize = 0; }, nvtxMemRegionsRegister),
              {"structSize"});
    check_has(refused(
                  regions, [](auto& r) { r.extCompatID = 0; }, nvtxMemRegionsRegister),
              {"extCompatID"});
    check_has(refused(
                  regions, [](auto& r) { r.heap = nullptr; }, nvtxMemRegionsRegister),
              {"no heap"});
    check_has(refused(
                  regions, [&](auto& r) { r.heap = static_cast<nvtxMemHeapHandle_t>(static_cast<void*>(other.get())); },
                  nvtxMemRegionsRegister),
              {"not in the heap"});
    check_has(refused(
                  description, [](auto& d) { d.usage = NVTX_MEM_HEAP_USAGE_TYPE_LAYOUT; }, nvtxMemHeapRegister),
              {"sub-allocators"});
    check_has(refused(
                  description, [](auto& d) { d.structSize = 1; }, nvtxMemHeapRegister),
              {"structSize"});
    nvtxMemHeapUnregister(nullptr, heap);
    // The memory stays unusable until it is freed.
    check_has(found_by([&] { testing::ok(cudaMemset(pool.get(), 0, 4)), testing::ok(cudaDeviceSynchronize()); }),
              {"not inside"});
}

BOOST_AUTO_TEST_CASE(arena_of_the_cuda_device) {
    using namespace longlora;
    const auto device = make_cuda_device({.memory_bytes = 80 * kMebibyte, .pinned_bytes = kMebibyte});
    Ops ops = device->ops();
    const auto done = [&] { device->synchronize(Device::compute_stream()); };
    const auto make = [&](std::int64_t n) { return device->memory().tensor(DType::float32, {n}, Use::workspace); };
    ArenaTensor x = make(100), y = make(100), z = make(100);
    const Tensor too_long(x->bytes, DType::float32, {101}), of_x = *x;
    check_has(found_by([&] { ops.fill(too_long, 1), done(); }),
              {"out of bounds", "byte 400 of an allocation of 400 bytes", "112 bytes before an allocation"});
    ops.fill(x, 1), done();
    check_has(found_by([&] { ops.copy(y, z), done(); }), {"never written"});

    // x is freed while work on it is queued, as the arena allows. The next tensor lies at the same address, and the
    // values of x do not count as written in it.
    ops.copy(y, x);
    x = {};
    const ArenaTensor again = make(100);
    BOOST_REQUIRE(again->bytes == of_x.bytes);
    ops.copy(z, y);
    BOOST_TEST(found_by(done) == "nothing");
    check_has(found_by([&] { ops.copy(y, again), done(); }), {"never written"});
    ops.fill(again, 2), ops.copy(y, again);
    BOOST_TEST(found_by(done) == "nothing");

    z = {};
    const Tensor lost(again->bytes + 2 * 512, DType::float32, {100});  // at the address of the freed z
    check_has(found_by([&] { ops.fill(lost, 1), done(); }), {"out of bounds", "of a heap"});
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim

#endif
