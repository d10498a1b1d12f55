// gpu_bench MACHINE [small]: prints how long each operation takes on this GPU, the least time that memory and tensor
// cores allow by the machine model (longlora plan --machine), and the range that the model expects. 'small' uses toy
// sizes, which the simulated GPU can run as well; its times mean nothing. This is a benchmark, not a test: it checks
// nothing.
#include <cstdio>
#include <string>

#include "core/clock.h"
#include "jobs/plan/machine_model.h"
#include "jobs/plan/time.h"
#include "tests/bench/operations.h"

using namespace longlora;

namespace {

constexpr double kSlack = 1.5;  // a time up to kSlack * estimate is as expected

/// Sets every fraction to 1: the speed that the data sheet allows.
MachineModel peak_of(MachineModel machine) {
    for (Figure* fraction : {&machine.matmul_fraction, &machine.bandwidth_fraction,
                             &machine.bfloat16_attention_fraction, &machine.float32_attention_fraction})
        fraction->value = 1;
    return machine;
}

double best_seconds(Device& device, const bench::Call& call, int repeats) {
    call.run();
    device.synchronize(Device::compute_stream());
    double best = 1e30;
    for (int round = 0; round < 5; ++round) {
        const double begin = now_seconds();
        for (int i = 0; i < repeats; ++i) call.run();
        device.synchronize(Device::compute_stream());
        best = std::min(best, (now_seconds() - begin) / repeats);
    }
    return best;
}

void bench_type(Device& device, const MachineModel& machine, const bench::Sizes& sizes, DType real, bool toy) {
    const auto least = operation_seconds(peak_of(machine), real, 1), expected = operation_seconds(machine, real, 1);
    const bench::Operations operations(device, sizes, real);
    std::printf(
        "\n%s, tokens %lld, hidden %lld, heads %lld/%lld of %lld, group %lld, vocabulary %lld\n%-24s %10s %10s %21s "
        "%10s %8s\n",
        std::string(name_of(real)).c_str(), static_cast<long long>(sizes.tokens), static_cast<long long>(sizes.hidden),
        static_cast<long long>(sizes.heads), static_cast<long long>(sizes.kv_heads),
        static_cast<long long>(sizes.head_dim), static_cast<long long>(sizes.group),
        static_cast<long long>(sizes.vocabulary), "operation", "us", "least us", "expected us", "TFLOP/s", "GB/s");
    for (const bench::Call& call : operations.calls()) {
        device.recorder().clear();
        call.run();
        double flops = 0, bytes = 0;
        for (const auto& [name, record] : device.recorder().by_operation) flops += record.flops, bytes += record.bytes;
        const double seconds = best_seconds(device, call, toy ? 1 : 10), estimate = expected(call.name, flops, bytes);
        std::printf("%-24s %10.1f %10.1f %9.1f to %8.1f %10.1f %8.0f%s\n", (call.name + call.variant).c_str(),
                    seconds * 1e6, least(call.name, flops, bytes) * 1e6, least(call.name, flops, bytes) * 1e6,
                    kSlack * estimate * 1e6, flops / seconds * 1e-12, bytes / seconds * 1e-9,
                    !toy && seconds > kSlack * estimate ? "  slower than expected" : "");
        std::fflush(stdout);
    }
}

}  // namespace

int main(int argc, char** argv) try {
    const MachineModel machine = read_machine(argc > 1 ? argv[1] : "h100");
    const bool small = argc > 2 && std::string(argv[2]) == "small";
    const auto device = make_cuda_device(
        {.memory_bytes = (small ? std::int64_t{256} << 20 : std::int64_t{8} << 30) + cuda_own_bytes()});
    std::printf("%s; expected times by the machine model %s\n", device->description().c_str(), machine.name.c_str());
    const bench::Sizes large, toy{64, 128, 256, 512, 4, 2, 32, 32, 16};
    bench::Sizes narrow = large;
    narrow.head_dim = 64, narrow.heads = 64, narrow.kv_heads = 8;
    for (const DType real : {DType::bfloat16, DType::float32})
        bench_type(*device, machine, small ? toy : large, real, small);
    if (!small) bench_type(*device, machine, narrow, DType::bfloat16, false);
    return 0;
} catch (const std::exception& e) {
    std::fprintf(stderr, "gpu_bench: %s\n", e.what());
    return 2;
}
