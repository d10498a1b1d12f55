// TrainableSet as JSON and back: how checkpoints and manifests record what is trained. adapter.cpp reads PEFT's
// adapter_config.json, jobs/export/adapter.cpp writes it.
#pragma once

#include <string>

#include "io/json.h"
#include "model/parameters.h"

namespace longlora {

/// {"method": "longlora", "embedding": true, "norm": true, "lm_head": false, "rank": 8, "alpha": 16.0,
///  "targets": ["q", "k", "v", "o"]}
Json to_json(const TrainableSet& set);
/// `where` names the file in messages about keys that are missing or wrong.
TrainableSet trainables_of(const Json& json, const std::string& where);

}  // namespace longlora
