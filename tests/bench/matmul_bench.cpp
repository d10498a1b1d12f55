// matmul_bench [INSTRUCTION_SET]: prints the GFLOP/s of matmul on the CPU at the shapes of SmolLM2-135M for all operand
// types, the best of several runs. This is a benchmark, not a test: it checks nothing.
#include <cstdio>
#include <string>

#include "core/clock.h"
#include "core/random.h"
#include "kernels/device.h"

using namespace longlora;

namespace {

struct Case {
    std::int64_t m, n, k;
    bool transpose_a, transpose_b;
};

double gflops(Device& device, const Case& c, DType out_type, DType a_type, DType b_type) {
    const auto make = [&](DType dtype, std::int64_t rows, std::int64_t columns) {
        ArenaTensor x = device.memory().tensor(dtype, {rows, columns}, Use::workspace);
        device.ops().fill(x, 0.37f);
        return x;
    };
    const ArenaTensor out = make(out_type, c.m, c.n),
                      a = make(a_type, c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k),
                      b = make(b_type, c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n);
    double best = 1e30;
    for (int i = 0; i < 6; ++i) {
        const double begin = now_seconds();
        device.ops().matmul(out, a, b, Transpose{c.transpose_a}, Transpose{c.transpose_b});
        if (i > 0) best = std::min(best, now_seconds() - begin);
    }
    return 2e-9 * static_cast<double>(c.m) * static_cast<double>(c.n) * static_cast<double>(c.k) / best;
}

}  // namespace

int main(int argc, char** argv) {
    DeviceOptions options;
    if (argc > 1) options.instruction_set = argv[1];
    const auto device = make_cpu_device(options);
    std::printf("%s; GFLOP/s by types of out, a, b (f = float32, b = bfloat16)\n%26s %8s %8s %8s %8s %8s\n",
                device->description().c_str(), "M     N     K", "fff", "ffb", "fbb", "bbb", "bbf");
    const Case cases[] = {
        {2048, 1536, 576, false, true}, {4096, 1536, 576, false, true}, {4096, 576, 576, false, true},
        {4096, 576, 576, false, false}, {4096, 576, 1536, false, true}, {4096, 1536, 576, false, false},
        {256, 49152, 576, false, true}, {512, 49152, 576, false, true}, {512, 576, 49152, false, false},
        {1536, 576, 4096, true, false}, {49152, 576, 512, true, false}, {4096, 8, 576, false, true},
        {4096, 576, 8, false, true},    {4096, 8, 576, false, false},   {4096, 576, 8, false, false},
        {8, 576, 4096, true, false},    {576, 8, 4096, true, false},    {1, 576, 576, false, true},
        {1, 49152, 576, false, true}};
    constexpr DType f = DType::float32, b = DType::bfloat16;
    for (const Case& c : cases)
        std::printf("%6lld %6lld %6lld %c%c   %8.1f %8.1f %8.1f %8.1f %8.1f\n", static_cast<long long>(c.m),
                    static_cast<long long>(c.n), static_cast<long long>(c.k), c.transpose_a ? 'T' : 'N',
                    c.transpose_b ? 'T' : 'N', gflops(*device, c, f, f, f), gflops(*device, c, f, f, b),
                    gflops(*device, c, f, b, b), gflops(*device, c, b, b, b), gflops(*device, c, b, b, f));
}
