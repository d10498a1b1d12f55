// What a resumed run is compared in beside its options: the computation that config.json describes, and what decides
// roundings. It loads nothing and refuses nothing itself.
#pragma once

#include <vector>

#include "model/config.h"
#include "run/option_check.h"

namespace longlora {

/// Values that decide what is computed with given weights, by their names in config.json: to be compared as options of
/// identity. Weights are known by their content.
Json computation_of(const ModelConfig& config);

/// What may change the order or the kind of roundings: mesh, micro-batch, threads, processor, versions. From
/// environments (environment.h) and the free options that changed. Empty: the bits stay the same.
std::vector<OptionChange> rounding_changes(const Json& environment_then, const Json& environment_now,
                                           const std::vector<OptionChange>& changed_options);

}  // namespace longlora
