// TrainableSet as JSON and back: what checkpoints and manifests say about what is trained. Not PEFT's
// adapter_config.json (adapter.h, jobs/export_peft).
#pragma once

#include <string>

#include "io/json.h"
#include "model/parameters.h"

namespace longlora {

/// {"method": "longlora", "embedding": true, "norm": true, "lm_head": false, "rank": 8, "alpha": 16.0, "targets": ["q",
/// "k", "v", "o"]}
Json to_json(const TrainableSet& set);
/// `where` names the file in messages about what is missing or wrong.
TrainableSet trainables_of(const Json& json, const std::string& where);

}  // namespace longlora
