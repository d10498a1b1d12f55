// The training loop: steps, metrics, checkpoints, and a stop at a step boundary on which all ranks agree. Not here: the
// step itself (step.h), and where options and parts come from (jobs/train/command.cpp).
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
    Schedule schedule;  ///< training ends after schedule.steps
    StepOptions step;
    std::int64_t checkpoint_every = 100;  ///< steps; 0: never by steps
    double checkpoint_minutes = 30;       ///< 0: never by time
    std::int64_t keep_checkpoints = 3;
    ReadBack read_back = ReadBack::sample;
    std::int64_t max_snapshot_bytes = std::int64_t{4} << 30;  ///< of a rank; a larger save is done in the foreground
    double stop_after_seconds = 0;                            ///< from the start of the loop; 0: no limit
    std::int64_t planned_arena_bytes = 0;                     ///< recorded in the metrics at the end
    std::string resumed_from;                                 ///< the checkpoint that was loaded; "" if the run begins
    std::string writer;  ///< names this start; part of the names of unfinished files
};

/// What connects the loop with its surroundings. Each of them may be empty.
struct TrainerHooks {
    std::function<bool()> stop_requested;         ///< whether this rank was asked to stop
    std::function<void()> note_work;              ///< this rank did a part of its work
    std::function<void(std::int64_t)> step_done;  ///< this rank finished a step
    std::function<void()> checkpoint_saved;       ///< from now on the run can be resumed from a new checkpoint
    /// Throws an Error if the run folder is no longer this job's. Called before anything in the folder is written.
    std::function<void()> require_ours;
};

/// What the loop works on; all of it outlives the loop.
struct TrainerParts {
    const parallel::HostGroup& group;
    parallel::MeshCommunicators& mesh;
    Model& model;
    const DataOrder& order;
    const ActivationPlan& activations;
    const Json& attributes;  ///< of checkpoints
    TrainerHooks hooks;
};

/// What the live line shows; rank 0 reports it after every step.
struct StepReport {
    std::int64_t step = 0, steps = 0, tokens = 0;  ///< tokens: in all sequences so far, counted or not
    double loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0, seconds_left = 0;
};
struct TrainerMessages {
    std::function<void(const StepReport&)> step;
    std::function<void(const std::string&)> sentence;  ///< checkpoints, warnings
};

struct TrainOutcome {
    ExitCode code = ExitCode::done;  ///< done, stopped, non_finite, or bad_input if data cannot be read
    std::int64_t step = 0;           ///< finished steps
    std::string checkpoint, sentence;
};

/// Trains the steps first_step .. schedule.steps. Ends with a checkpoint unless it throws. Collective.
TrainOutcome run_training(const TrainerParts& parts, const TrainerOptions& options, std::int64_t first_step,
                          const TrainerMessages& messages);

}  // namespace longlora
