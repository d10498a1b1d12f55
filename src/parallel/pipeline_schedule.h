// The schedule of the pipeline as a list: which micro-batch a stage computes when. It is 1F1B (Narayanan et al. 2019,
// PipeDream-Flush). This file sends and computes nothing; src/train/pipeline.cpp carries the schedule out.
//
// Four stages, six micro-batches; a forward is drawn as long as a backward:
//
//   stage 0  f0 f1 f2 f3          b0 f4 b1 f5 b2    b3    b4    b5
//   stage 1     f0 f1 f2       b0 f3 b1 f4 b2 f5 b3    b4    b5
//   stage 2        f0 f1    b0 f2 b1 f3 b2 f4 b3 f5 b4    b5
//   stage 3           f0 b0 f1 b1 f2 b2 f3 b3 f4 b4 f5 b5
//            time ->
//
// The bubble is the share of a step in which a stage is idle: (P-1) / (M+P-1) for P equal stages and M micro-batches.
// Let f and b be the times of a forward and of a backward. The last stage waits (P-1) f for its first input, then
// computes for M (f+b) without a gap, and its last gradient needs (P-1) b to come back to stage 0. So a step takes
// (M+P-1)(f+b), of which every stage computes M (f+b).
#pragma once

#include <cstdint>
#include <vector>

namespace longlora::parallel {

enum class Pass : std::uint8_t { forward, backward };

struct PipelineTask {
    Pass pass = Pass::forward;
    std::int64_t micro_batch = 0;
    bool operator==(const PipelineTask&) const = default;
};

/// The order of one stage: first min(M, P-1-stage) forwards, then one forward and one backward in turn, then the
/// remaining backwards. At most P - stage micro-batches are between their forward and their backward.
std::vector<PipelineTask> one_forward_one_backward(int num_stages, int stage, std::int64_t num_micro_batches);

/// (P-1) / (M+P-1), or 0 without micro-batches.
double bubble_share(int num_stages, std::int64_t num_micro_batches);

}  // namespace longlora::parallel
