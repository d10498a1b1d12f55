// attention_bench [tokens [group]]: prints the GFLOP/s of attention on the CPU, forward and backward, the best of
// several runs. It counts 4 E and 10 E operations for each visible pair of a query and a key. OMP_NUM_THREADS sets the
// number of threads. This is a benchmark, not a test: it checks nothing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/clock.h"
#include "core/random.h"
#include "kernels/cpu/attention.h"

using namespace longlora;

namespace {

struct Buffer {
    std::vector<float> values;
    std::vector<bf16> halves;
    Tensor view;
    Buffer(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed)
        : values(static_cast<std::size_t>(rows * columns)) {
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_normal(seed, 0, i));
        for (float x : values) halves.push_back(bf16(x));
        view = dtype == DType::float32 ? Tensor(values.data(), dtype, {rows, columns})
                                       : Tensor(halves.data(), dtype, {rows, columns});
    }
};

/// The first visible key of each query for plain heads, then for shifted heads: S2-Attn for group > 0, dense for 0.
std::vector<std::int32_t> first_keys(std::int64_t tokens, std::int64_t group) {
    std::vector<std::int32_t> first(static_cast<std::size_t>(2 * tokens), 0);
    for (std::int64_t t = 0; group > 0 && t < tokens; ++t) {
        const std::int64_t half = group / 2;
        first[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t / group * group);
        first[static_cast<std::size_t>(tokens + t)] =
            static_cast<std::int32_t>(t < half ? 0 : (t - half) / group * group + half);
    }
    return first;
}

void measure(cpu::InstructionSet isa, DType dtype, DType gradient, std::int64_t tokens, std::int64_t group,
             std::int64_t heads, std::int64_t kv_heads, std::int64_t e) {
    std::vector<std::int32_t> first = first_keys(tokens, group);
    const std::span<const std::int32_t> both(first);
    const auto n = static_cast<std::size_t>(tokens);
    const Windows windows{Tensor(first.data(), DType::int32, {2, tokens}), {both.first(n), both.last(n)}, heads / 2};
    const Buffer q(dtype, tokens, heads * e, 1), k(dtype, tokens, kv_heads * e, 2), v(dtype, tokens, kv_heads * e, 3),
        d_out(dtype, tokens, heads * e, 4), out(dtype, tokens, heads * e, 5);
    const Buffer d_q(gradient, tokens, heads * e, 6), d_k(gradient, tokens, kv_heads * e, 7),
        d_v(gradient, tokens, kv_heads * e, 8), lse(DType::float32, heads, tokens, 9),
        delta(DType::float32, heads, tokens, 10);
    const AttentionPlace place{e, 0, 0, 0.125f};
    double forward = 1e30, backward = 1e30;
    for (int i = 0; i < 5; ++i) {
        const double begin = now_seconds();
        cpu::attention_forward({.out = out.view, .lse = lse.view}, {.q = q.view, .k = k.view, .v = v.view}, windows,
                               place, false, isa, {});
        const double middle = now_seconds();
        cpu::attention_backward(
            {.d_q = d_q.view, .d_k = d_k.view, .d_v = d_v.view},
            {.q = q.view, .k = k.view, .v = v.view, .d_out = d_out.view, .out = out.view, .lse = lse.view}, windows,
            place, delta.view, isa, {});
        forward = std::min(forward, middle - begin);
        backward = std::min(backward, now_seconds() - middle);
    }
    const auto pairs = [&](HeadKind kind) {
        return static_cast<double>(visible_pairs(windows, kind, 0, tokens, 0, tokens));
    };
    const double products = 2e-9 * static_cast<double>(e) *
                            (static_cast<double>(heads / 2) * pairs(HeadKind::plain) +
                             static_cast<double>(heads - heads / 2) * pairs(HeadKind::shifted));
    std::printf("%-7s %-8s d %-8s T %5ld G %5ld H %2ld/%ld E %3ld  forward %7.1f  backward %7.1f\n",
                name_of(isa).data(), name_of(dtype).data(), name_of(gradient).data(), tokens, group, heads, kv_heads, e,
                2 * products / forward, 5 * products / backward);
}

}  // namespace

int main(int argc, char** argv) {
    const std::int64_t tokens = argc > 1 ? std::atol(argv[1]) : 4096, group = argc > 2 ? std::atol(argv[2]) : 1024;
    std::printf("GFLOP/s, G 0 is dense\n");
    for (const auto isa : {cpu::InstructionSet::avx2, cpu::InstructionSet::avx512}) {
        if (isa > cpu::detect_instruction_set()) continue;
        const auto f = DType::float32, b = DType::bfloat16;
        measure(isa, f, f, tokens, group, 9, 3, 64);
        measure(isa, f, f, tokens, 0, 9, 3, 64);
        measure(isa, b, f, tokens, group, 9, 3, 64);
        measure(isa, b, b, tokens, group, 9, 3, 64);
        measure(isa, f, f, tokens, group, 8, 2, 128);
        measure(isa, f, f, tokens, group, 6, 2, 32);
        measure(isa, f, f, tokens, group / 4, 9, 3, 64);
    }
    return 0;
}
