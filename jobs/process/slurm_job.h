// What Slurm says about jobs: which one this process belongs to, and whether another has ended. Without Slurm: nothing.
// It starts and changes no jobs (slurm/ does).
#pragma once

#include "run/lock.h"

namespace longlora {

/// From SLURM_JOB_ID, SLURM_RESTART_COUNT and SLURM_CLUSTER_NAME.
JobIdentity job_of_environment();

/// The job and restart of `holder` have ended: `mine` is a later restart of the same job, or 'scontrol show job' says
/// so. False when nobody knows.
bool slurm_says_ended(const LockHolder& holder, const JobIdentity& mine);

/// The same for scontrol's answer alone ("JobId=12 ... JobState=FAILED ... Restarts=1 ..." or its error message).
bool answer_says_ended(const std::string& answer, const std::string& restart);

}  // namespace longlora
