// CudaBackend: the operations of kernels/ops.h, queued on streams of one GPU. One file per operation implements the
// functions of operations.h. Attention is declared in attention/attention.h, products in matmul.h and blas.h.
//
// Memory: a new device takes own_bytes() of its arena, for cuBLAS and for scratch, which is the memory that an
// operation keeps between two of its kernels. Scratch belongs to the compute stream: matmul, embedding_backward,
// rmsnorm_backward, cross_entropy and sum_squares run only there (on other streams they throw std::logic_error). All
// other operations run on any stream.
#pragma once

#include "kernels/cuda/blas.h"
#include "kernels/cuda/memory.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace longlora::cuda {

/// What cuBLAS recommends for sm_90. It is the same on every GPU, so that a plan does not depend on the GPU.
constexpr std::int64_t kBlasWorkspaceBytes = std::int64_t{32} << 20;
/// Operations that would need more work piece by piece.
constexpr std::int64_t kScratchBytes = std::int64_t{32} << 20;
constexpr std::int64_t own_bytes() { return kBlasWorkspaceBytes + kScratchBytes; }
static_assert(own_bytes() == cuda_own_bytes(), "plans count cuda_own_bytes()");

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
    std::int64_t shared_bytes_;  // shared memory that a block may have
};

}  // namespace longlora::cuda
