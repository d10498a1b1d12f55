// The run folder of `longlora train` from the first look to the first step: its lock, what to go on from, what is set
// aside, manifest and status. All functions are collective. What is inside of a checkpoint is src/train/checkpoint.h.
#pragma once

#include "jobs/train/run.h"

namespace longlora {

/// Takes the lock of a run folder that is there already; nothing otherwise.
void lock_existing_folder(Run& run);
/// Which checkpoint to go on from, in run.resume_from; "" for none.
void find_resume_source(Run& run);
/// Loads that checkpoint if there is one; returns the first step to do. Changes nothing in the folder.
std::int64_t load_resume_source(Run& run);
/// Makes the folder and locks it if that is not done, sets aside what came after the checkpoint, writes manifest and
/// status. From here on ranks give signs of life in it.
void begin_in_folder(Run& run, std::int64_t first_step);

/// Options by class, with what files of paths hold.
OptionClasses option_classes(const Run& run);

}  // namespace longlora
