// Changes have the names that the user knows, from config.json and from the command line.
#include "jobs/train/resume_check.h"

#include <algorithm>

namespace longlora {

Json computation_of(const ModelConfig& config) {
    const RopeScaling& rope = config.rope;
    Json out{{"num_hidden_layers", config.num_layers},
             {"num_attention_heads", config.num_heads},
             {"num_key_value_heads", config.num_kv_heads},
             {"head_dim", config.head_dim},
             {"rms_norm_eps", config.rms_norm_eps},
             {"rope_theta", rope.theta},
             {"rope_type", name_of(rope.kind)}};
    if (rope.kind == RopeKind::none) return out;
    out.update({{"rope_factor", rope.factor},
                {"original_max_position_embeddings", config.original_positions()},
                {"low_freq_factor", rope.low_freq_factor},
                {"high_freq_factor", rope.high_freq_factor},
                {"beta_fast", rope.beta_fast},
                {"beta_slow", rope.beta_slow},
                {"attention_factor", rope.attention_factor},
                {"mscale", rope.mscale},
                {"mscale_all_dim", rope.mscale_all_dim},
                {"truncate", rope.truncate}});
    return out;
}

std::vector<OptionChange> rounding_changes(const Json& environment_then, const Json& environment_now,
                                           const std::vector<OptionChange>& changed_options) {
    std::vector<OptionChange> changes;
    const auto compare = [&](const std::string& name, const Json& then, const Json& now) {
        if (then != now) changes.push_back({name, then, now});
        return then == now;
    };
    const Json then = environment_then.value("ranks", Json::array()),
               now = environment_now.value("ranks", Json::array());
    compare("ranks", then.size(), now.size());
    for (const OptionChange& change : changed_options)
        for (const char* name : {"pipeline", "sequence", "zero", "micro-batch"})
            if (change.name == name) changes.push_back(change);
    for (const auto& [key, name] : {std::pair{"threads", "threads"}, {"device", "processor"}})
        for (std::size_t rank = 0; rank < std::min(then.size(), now.size()); ++rank)
            if (!compare(name, then[rank].value(key, Json()), now[rank].value(key, Json())))
                break;  // the first rank that differs is enough
    for (const char* name : {"longlora", "compiler", "onednn"})
        compare(name, environment_then.value(name, Json()), environment_now.value(name, Json()));
    return changes;
}

}  // namespace longlora
