// OnednnGemm: one product by oneDNN 2.6, all three matrices float32, or bfloat16 times bfloat16 into either. No tiles,
// no mixed operands; that is matmul.h.
#pragma once

#include <memory>

#include "core/tensor.h"

namespace longlora::cpu {

class OnednnGemm {
public:
    OnednnGemm();
    OnednnGemm(OnednnGemm&&) noexcept;
    ~OnednnGemm();

    /// Whether this oneDNN multiplies bfloat16 on this processor (2.6 cannot make such a primitive on AVX2 alone;
    /// DNNL_MAX_CPU_ISA counts too).
    static bool has_bfloat16();

    /// out = alpha * op(a) op(b) + beta * out; no side is empty; beta == 0 overwrites.
    void operator()(Tensor out, ConstTensor a, ConstTensor b, bool transpose_a, bool transpose_b, float alpha,
                    float beta);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace longlora::cpu
