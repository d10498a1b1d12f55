// Which ranks of a stage can need different memory. Ranks whose tokens, shards of parameters and messages have the same
// sizes in the same order take the same memory, so planning needs one rank of each kind. What a rank plans is in
// train/plan.h.
#pragma once

#include <vector>

#include "train/plan.h"

namespace longlora {

/// One sequence coordinate of each kind, in ascending order: for the stage of request.rank and data coordinate 0.
///
/// Two ranks are alike if they have the same number of own tokens, the same shards under ZeRO, and the same rounds of
/// attention (parallel/kv_exchange.h). Where received keys and values do not stay until backward, it does not matter
/// how often rounds repeat: the rounds are the same if every twelve rounds in a row of one rank are also twelve rounds
/// in a row of the other. So the number of kinds does not grow with the ranks if they divide the tokens. rules:
/// exchange_rules_of() the request's pattern.
std::vector<int> distinct_sequence_ranks(const PlanRequest& request, const std::vector<parallel::ExchangeRules>& rules);

}  // namespace longlora
