// CudaBackend: the operations of ops.h, queued on streams of one GPU. One file per operation implements the functions
// of operations.h; attention.h has attention, blas.h and matmul.h the products.
//
// Memory: a device takes own_bytes() of its arena once, for cuBLAS and for what operations keep between two kernels
// (scratch). Scratch belongs to the compute stream: matmul, embedding_backward, rmsnorm_backward, cross_entropy and
// sum_squares run there and on no other stream (a std::logic_error says so); the rest on any.
#pragma once

#include "kernels/cuda/blas.h"
#include "kernels/cuda/memory.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace longlora::cuda {

/// What cuBLAS recommends for sm_90; the same on every GPU, so that a plan does not depend on it.
constexpr std::int64_t kBlasWorkspaceBytes = std::int64_t{32} << 20;
/// Operations that would want more go piece by piece.
constexpr std::int64_t kScratchBytes = std::int64_t{32} << 20;
constexpr std::int64_t own_bytes() { return kBlasWorkspaceBytes + kScratchBytes; }
static_assert(own_bytes() == cuda_own_bytes(), "what kernels/device.h tells plans");

class CudaBackend final : public OpsBackend {
public:
    /// own: own_bytes() bytes of device memory. gpu: the current device.
    CudaBackend(const Streams& streams, Tensor own, int gpu);

    void matmul(int stream, Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a, Transpose transpose_b,
                float alpha, float beta) override;
    void embedding_forward(int stream, Tensor out, ConstTensor table, ConstTensor ids) override;
    void embedding_backward(int stream, Tensor d_table, ConstTensor d_out, ConstTensor ids) override;
    void rmsnorm_forward(int stream, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) override;
    void rmsnorm_backward(int stream, const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) override;
    void rotary(int stream, Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin,
                bool inverse) override;
    void attention_forward(int stream, const AttentionResult& result, const AttentionInputs& inputs,
                           const Windows& windows, const AttentionPlace& place, bool accumulate) override;
    void attention_backward(int stream, const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                            const Windows& windows, const AttentionPlace& place, Tensor delta) override;
    void merge_attention(int stream, const AttentionResult& result, const ConstAttentionResult& other) override;
    void swiglu_forward(int stream, Tensor out, const SwigluInputs& inputs) override;
    void swiglu_backward(int stream, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) override;
    void cross_entropy(int stream, Tensor loss_sum, Tensor logits, ConstTensor labels, float scale,
                       bool gradient) override;
    void sum_squares(int stream, Tensor sum, ConstTensor x) override;
    void clip_scale(int stream, Tensor scale, const ClipInputs& inputs, double max_norm) override;
    void adamw(int stream, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) override;
    void fill(int stream, Tensor x, float value) override;
    void add(int stream, Tensor y, ConstTensor x, float alpha) override;
    void copy(int stream, Tensor y, ConstTensor x) override;
    void synchronize(int stream) override;

private:
    Tensor scratch_of(int stream) const;
    const Streams& streams_;
    Tensor scratch_;
    Blas blas_;
    std::int64_t shared_bytes_;  // that a block may have
};

}  // namespace longlora::cuda
