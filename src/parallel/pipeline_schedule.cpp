// On every stage the i-th forward and the i-th backward are those of micro-batch i. The stages differ only in how
// they interleave forwards and backwards.
#include "parallel/pipeline_schedule.h"

#include <algorithm>

#include "core/error.h"

namespace longlora::parallel {

std::vector<PipelineTask> one_forward_one_backward(int num_stages, int stage, std::int64_t num_micro_batches) {
    ensure(stage >= 0 && stage < num_stages && num_micro_batches >= 0,
           "the stage is in the pipeline and the number of micro-batches is not negative");
    const std::int64_t warm_up = std::min<std::int64_t>(num_micro_batches, num_stages - 1 - stage);
    std::vector<PipelineTask> tasks;
    tasks.reserve(2 * num_micro_batches);
    for (std::int64_t i = 0; i < warm_up; ++i) tasks.push_back({Pass::forward, i});
    for (std::int64_t i = warm_up; i < num_micro_batches; ++i) {
        tasks.push_back({Pass::forward, i});
        tasks.push_back({Pass::backward, i - warm_up});
    }
    for (std::int64_t i = num_micro_batches - warm_up; i < num_micro_batches; ++i) tasks.push_back({Pass::backward, i});
    return tasks;
}

double bubble_share(int num_stages, std::int64_t num_micro_batches) {
    ensure(num_stages >= 1 && num_micro_batches >= 0,
           "a pipeline has a stage, and its number of micro-batches is not negative");
    if (num_micro_batches == 0) return 0;
    return static_cast<double>(num_stages - 1) / static_cast<double>(num_micro_batches + num_stages - 1);
}

}  // namespace longlora::parallel
