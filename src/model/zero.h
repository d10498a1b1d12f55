// ZeRO (Rajbhandari et al. 2020): units come whole before they are used and go afterwards; gradients of a unit are
// summed to their owners while backward goes on. What is kept where is weights.h; the update is src/train/optimizer.h.
// Everything is collective over the weights' `data` communicator: every rank of it calls the same functions for the
// same units in the same order, with or without sequences of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "model/weights.h"

namespace longlora {

class Zero {
public:
    explicit Zero(Weights& weights);
    Zero(const Zero&) = delete;
    Zero& operator=(const Zero&) = delete;

    /// Stage 3: `unit`'s weights, frozen ones too, are whole until close(); the gathering of `next` (-1: none) starts
    /// behind it, unless two units are whole already. `next` must be opened some time. May be called again before
    /// close(); then as many close() belong to it. Below 3 nothing is to be done.
    void open(std::int64_t unit, std::int64_t next = -1);
    void close(std::int64_t unit);

    /// Before a step's first micro-batch.
    void clear_gradients();
    /// Around a unit's backward: in between Weights::gradient(p) exists (stages 2 and 3 have it only then, zero at
    /// first).
    void open_gradients(std::int64_t unit);
    /// `last`: nothing adds to them any more in this step. Stages 2 and 3 reduce-scatter every time, 0 and 1 when it is
    /// the last.
    void close_gradients(std::int64_t unit, bool last);
    /// Afterwards Weights::own_gradient holds the sums over ranks.
    void finish_gradients();

    /// After the owners' update: weights are whole again where they are kept whole (stages 1 and 2 gather them).
    void share_update();

private:
    struct Unit {
        int opens = 0;                     // open() without close()
        parallel::Request weight, frozen;  // the gathering
    };
    /// A sum under way; at most one, so that its buffers and workspace are there once.
    struct Sum {
        std::int64_t unit = -1;
        ArenaTensor whole;  // stages 2 and 3: one micro-batch's gradients of the unit
        parallel::Request request;
    };
    bool is_whole(std::int64_t unit) const;
    void gather(std::int64_t unit);
    parallel::Request gather(ArenaTensor& whole, ConstTensor own, std::int64_t count);
    void start_sum(std::int64_t unit);
    void finish_sum();
    int zero() const { return weights_.options().zero; }
    Unit& unit_of(std::int64_t unit) { return units_[static_cast<std::size_t>(unit)]; }
    Weights& weights_;
    std::vector<Unit> units_;
    int num_whole_ = 0;  // units whole, or on their way
    Sum sum_;
};

}  // namespace longlora
