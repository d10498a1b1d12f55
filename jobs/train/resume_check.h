// What a resume compares beside options: the computation that config.json describes, and what decides roundings. These
// functions load nothing and refuse nothing; jobs/train/resume_source.h does.
#pragma once

#include <vector>

#include "model/config.h"
#include "run/option_check.h"

namespace longlora {

/// The values that decide what is computed with given weights, by their names in config.json. They are compared like
/// options of identity; the hash of their content identifies the weights.
Json computation_of(const ModelConfig& config);

/// The changes after which sums may be rounded in another order or another way: mesh, micro-batch, threads, processor,
/// versions. They are found in the environments (jobs/process/environment.h) and among the free options that changed.
/// Empty: the bits stay the same.
std::vector<OptionChange> rounding_changes(const Json& environment_then, const Json& environment_now,
                                           const std::vector<OptionChange>& changed_options);

}  // namespace longlora
