// ZeRO (Rajbhandari et al. 2020): units come whole before they are used and go afterwards; gradients of a unit are summed to their owners while backward goes on.
// What is kept where is weights.h; the update is src/train/optimizer.h. Everything is collective over the weights' `data` communicator: every rank of
// it calls the same functions for the same units in the same order, with or without sequences of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "model/weights.h"

namespace longlora {

class Zero {
public:
    explicit Zero(Weights& weights) : weights_(weights) {}
    Zero(const Zero&) = delete;
    Zero& operator=(const Zero&) = delete;

    /// Stage 3: `unit`'s weights, frozen ones too, are whole until close(); the gathering of `next` (-1: none) starts behind it. Below 3 nothing is to be done.
    void open(std::int64_t unit, std::int64_t next = -1);
    void close(std::int64_t unit);

    /// Before a step's first micro-batch.
    void clear_gradients();
    /// Around a unit's backward: in between Weights::gradient(p) exists (stages 2 and 3 have it only then, zero at first).
    void open_gradients(std::int64_t unit);
    /// `last`: no further micro-batch adds to them in this step. Stages 2 and 3 reduce-scatter every time, 0 and 1 when it is the last.
    void close_gradients(std::int64_t unit, bool last);
    /// Afterwards Weights::own_gradient holds the sums over ranks.
    void finish_gradients();

    /// After the owners' update: weights are whole again where they are kept whole (stages 1 and 2 gather them).
    void share_update();

private:
    Weights& weights_;
};

}  // namespace longlora
