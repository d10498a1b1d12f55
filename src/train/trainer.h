// The loop of training: step after step, metrics, checkpoints, stopping at a step boundary that all ranks agree on.
// What a step does is step.h; where values and options come from is jobs/train/command.cpp.
#pragma once

#include <functional>
#include <string>

#include "run/folder.h"
#include "train/batch_reader.h"
#include "train/checkpoint.h"
#include "train/schedule.h"
#include "train/step.h"

namespace longlora {

struct TrainerOptions {
    std::string run_folder;
    Schedule schedule;  ///< .steps is where training ends
    StepOptions step;
    std::int64_t checkpoint_every = 100;  ///< steps; 0: never by steps
    double checkpoint_minutes = 30;       ///< 0: never by time
    std::int64_t keep_checkpoints = 3;
    std::int64_t max_snapshot_bytes = std::int64_t{4} << 30;  ///< of a rank; a larger save goes on in the foreground
    double stop_after_seconds = 0;                            ///< from the start of the loop; 0: no limit
    std::int64_t planned_arena_bytes = 0;                     ///< for the record at the end
    std::string resumed_from;  ///< the checkpoint that steps go on from; "" at the beginning
    std::string writer;        ///< of this start: part of the names of unfinished files
};

/// What the loop works on; all outlive it.
struct TrainerParts {
    const parallel::HostGroup& group;
    parallel::MeshCommunicators& mesh;
    Model& model;
    const DataOrder& order;
    const ActivationPlan& activations;
    const Json& attributes;                       ///< of checkpoints
    std::function<bool()> stop_requested;         ///< a signal came to this rank
    std::function<void()> note_work;              ///< this rank did a part of its work
    std::function<void(std::int64_t)> step_done;  ///< this rank finished a step
    /// Throws an Error if the run folder is no longer this job's. Before anything in it is written.
    std::function<void()> require_ours;
};

/// What the live line shows; rank 0 gets it after every step.
struct StepReport {
    std::int64_t step = 0, steps = 0, tokens = 0;  ///< tokens: of all sequences so far
    double loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0, seconds_left = 0;
};
struct TrainerMessages {
    std::function<void(const StepReport&)> step;
    std::function<void(const std::string&)> sentence;  ///< checkpoints, warnings
};

struct TrainOutcome {
    ExitCode code = ExitCode::done;  ///< done, stopped, non_finite, or bad_input when data cannot be read
    std::int64_t step = 0;           ///< finished steps
    std::string checkpoint, sentence;
};

/// Trains steps first_step .. schedule.steps. Collective. Ends with a checkpoint in every case but an exception.
TrainOutcome run_training(const TrainerParts& parts, const TrainerOptions& options, std::int64_t first_step,
                          const TrainerMessages& messages);

}  // namespace longlora
