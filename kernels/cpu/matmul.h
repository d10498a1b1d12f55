// Matrix products on the CPU: oneDNN, with what it cannot do around it (mixed types, tiles between which messages
// move). Arguments as in ops.h.
#pragma once

#include <functional>
#include <memory>

#include "core/tensor.h"

namespace longlora::cpu {

class Matmul {
public:
    /// bfloat16_instructions: products of two bfloat16 matrices go to oneDNN as they are; otherwise they are widened
    /// panel by panel.
    explicit Matmul(bool bfloat16_instructions);
    ~Matmul();

    /// progress is called between tiles; the tiles depend on the shapes and types only.
    void operator()(Tensor out, ConstTensor a, ConstTensor b, bool transpose_a, bool transpose_b, float alpha,
                    float beta, const std::function<void()>& progress);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace longlora::cpu
