// Prints the GB/s of the operations that memory bounds, on the CPU, at the shapes of SmolLM2-135M, in float32 and
// bfloat16, the best of several runs. This is a benchmark, not a test: it checks nothing.
#include <cstdio>
#include <functional>

#include "core/clock.h"
#include "kernels/device.h"

using namespace longlora;

int main() {
    const auto device = make_cpu_device();
    Ops ops = device->ops();
    std::printf("%s\n%-20s %12s %12s   (GB/s, ms)\n", device->description().c_str(), "operation", "float32",
                "bfloat16");
    struct Result {
        double seconds, bytes;
    };
    std::map<std::string_view, Result> results[2];
    for (int which = 0; which < 2; ++which) {
        const DType type = which ? DType::bfloat16 : DType::float32;
        const auto make = [&](DType dtype, Shape shape) {
            ArenaTensor t = device->memory().tensor(dtype, shape, Use::workspace);
            ops.fill(t, 0.5f);
            return t;
        };
        const std::int64_t tokens = 4096, hidden = 576, wide = 1536, vocabulary = 49152;
        const ArenaTensor x = make(type, {tokens, hidden}), y = make(type, {tokens, hidden}),
                          dx = make(type, {tokens, hidden}), w = make(type, {hidden}),
                          dw = make(DType::float32, {hidden});
        const ArenaTensor rrms = make(DType::float32, {tokens}), ids = make(DType::int32, {tokens}),
                          table = make(type, {vocabulary, hidden}),
                          d_table = make(DType::float32, {vocabulary, hidden});
        const ArenaTensor cos = make(DType::float32, {tokens, 32}), sin = make(DType::float32, {tokens, 32}),
                          gate = make(type, {tokens, wide}), up = make(type, {tokens, wide}),
                          out = make(type, {tokens, wide});
        const ArenaTensor logits = make(type, {256, vocabulary}), loss = make(DType::float64, {}),
                          sum = make(DType::float64, {}), scale = make(DType::float32, {});
        const ArenaTensor n1 = make(DType::float32, {vocabulary * hidden}),
                          n2 = make(DType::float32, {vocabulary * hidden}),
                          n3 = make(DType::float32, {vocabulary * hidden});
        const std::function<void()> calls[] = {
            [&] { ops.embedding_forward(x, table, ids); },
            [&] { ops.embedding_backward(d_table, x, ids); },
            [&] { ops.rmsnorm_forward(y, rrms, x, w, 1e-5f); },
            [&] { ops.rmsnorm_backward({.d_x = dx, .d_weight = dw}, {.d_y = y, .x = x, .weight = w, .rrms = rrms}); },
            [&] { ops.rotary(x, {.cos = cos, .sin = sin}, 64, 0, false); },
            [&] { ops.swiglu_forward(out, {.gate = gate, .up = up}); },
            [&] { ops.swiglu_backward({.d_gate = gate, .d_up = up}, {.d_out = out, .gate = gate, .up = up}); },
            [&] { ops.cross_entropy(loss, logits, ids->slice(0, 256), 1, true); },
            [&] { ops.sum_squares(sum, n1); },
            [&] {
                ops.adamw({.master = n1, .m = n2, .v = n3, .weight = table->reshaped({vocabulary * hidden})},
                          {.grad = d_table->reshaped({vocabulary * hidden}), .scale = scale}, {.lr = 1e-3});
            },
            [&] { ops.fill(out, 1); },
            [&] { ops.add(y, x, 0.5f); },
            [&] { ops.copy(y, x); }};
        device->recorder().time = true;
        for (int round = 0; round < 6; ++round)
            for (const auto& call : calls) {
                device->recorder().clear();
                call();
                const auto& [name, record] = *device->recorder().by_operation.begin();
                auto& result = results[which][name];
                if (round > 0 && (result.seconds == 0 || record.seconds < result.seconds))
                    result = {record.seconds, record.bytes};
            }
        device->recorder().time = false;
    }
    for (const auto& [name, result] : results[0]) {
        const Result& narrow = results[1].at(name);
        std::printf("%-20.*s %6.1f %6.2f %6.1f %6.2f\n", static_cast<int>(name.size()), name.data(),
                    1e-9 * result.bytes / result.seconds, 1e3 * result.seconds, 1e-9 * narrow.bytes / narrow.seconds,
                    1e3 * narrow.seconds);
    }
}
