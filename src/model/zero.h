// ZeRO (Rajbhandari et al. 2020): makes the weights of a unit whole before they are used and releases them
// afterwards; sums the gradients of a unit to their owners while backward continues. weights.h says which rank keeps
// what; src/train/optimizer.h has the update. Everything is collective over the `data` communicator of the weights:
// all its ranks call the same functions for the same units in the same order, also ranks without sequences.
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

    /// Stage 3: the weights of `unit`, frozen ones too, are whole until close(). Then the gathering of `next` (-1:
    /// none) starts, unless two units are whole already; `next` must be opened later. A unit may be opened again
    /// before close(); each open() needs its own close(). Below stage 3 both functions do nothing.
    void open(std::int64_t unit, std::int64_t next = -1);
    void close(std::int64_t unit);

    /// Sets the gradient sums to zero. Call it before the first micro-batch of a step.
    void clear_gradients();
    /// Call these two around the backward of a unit: Weights::gradient(p) exists between them. (At stages 2 and 3 it
    /// exists only there, and starts at zero.)
    void open_gradients(std::int64_t unit);
    /// last: nothing more is added to these gradients in this step. Stages 2 and 3 reduce-scatter at every call. If
    /// it is the last one, stage 1 reduce-scatters and stage 0 all-reduces.
    void close_gradients(std::int64_t unit, bool last);
    /// Waits for the last sum. Afterwards Weights::own_gradient holds the sums over ranks.
    void finish_gradients();

    /// Call it after the owners' update: stages 1 and 2 gather the weights, which every rank keeps whole.
    void share_update();

private:
    struct Unit {
        int opens = 0;                     // calls of open() that wait for their close()
        parallel::Request weight, frozen;  // under way
    };
    /// A sum under way. There is at most one, so its buffers and workspace exist only once.
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
    Unit& unit_of(std::int64_t unit) { return units_[unit]; }
    Weights& weights_;
    std::vector<Unit> units_;
    int num_whole_ = 0;  // units that are whole or being gathered
    Sum sum_;
};

}  // namespace longlora
