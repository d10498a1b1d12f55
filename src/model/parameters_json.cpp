// Writes and reads sets of trainables. Every key is written and every key is required, so a set that is read equals
// the one that was written.
#include "model/parameters_json.h"

namespace longlora {
namespace {

bool get_bool(const Json& json, const char* key, const std::string& where) {
    const Json& value = member(json, key, where);
    require(value.is_boolean(), where, ": \"", key, "\" is ", value.dump(), ", not true or false");
    return value.get<bool>();
}

}  // namespace

Json to_json(const TrainableSet& set) {
    Json targets = Json::array();
    for (const Projection p : set.lora_targets) targets.push_back(name_of(p));
    return {{"method", name_of(set.method)}, {"embedding", set.embedding}, {"norm", set.norm},
            {"lm_head", set.lm_head},        {"rank", set.lora_rank},      {"alpha", set.lora_alpha},
            {"targets", std::move(targets)}};
}

TrainableSet trainables_of(const Json& json, const std::string& where) {
    require(json.is_object(), where, ": the set of trainables is not a JSON object");
    TrainableSet set;
    set.method = method_of(get_text(json, "method", where));
    set.embedding = get_bool(json, "embedding", where);
    set.norm = get_bool(json, "norm", where);
    set.lm_head = get_bool(json, "lm_head", where);
    set.lora_rank = get_integer(json, "rank", where);
    const Json& alpha = member(json, "alpha", where);
    require(alpha.is_number(), where, ": \"alpha\" is ", alpha.dump(), ", not a number");
    set.lora_alpha = alpha.get<double>();
    const Json& targets = member(json, "targets", where);
    require(targets.is_array(), where, ": \"targets\" is ", targets.dump(), ", not a list");
    set.lora_targets.clear();
    for (const Json& target : targets) {
        require(target.is_string(), where, ": the LoRA target ", target.dump(), " is not a name");
        set.lora_targets.push_back(lora_targets_of(target.get<std::string>()).front());
    }
    require(!set.has_lora() || (set.lora_rank >= 1 && set.lora_alpha > 0), where, ": rank ", set.lora_rank,
            " and alpha ", set.lora_alpha, " must be above 0");
    return set;
}

}  // namespace longlora
