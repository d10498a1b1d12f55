// The pipeline's schedule as a value: which micro-batch a stage computes when. 1F1B (Narayanan et al. 2019,
// PipeDream-Flush). It sends and computes nothing.
//
// Four stages, six micro-batches, forward and backward drawn as long as each other:
//
//   stage 0  f0 f1 f2 f3          b0 f4 b1 f5 b2    b3    b4    b5
//   stage 1     f0 f1 f2       b0 f3 b1 f4 b2 f5 b3    b4    b5
//   stage 2        f0 f1    b0 f2 b1 f3 b2 f4 b3 f5 b4    b5
//   stage 3           f0 b0 f1 b1 f2 b2 f3 b3 f4 b4 f5 b5
//            time ->
//
// The bubble is a stage's idle share of a step, (P-1) / (M+P-1) for P equal stages and M micro-batches: with f and b
// the times of a forward and a backward, the last stage waits (P-1) f for its first input, then is busy M (f+b) without
// a gap, and its last gradient needs (P-1) b back to stage 0; so a step takes (M+P-1)(f+b), of which every stage
// computes M (f+b).
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

/// The order of one stage: min(M, P-1-stage) forwards to warm up, then one forward and one backward in turn, then the
/// backwards that are left. At most P - stage micro-batches are between their forward and their backward.
std::vector<PipelineTask> one_forward_one_backward(int num_stages, int stage, std::int64_t num_micro_batches);

/// (P-1) / (M+P-1); 0 without micro-batches, when there is no step to wait in.
double bubble_share(int num_stages, std::int64_t num_micro_batches);

}  // namespace longlora::parallel
