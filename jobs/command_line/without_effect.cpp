// The conditions compare values of options alone, so they open no file. A value that an option does not allow fulfils
// no condition; the check of that option refuses it afterwards.
#include "jobs/command_line/without_effect.h"

#include <algorithm>
#include <sstream>

#include "core/error.h"

namespace longlora {
namespace {

bool has_word(const std::string& list, char separator, const std::string& word) {
    std::istringstream parts(list);
    for (std::string part; std::getline(parts, part, separator);)
        if (part == word) return true;
    return false;
}

bool given_text(const Json& values, const char* name) { return !values[name].get_ref<const std::string&>().empty(); }

bool lora_alone(const Json& values) { return values["method"] == "lora"; }
bool full(const Json& values) { return values["method"] == "full"; }
bool dense(const Json& values) { return values["attention"] == "dense"; }
bool keeps_rope(const Json& values) { return values["rope"] == "keep"; }
bool another_rope_than_llama3(const Json& values) {
    return values["rope"] == "linear" || values["rope"] == "ntk" || values["rope"] == "yarn";
}
bool another_rope_than_yarn(const Json& values) {
    return values["rope"] == "linear" || values["rope"] == "ntk" || values["rope"] == "llama3";
}
bool frozen(const Json& values, const char* part) {
    return values["method"] == "longlora" && !has_word(values["train"], ',', part);
}
bool frozen_embedding(const Json& values) { return frozen(values, "embed"); }
bool frozen_norms(const Json& values) { return frozen(values, "norm"); }
bool only_warm_up(const Json& values) { return values["steps"] >= 1 && values["warmup"] > values["steps"]; }
bool no_decay(const Json& values) {
    return (values["schedule"] == "linear" || values["schedule"] == "cosine") && values["steps"] >= 1 &&
           values["warmup"] >= values["steps"];
}
bool from_scratch(const Json& values) { return given_text(values, "init"); }
bool nothing_random_in_full(const Json& values) {
    return values["order"] == "sequential" && full(values) && !from_scratch(values);
}
bool nothing_random_in_adapter(const Json& values) {
    return values["order"] == "sequential" && given_text(values, "adapter");
}
bool never_resumes(const Json& values) { return values["resume"] == "never"; }
bool searches_mesh(const Json& values) { return values["find"] == true; }
bool searches_context(const Json& values) { return values["max-context"] == true; }
bool only_token_ids(const Json& values) { return values["vocabulary"] != 0; }
/// A folder may hold .bin files.
bool no_bin_files(const Json& values) {
    return std::ranges::all_of(values["INPUT"], [](const Json& input) {
        const std::string& path = input.get_ref<const std::string&>();
        return std::ranges::any_of(std::initializer_list<const char*>{".txt", ".json", ".jsonl", ".gz", ".zst"},
                                   [&](const char* ending) { return path.ends_with(ending); });
    });
}

constexpr WithoutEffect kTable[] = {
    {"train plan", "train", "with --method lora", lora_alone,
     "that method trains LoRA alone; leave --train out, or take --method longlora"},
    {"train plan", "train", "with --method full", full, "that method trains every parameter; leave --train out"},
    {"train plan", "adapter", "with --method full", full,
     "that method has no LoRA; export the adapter merged and train that model"},
    {"train plan", "lora-rank", "with --method full", full, "that method has no LoRA; leave --lora-rank out"},
    {"train plan", "lora-alpha", "with --method full", full, "that method has no LoRA; leave --lora-alpha out"},
    {"train plan", "lora-targets", "with --method full", full, "that method has no LoRA; leave --lora-targets out"},
    {"train plan", "adapter", "with --init", from_scratch,
     "training starts from random weights; leave --adapter out, or give the adapter's model with --model"},
    {"train plan", "lr-embed", "with --method lora", lora_alone,
     "that method does not train the embedding; leave --lr-embed out"},
    {"train plan", "lr-embed", "unless --train names embed", frozen_embedding,
     "the embedding is not trained; leave --lr-embed out, or add embed to --train"},
    {"train plan", "lr-norm", "with --method lora", lora_alone,
     "that method does not train the norms; leave --lr-norm out"},
    {"train plan", "lr-norm", "unless --train names norm", frozen_norms,
     "the norms are not trained; leave --lr-norm out, or add norm to --train"},
    {"train plan", "warmup", "beyond --steps", only_warm_up,
     "the training ends before its warm-up; take at most as many steps of warm-up as --steps"},
    {"train plan", "schedule", "unless --steps is above --warmup", no_decay,
     "the learning rate falls only after the warm-up; take fewer steps of --warmup, or more --steps"},
    {"train plan", "seed", "with --order sequential and --method full", nothing_random_in_full,
     "nothing in this training is random; leave --seed out"},
    {"train plan", "seed", "with --order sequential and --adapter", nothing_random_in_adapter,
     "nothing in this training is random; leave --seed out"},
    {"train", "allow-change", "with --resume never", never_resumes,
     "there is no checkpoint to differ from; leave --allow-change out"},
    {"train plan evaluate", "group", "with --attention dense", dense,
     "every token sees all tokens before it; leave it out or choose another --attention"},
    {"train plan evaluate", "rope-factor", "with --rope keep", keeps_rope,
     "the model's rotary scaling stays as it is; leave --rope-factor out, or take --rope auto"},
    {"train plan evaluate", "rope-low-freq-factor", "unless --rope is llama3", another_rope_than_llama3,
     "no other scaling has this parameter; leave --rope-low-freq-factor out"},
    {"train plan evaluate", "rope-high-freq-factor", "unless --rope is llama3", another_rope_than_llama3,
     "no other scaling has this parameter; leave --rope-high-freq-factor out"},
    {"train plan evaluate", "rope-beta-fast", "unless --rope is yarn", another_rope_than_yarn,
     "no other scaling has this parameter; leave --rope-beta-fast out"},
    {"train plan evaluate", "rope-beta-slow", "unless --rope is yarn", another_rope_than_yarn,
     "no other scaling has this parameter; leave --rope-beta-slow out"},
    {"plan", "rank", "with --find", searches_mesh,
     "many meshes are planned, and no rank of them is shown; leave --rank out, or plan one mesh without --find"},
    {"plan", "rank", "with --max-context", searches_context,
     "the rank with the most memory is shown; leave --rank out, or plan the context that was found"},
    {"prepare", "bos", "with --vocabulary", only_token_ids,
     "all inputs are token ids, which stay as they are; leave --bos out"},
    {"prepare", "eos", "with --vocabulary", only_token_ids,
     "all inputs are token ids, which stay as they are; leave --eos out"},
    {"prepare", "bin-type", "without .bin files", no_bin_files,
     "it is the type of the token ids in them; leave --bin-type out"},
};

/// " 0.5", " embed,norm"; "" for an option without a value.
std::string value_text(const Json& value) {
    if (value.is_string()) return " " + value.get<std::string>();
    if (value.is_number_float()) return text(" ", value.get<double>());
    if (!value.is_array()) return " " + to_line(value);
    std::string out;
    for (const Json& one : value) out += (out.empty() ? " " : ",") + one.get<std::string>();
    return out;
}

}  // namespace

std::span<const WithoutEffect> options_without_effect() { return kTable; }

void refuse_without_effect(const std::string& command, const std::vector<std::string>& given, const Json& values) {
    for (const WithoutEffect& row : kTable)
        if (has_word(row.commands, ' ', command) && std::ranges::find(given, row.option) != given.end() &&
            row.holds(values))
            fail(text("--", row.option, value_text(values[row.option]), " has no effect ", row.when, ": ", row.reason));
}

}  // namespace longlora
