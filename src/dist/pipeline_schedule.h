// The pipeline's schedule as a value: which micro-batch a stage computes when. 1F1B (Narayanan et al. 2019, PipeDream-Flush). It sends and computes nothing.
#pragma once

#include <cstdint>
#include <vector>

namespace longlora::dist {

enum class Pass : std::uint8_t { forward, backward };

struct PipelineTask {
    Pass pass = Pass::forward;
    std::int64_t micro_batch = 0;
    bool operator==(const PipelineTask&) const = default;
};

std::vector<PipelineTask> one_forward_one_backward(int num_stages, int stage, std::int64_t num_micro_batches);

}  // namespace longlora::dist
