// CpuBackend: the operations of ops.h on the calling thread's OpenMP team. Streams are not looked at: everything runs
// at once, in the order of the calls, which is a valid execution of the contract. One file per operation implements the
// functions of cpu/operations.h.
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

    void matmul(int, Tensor out, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, float alpha,
                float beta) override;
    void embedding_forward(int, Tensor out, Tensor table, Tensor ids) override;
    void embedding_backward(int, Tensor d_table, Tensor d_out, Tensor ids) override;
    void rmsnorm_forward(int, Tensor y, Tensor rrms, Tensor x, Tensor weight, float eps) override;
    void rmsnorm_backward(int, Tensor d_x, Tensor d_weight, Tensor d_y, Tensor x, Tensor weight, Tensor rrms) override;
    void rotary(int, Tensor x, Tensor cos, Tensor sin, std::int64_t head_dim, std::int64_t position_begin,
                bool inverse) override;
    void attention_forward(int, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, const Windows& windows,
                           const AttentionPlace& place, bool accumulate) override;
    void attention_backward(int, Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_out, Tensor out, Tensor lse, Tensor q,
                            Tensor k, Tensor v, const Windows& windows, const AttentionPlace& place,
                            Tensor delta) override;
    void merge_attention(int, Tensor out, Tensor lse, Tensor other_out, Tensor other_lse) override;
    void swiglu_forward(int, Tensor out, Tensor gate, Tensor up) override;
    void swiglu_backward(int, Tensor d_gate, Tensor d_up, Tensor d_out, Tensor gate, Tensor up) override;
    void cross_entropy(int, Tensor loss_sum, Tensor logits, Tensor labels, float scale, bool gradient) override;
    void sum_squares(int, Tensor sum, Tensor x) override;
    void clip_scale(int, Tensor scale, Tensor sum_squares, Tensor loss_sum, double max_norm) override;
    void adamw(int, Tensor master, Tensor m, Tensor v, Tensor weight, Tensor grad, Tensor scale,
               const AdamwOptions& options) override;
    void fill(int, Tensor x, float value) override;
    void add(int, Tensor y, Tensor x, float alpha) override;
    void copy(int, Tensor y, Tensor x) override;
    void synchronize(int) override {}

private:
    const Device& device_;
    InstructionSet set_;
    Matmul matmul_;
};

}  // namespace longlora::cpu
