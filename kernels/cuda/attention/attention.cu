// The host side of attention: fills the AttentionProblem that kernels get, and chooses the kernels. The kernels are in
// the other .cu files of this folder.
#include "kernels/cuda/attention/attention.h"

#include <cmath>

#include "kernels/cuda/attention/problem.cuh"
#include "kernels/cuda_limits.h"

namespace longlora::cuda {

namespace {

int narrow_size(std::int64_t n) {
    ensure(n >= 0 && n <= INT32_MAX, "attention on a GPU counts tokens and bytes of a row in 32 bits");
    return static_cast<int>(n);
}

template <class Byte> MatrixView<Byte> matrix_of(const TensorView<Byte>& t, std::int64_t head_dim) {
    const std::int64_t row_bytes = t.row_stride * size_of(t.dtype);
    const auto address = reinterpret_cast<std::uintptr_t>(t.bytes);
    const bool aligned = address % 16 == 0 && row_bytes % 16 == 0 && head_dim * size_of(t.dtype) % 16 == 0;
    return {t.bytes, narrow_size(row_bytes), t.dtype == DType::float32, aligned};
}

HeadRows head_rows_of(const Tensor& t) { return {t.data<float>(), t.row_stride}; }
ConstHeadRows head_rows_of(const ConstTensor& t) { return {t.data<float>(), t.row_stride}; }

AttentionProblem problem_of(const AttentionInputs& inputs, const Windows& windows, const AttentionPlace& place) {
    const auto& [q, k, v] = inputs;
    const std::int64_t e = place.head_dim;
    if (const std::string problem = cuda_head_dim_problem(e); !problem.empty())
        fail(problem + "; take --device cpu for this model");
    ensure(place.scale > 0 && std::isfinite(place.scale), "the scale of attention must be positive and finite");
    AttentionProblem p{};
    p.q = matrix_of(q, e), p.k = matrix_of(k, e), p.v = matrix_of(v, e);
    p.first_key = windows.first_key.data<std::int32_t>();
    p.num_tokens = narrow_size(windows.num_tokens()), p.num_plain_heads = narrow_size(windows.num_plain_heads);
    p.head_dim = narrow_size(e), p.num_heads = narrow_size(q.width() / e),
    p.group = p.num_heads / narrow_size(k.width() / e);
    p.num_queries = narrow_size(q.shape[0]), p.num_keys = narrow_size(k.shape[0]);
    p.query_begin = narrow_size(place.query_begin), p.key_begin = narrow_size(place.key_begin);
    p.scale = place.scale, p.scale_log2 = place.scale * 1.4426950408889634f;
    return p;
}

}  // namespace

void attention_forward(cudaStream_t stream, const AttentionResult& result, const AttentionInputs& inputs,
                       const Windows& windows, const AttentionPlace& place, bool accumulate) {
    const ForwardProblem p{problem_of(inputs, windows, place), matrix_of(result.out, place.head_dim),
                           head_rows_of(result.lse), accumulate};
    if (p.num_queries == 0 || (accumulate && p.num_keys == 0)) return;
    if (inputs.q.dtype == DType::float32) forward_float(stream, p);
    else forward_bf16(stream, p);
}

void attention_backward(cudaStream_t stream, const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                        const Windows& windows, const AttentionPlace& place, Tensor delta) {
    const std::int64_t e = place.head_dim;
    BackwardProblem p{};
    static_cast<AttentionProblem&>(p) = problem_of(inputs.inputs(), windows, place);
    if (p.num_queries == 0 || p.num_keys == 0) return;
    p.d_out = matrix_of(inputs.d_out, e), p.out = matrix_of(inputs.out, e), p.lse = head_rows_of(inputs.lse);
    p.d_q = matrix_of(gradients.d_q, e), p.d_k = matrix_of(gradients.d_k, e), p.d_v = matrix_of(gradients.d_v, e),
    p.delta = head_rows_of(delta);
    if (inputs.q.dtype == DType::float32) return backward_float(stream, p);
    delta_bf16(stream, p);
    backward_keys_bf16(stream, p);
    backward_queries_bf16(stream, p);
}

}  // namespace longlora::cuda
