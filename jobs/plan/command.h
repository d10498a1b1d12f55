// `longlora plan` for other commands. Its own options are in jobs/plan/options.h, its tables in jobs/plan/report.h.
#pragma once

#include "jobs/experiment/options.h"
#include "parallel/host_group.h"

namespace longlora {

/// `train --device plan`: the same as `longlora plan` with train's options alone. Returns the exit code.
int report_plan(const TrainOptions& options, const parallel::HostGroup& group);

}  // namespace longlora
