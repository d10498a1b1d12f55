// What `longlora train` tells its user before, during and after the steps. Text only. What a resume says:
// jobs/train/resume_source.h.
#pragma once

#include <string>

#include "jobs/train/fitted_step.h"
#include "jobs/train/inputs.h"
#include "train/trainer.h"

namespace longlora {

/// Rank 0 prints model, data, machine, mesh and memory.
void introduce(const parallel::HostGroup& group, const TrainOptions& options, const Inputs& inputs,
               const FittedStep& step, const Machine& machine);
/// The line that is shown after each step.
std::string live_text(const StepReport& report);
/// A sentence if a run of at least one step used other memory than planned; else "". With a document mask a run may
/// use less.
std::string memory_note(const TrainOptions& options, const FittedStep& step, std::int64_t used_bytes);
/// Rank 0 prints how the training ended and how to go on.
void tell_outcome(const parallel::HostGroup& group, const TrainOptions& options, const TrainOutcome& outcome);

}  // namespace longlora
