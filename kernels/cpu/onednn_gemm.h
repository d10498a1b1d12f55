// OnednnGemm: one product by oneDNN 2.6. All three matrices are float32, or two bfloat16 matrices give a result of
// either type. Tiles and mixed operands are in matmul.h.
#pragma once

#include <memory>

#include "core/tensor.h"

namespace longlora::cpu {

class OnednnGemm {
public:
    OnednnGemm();
    OnednnGemm(OnednnGemm&&) noexcept;
    ~OnednnGemm();

    /// Whether this oneDNN multiplies bfloat16 on this processor. oneDNN 2.6 cannot do it with AVX2 alone. The
    /// environment variable DNNL_MAX_CPU_ISA also limits it.
    static bool has_bfloat16();

    /// out = alpha * op(a) op(b) + beta * out. No side is empty. beta == 0 overwrites out.
    void operator()(Tensor out, ConstTensor a, ConstTensor b, bool transpose_a, bool transpose_b, float alpha,
                    float beta);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace longlora::cpu
