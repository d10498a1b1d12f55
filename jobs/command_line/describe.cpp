// Each number that decides a shape or a position appears exactly once in the text.
#include "jobs/command_line/describe.h"

#include "core/error.h"

namespace longlora {

std::string grouped(std::int64_t n) {
    std::string digits = std::to_string(n);
    const std::ptrdiff_t first = n < 0 ? 1 : 0;
    for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3)
        digits.insert(static_cast<std::size_t>(at), ",");
    return digits;
}

std::string describe_model(const ModelConfig& c) {
    return text(c.model_type, ", ", c.num_layers, " layers, hidden size ", grouped(c.hidden), ", intermediate size ",
                grouped(c.intermediate), ", ", c.num_heads, " query / ", c.num_kv_heads, " key-value heads of ",
                c.head_dim, ", vocabulary ", grouped(c.vocabulary), c.tied ? ", tied embeddings" : "");
}

std::string describe_context(const ModelConfig& c) {
    std::string out = grouped(c.covered_positions()) + " tokens";
    if (c.has_two_readings())
        out +=
            text(" (", grouped(c.max_positions), " if that is the length after the scaling; config.json does not say)");
    if (c.rope.kind != RopeKind::none)
        out += text(", rotary scaling ", name_of(c.rope.kind), " by ", c.rope.factor, " from ",
                    grouped(c.original_positions()));
    return out + text(", theta ", c.rope.theta);
}

std::string describe_trainables(const TrainableSet& set) {
    if (set.method == Method::full) return "full: every parameter";
    std::string targets;
    for (const Projection p : set.lora_targets) targets += (targets.empty() ? "" : ",") + std::string(name_of(p));
    std::string out =
        text(name_of(set.method), ": LoRA on ", targets, " with rank ", set.lora_rank, " and alpha ", set.lora_alpha);
    if (set.method == Method::lora) return out;
    if (set.embedding) out += ", embedding";
    if (set.norm) out += ", norms";
    if (set.lm_head) out += ", lm_head";
    return out;
}

}  // namespace longlora
