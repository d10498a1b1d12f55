// PlanRepetition: long loops of a planned step. A plan device computes nothing, so what a loop does depends only on the
// shapes of its iterations and on the tensors in memory. If both are as they were some iterations ago, all further
// iterations of these shapes repeat what was done since. They are left out and only counted, so a plan of many rounds
// or micro-batches costs as much as one of a few and has the same result. On other devices nothing is left out.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "parallel/communicator.h"

namespace longlora::parallel {

class PlanRepetition {
public:
    /// Call it before the loop. communicators: all that send in the loop; empty pointers are allowed.
    PlanRepetition(Device& device, std::vector<Communicator*> communicators);
    /// Call it after an iteration. behind: the iterations before this one that did the same as this one, since they had
    /// the same shapes. ahead: the next iterations that will do the same, too. Returns how many of these the loop
    /// leaves out; their operations, bytes and messages are counted already.
    std::int64_t skip(std::int64_t behind, std::int64_t ahead);

private:
    /// The state after an iteration.
    struct Mark {
        Arena::Layout memory, pinned;
        Recorder recorder;
        std::vector<TrafficByUnit> sent;
    };
    Mark mark() const;
    void count_again(const Mark& before, std::int64_t times);

    Device& device_;
    std::vector<Communicator*> communicators_;
    std::int64_t memory_begin_ = 0, pinned_begin_ = 0;
    std::vector<Mark> marks_;  // of the last iterations that were alike
};

}  // namespace longlora::parallel
