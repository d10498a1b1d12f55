// The devices on which tests compute. The usual test programs use every instruction set of this CPU. The programs
// test_*_sim and test_*_gpu use a GPU, which is simulated (linked with tests/sim) or real (for tests/gpu/run.sh). All
// of them link the same object files. A test gives its sizes in one list, of which a GPU takes only the edges, since
// the simulation is slow. No tests here.
#pragma once

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "kernels/cpu/instruction_set.h"
#include "kernels/device.h"

namespace longlora {

extern const bool kOnGpu;  ///< defined in on_cpu.cpp and on_gpu.cpp, one of which is linked

/// A device for tests that do not depend on the instruction set.
inline std::unique_ptr<Device> make_test_device(std::int64_t memory_bytes = std::int64_t{1} << 30,
                                                int num_threads = 1) {
    if (!kOnGpu)
        return make_cpu_device({.memory_bytes = memory_bytes, .num_threads = num_threads, .instruction_set = ""});
    const char* rank = std::getenv("OMPI_COMM_WORLD_LOCAL_RANK");  // each rank has a GPU of its own
    return make_cuda_device({.memory_bytes = memory_bytes + cuda_own_bytes(),
                             .gpu = rank ? std::atoi(rank) : 0,
                             .pinned_bytes = std::int64_t{256} << 20});
}

/// A plan device, which computes nothing, in place of make_test_device().
inline std::unique_ptr<Device> make_test_plan(std::int64_t memory_bytes = 0) {
    const std::int64_t own = kOnGpu ? cuda_own_bytes() : 0;
    return make_plan_device({.memory_bytes = memory_bytes ? memory_bytes + own : 0, .own_bytes = own});
}

/// The instruction sets of this machine on which tests run; prints those that are skipped. On a GPU: one name, which
/// has no effect.
inline std::vector<const char*> instruction_sets() {
    if (kOnGpu) return {"gpu"};
    if (cpu::detect_instruction_set() == cpu::InstructionSet::avx512) return {"avx2", "avx512"};
    BOOST_TEST_MESSAGE("skipped: this machine has no avx512");
    std::printf("skipped: avx512\n");
    return {"avx2"};
}

inline std::unique_ptr<Device> make_test_device(const char* instruction_set, std::int64_t memory_bytes,
                                                int num_threads) {
    if (kOnGpu) return make_test_device(memory_bytes);
    return make_cpu_device(
        {.memory_bytes = memory_bytes, .num_threads = num_threads, .instruction_set = instruction_set});
}

/// Calls test(device) once for each instruction set, or once on a GPU.
inline void for_devices(const std::function<void(Device&)>& test) {
    for (const char* set : instruction_sets()) {
        const auto device = make_test_device(set, std::int64_t{1} << 30, 2);
        BOOST_TEST_CONTEXT(set) test(*device);
    }
}

/// `all`, but only `edges` on a GPU, which may be simulated and slow.
template <class T> std::vector<T> sizes(std::initializer_list<T> all, std::initializer_list<T> edges) {
    return kOnGpu ? edges : all;
}

}  // namespace longlora
