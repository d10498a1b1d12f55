// Matrix products on the CPU: oneDNN (onednn_gemm.h), and around it what oneDNN cannot do: mixed types, and tiles
// between which messages move. Arguments are those of Ops::matmul in kernels/ops.h.
#pragma once

#include <functional>
#include <memory>

#include "core/tensor.h"

namespace longlora::cpu {

class Matmul {
public:
    /// bfloat16_instructions: oneDNN multiplies two bfloat16 matrices directly. Otherwise they are widened panel by
    /// panel.
    explicit Matmul(bool bfloat16_instructions);
    ~Matmul();

    /// Calls progress between tiles. Only shapes and types determine the tiles.
    void operator()(Tensor out, ConstTensor a, ConstTensor b, bool transpose_a, bool transpose_b, float alpha,
                    float beta, const std::function<void()>& progress);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace longlora::cpu
