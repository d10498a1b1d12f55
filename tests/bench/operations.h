// The operations of a training step at given sizes, each ready to be called. gpu_bench measures their times and
// roofline counts their traffic. The benchmarks of the CPU have their own lists (ops_bench.cpp, matmul_bench.cpp,
// attention_bench.cpp).
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "model/attention_pattern.h"

namespace longlora::bench {

struct Sizes {
    std::int64_t tokens = 8192, hidden = 4096, intermediate = 11008, vocabulary = 32000, heads = 32, kv_heads = 32,
                 head_dim = 128, group = 2048, loss_rows = 512;
};

struct Call {
    std::string name;
    std::function<void()> run;
    std::string variant = {};  ///< tells two calls of one operation apart
};

class Operations {
public:
    Operations(Device& device, const Sizes& n, DType real) : device_(device), ops_(device.ops()) {
        const std::int64_t q_width = n.heads * n.head_dim, kv_width = n.kv_heads * n.head_dim;
        const Tensor x = make(real, {n.tokens, n.hidden}), y = make(real, {n.tokens, n.hidden}),
                     d_x = make(real, {n.tokens, n.hidden}), weight = make(real, {n.hidden});
        const Tensor rrms = make(DType::float32, {n.tokens}), d_weight = make(DType::float32, {n.hidden});
        const Tensor gate = make(real, {n.tokens, n.intermediate}), up = make(real, {n.tokens, n.intermediate}),
                     d_out = make(real, {n.tokens, n.intermediate});
        const Tensor w = make(real, {n.intermediate, n.hidden}), table = make(real, {n.vocabulary, n.hidden}),
                     d_table = make(DType::float32, {n.vocabulary, n.hidden});
        const Tensor q = make(real, {n.tokens, q_width}), k = make(real, {n.tokens, kv_width}),
                     v = make(real, {n.tokens, kv_width}), out = make(real, {n.tokens, q_width}),
                     d_attention = make(real, {n.tokens, q_width});
        const Tensor d_q = make(DType::float32, {n.tokens, q_width}), d_k = make(DType::float32, {n.tokens, kv_width}),
                     d_v = make(DType::float32, {n.tokens, kv_width}), lse = make(DType::float32, {n.heads, n.tokens});
        const Tensor wide = make(DType::float32, {n.tokens, q_width}),
                     other_lse = make(DType::float32, {n.heads, n.tokens});
        const Tensor cos = make(DType::float32, {n.tokens, n.head_dim / 2}),
                     sin = make(DType::float32, {n.tokens, n.head_dim / 2});
        const Tensor logits = make(real, {n.loss_rows, n.vocabulary}), loss = make(DType::float64, {}),
                     squares = make(DType::float64, {}), scale = make(DType::float32, {});
        const Tensor ids = make_ids(n.tokens, n.vocabulary, 1), common = make_ids(n.tokens, n.vocabulary, 16),
                     labels = ids.slice(0, n.loss_rows);
        windows_.emplace_back(device, make_windows({AttentionKind::shifted, n.group}, 0, n.tokens, n.heads, {}));
        const Windows& windows = *windows_.back();
        const AttentionPlace place{n.head_dim, 0, 0, 0.125f};
        const Tensor m = make(DType::float32, d_table.shape), moment = make(DType::float32, d_table.shape),
                     master = make(DType::float32, d_table.shape);
        const auto flat = [](Tensor t) { return t.reshaped({t.count()}); };
        calls_ = {{"matmul", [=, this] { ops_.matmul(gate, x, w, Transpose::no, Transpose::yes); }},
                  {"attention_forward",
                   [=, this] {
                       ops_.attention_forward({.out = out, .lse = lse}, {.q = q, .k = k, .v = v}, windows, place,
                                              false);
                   }},
                  {"attention_backward",
                   [=, this] {
                       ops_.attention_backward({.d_q = d_q, .d_k = d_k, .d_v = d_v},
                                               {.q = q, .k = k, .v = v, .d_out = d_attention, .out = out, .lse = lse},
                                               windows, place);
                   }},
                  {"merge_attention",
                   [=, this] { ops_.merge_attention({.out = d_q, .lse = lse}, {.out = wide, .lse = other_lse}); }},
                  {"embedding_forward", [=, this] { ops_.embedding_forward(y, table, ids); }},
                  {"embedding_backward", [=, this] { ops_.embedding_backward(d_table, d_x, ids); }},
                  {"embedding_backward", [=, this] { ops_.embedding_backward(d_table, d_x, common); }, ", common ids"},
                  {"rmsnorm_forward", [=, this] { ops_.rmsnorm_forward(y, rrms, x, weight, 1e-5f); }},
                  {"rmsnorm_backward",
                   [=, this] {
                       ops_.rmsnorm_backward({.d_x = d_x, .d_weight = d_weight},
                                             {.d_y = y, .x = x, .weight = weight, .rrms = rrms});
                   }},
                  {"rotary", [=, this] { ops_.rotary(q, {.cos = cos, .sin = sin}, n.head_dim, 0, false); }},
                  {"swiglu_forward", [=, this] { ops_.swiglu_forward(d_out, {.gate = gate, .up = up}); }},
                  {"swiglu_backward",
                   [=, this] {
                       ops_.swiglu_backward({.d_gate = gate, .d_up = up}, {.d_out = d_out, .gate = gate, .up = up});
                   }},
                  {"cross_entropy", [=, this] { ops_.cross_entropy(loss, logits, labels, 1, true); }},
                  {"cross_entropy", [=, this] { ops_.cross_entropy(loss, logits, labels, 1, false); }, ", loss only"},
                  {"sum_squares", [=, this] { ops_.sum_squares(squares, d_table); }},
                  {"adamw",
                   [=, this] {
                       ops_.adamw({.master = flat(master), .m = flat(m), .v = flat(moment), .weight = flat(table)},
                                  {.grad = flat(d_table), .scale = scale}, {.lr = 1e-3});
                   }},
                  {"fill", [=, this] { ops_.fill(d_out, 1); }},
                  {"add", [=, this] { ops_.add(y, x, 0.5f); }},
                  {"copy", [=, this] { ops_.copy(d_q, q); }}};
        for (const Tensor& t : {lse, other_lse}) ops_.fill(t, 3);
    }
    const std::vector<Call>& calls() const { return calls_; }

private:
    /// Filled with 0.25, which does not overflow however often an operation runs in place.
    Tensor make(DType dtype, Shape shape) {
        memory_.push_back(device_.memory().tensor(dtype, shape, Use::workspace));
        ops_.fill(memory_.back(), 0.25f);
        return memory_.back();
    }
    /// n ids below `below`. With one_in == 1 and n <= below all ids differ, so that the least traffic of a gradient is
    /// known. With one_in > 1 only one in one_in ids differs and the others are one id, as for a frequent word.
    Tensor make_ids(std::int64_t n, std::int64_t below, std::int64_t one_in) {
        constexpr std::int64_t kStride = 7919;  // a prime
        memory_.push_back(device_.memory().tensor(DType::int32, {n}, Use::batch));
        const ArenaTensor host = device_.pinned().tensor(DType::int32, {n}, Use::batch);
        for (std::int64_t i = 0; i < n; ++i)
            host->data<std::int32_t>()[i] =
                static_cast<std::int32_t>(i % one_in == 0 ? i * kStride % below : below / 2);
        device_.copy_to_device(memory_.back(), host, Device::compute_stream());
        device_.synchronize(Device::compute_stream());
        return memory_.back();
    }
    Device& device_;
    Ops ops_;
    std::vector<ArenaTensor> memory_;
    std::vector<DeviceWindows> windows_;
    std::vector<Call> calls_;
};

}  // namespace longlora::bench
