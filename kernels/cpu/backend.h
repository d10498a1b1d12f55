// CpuBackend: the operations of ops.h on the OpenMP threads of the calling thread. It ignores streams: an operation
// runs at once, in the order of the calls, as the contract allows. It calls the functions that operations.h,
// attention.h and matmul.h declare.
#pragma once

#include "kernels/cpu/instruction_set.h"
#include "kernels/cpu/matmul.h"
#include "kernels/ops.h"

namespace longlora::cpu {

class CpuBackend final : public OpsBackend {
public:
    CpuBackend(const Device& device, InstructionSet set, bool bfloat16_instructions)
        : device_(device),
          set_(set),
          matmul_(bfloat16_instructions) {}

    void matmul(int, Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a, Transpose transpose_b,
                float alpha, float beta) override;
    void embedding_forward(int, Tensor out, ConstTensor table, ConstTensor ids) override;
    void embedding_backward(int, Tensor d_table, ConstTensor d_out, ConstTensor ids) override;
    void rmsnorm_forward(int, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) override;
    void rmsnorm_backward(int, const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) override;
    void rotary(int, Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin,
                bool inverse) override;
    void attention_forward(int, const AttentionResult& result, const AttentionInputs& inputs, const Windows& windows,
                           const AttentionPlace& place, bool accumulate) override;
    void attention_backward(int, const AttentionGradients& gradients, const AttentionBackwardInputs& inputs,
                            const Windows& windows, const AttentionPlace& place, Tensor delta) override;
    void merge_attention(int, const AttentionResult& result, const ConstAttentionResult& other) override;
    void swiglu_forward(int, Tensor out, const SwigluInputs& inputs) override;
    void swiglu_backward(int, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) override;
    void cross_entropy(int, Tensor loss_sum, Tensor logits, ConstTensor labels, float scale, bool gradient) override;
    void sum_squares(int, Tensor sum, ConstTensor x) override;
    void clip_scale(int, Tensor scale, const ClipInputs& inputs, double max_norm) override;
    void adamw(int, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) override;
    void fill(int, Tensor x, float value) override;
    void add(int, Tensor y, ConstTensor x, float alpha) override;
    void copy(int, Tensor y, ConstTensor x) override;
    void synchronize(int) override {}

private:
    const Device& device_;
    InstructionSet set_;
    Matmul matmul_;
};

}  // namespace longlora::cpu
