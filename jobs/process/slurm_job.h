// What Slurm knows about jobs: which job this process belongs to, and whether another job has ended. Without Slurm
// both are unknown. This file starts and changes no jobs; the scripts in slurm/ do.
#pragma once

#include "run/lock.h"

namespace longlora {

/// Read from SLURM_JOB_ID, SLURM_RESTART_COUNT and SLURM_CLUSTER_NAME.
JobIdentity job_of_environment();

/// Whether the job and restart of `holder` have ended: `mine` is a later restart of the same job, or 'scontrol show
/// job' says so. False if that is not known.
bool slurm_says_ended(const LockHolder& holder, const JobIdentity& mine);

/// Whether the answer of scontrol says so ("JobId=12 ... JobState=FAILED ... Restarts=1 ..." or its error message).
/// restart: the restart of the holder.
bool answer_says_ended(const std::string& answer, const std::string& restart);

}  // namespace longlora
