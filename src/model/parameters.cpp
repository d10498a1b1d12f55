// Builds the list in the order of a forward pass, and places the trainable and the frozen parameters of each unit in
// flat buffers.
#include "model/parameters.h"

#include <algorithm>
#include <array>
#include <sstream>

namespace longlora {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements: 256 bytes of float32

std::vector<std::string> split(const std::string& list) {
    std::vector<std::string> parts;
    std::stringstream in(list);
    for (std::string part; std::getline(in, part, ',');)
        if (!part.empty()) parts.push_back(part);
    return parts;
}

struct Builder {
    const TrainableSet& trainables;
    ParameterList list;

    void add(std::int64_t unit, std::string name, Shape shape, ParameterGroup group, bool trainable) {
        auto& layout = list.units[unit];
        auto& end = trainable ? layout.trainable_count : layout.frozen_count;
        list.index.emplace(name, list.parameters.size());
        list.parameters.push_back({std::move(name), shape, group, trainable, unit, end});
        end += (shape.count() + kAlignment - 1) / kAlignment * kAlignment;
    }
    bool trains(ParameterGroup group) const {
        switch (trainables.method) {
            case Method::full:
                return true;
            case Method::lora:
                return group == ParameterGroup::lora;
            case Method::longlora:
                break;
        }
        return group == ParameterGroup::lora || (group == ParameterGroup::norm && trainables.norm) ||
               (group == ParameterGroup::embedding && trainables.embedding);
    }
    void add(std::int64_t unit, const std::string& name, Shape shape, ParameterGroup group) {
        add(unit, name, shape, group, trains(group));
    }

    void add_projection(std::int64_t layer, Projection p, std::int64_t out, std::int64_t in) {
        const std::string name = projection_name(layer, p);
        add(layer + 1, name + ".weight", {out, in}, ParameterGroup::weight);
        if (!trainables.targets(p)) return;
        add(layer + 1, name + ".lora_A.weight", {trainables.lora_rank, in}, ParameterGroup::lora);
        add(layer + 1, name + ".lora_B.weight", {out, trainables.lora_rank}, ParameterGroup::lora);
    }
    void add_layer(std::int64_t layer, const ModelConfig& c) {
        const std::int64_t q_width = c.num_heads * c.head_dim, kv_width = c.num_kv_heads * c.head_dim;
        const std::string prefix = text("model.layers.", layer, ".");
        add(layer + 1, prefix + "input_layernorm.weight", {c.hidden}, ParameterGroup::norm);
        add_projection(layer, Projection::q, q_width, c.hidden);
        add_projection(layer, Projection::k, kv_width, c.hidden);
        add_projection(layer, Projection::v, kv_width, c.hidden);
        add_projection(layer, Projection::o, c.hidden, q_width);
        add(layer + 1, prefix + "post_attention_layernorm.weight", {c.hidden}, ParameterGroup::norm);
        add_projection(layer, Projection::gate, c.intermediate, c.hidden);
        add_projection(layer, Projection::up, c.intermediate, c.hidden);
        add_projection(layer, Projection::down, c.hidden, c.intermediate);
    }
};

}  // namespace

Method method_of(const std::string& name) {
    if (name == "longlora") return Method::longlora;
    if (name == "lora") return Method::lora;
    require(name == "full", "the method '", name, "' is not known; take longlora, lora or full");
    return Method::full;
}

std::string_view name_of(Method method) {
    return method == Method::longlora ? "longlora" : method == Method::lora ? "lora" : "full";
}

bool TrainableSet::targets(Projection p) const {
    return has_lora() && std::find(lora_targets.begin(), lora_targets.end(), p) != lora_targets.end();
}

TrainableSet nothing_trainable() {
    TrainableSet set;
    set.method = Method::lora;
    set.lora_targets.clear();
    return set;
}

std::vector<Projection> lora_targets_of(const std::string& list) {
    std::vector<Projection> targets;
    for (std::string part : split(list)) {
        if (part.ends_with("_proj")) part.resize(part.size() - 5);
        int p = 0;
        while (p < kNumProjections && name_of(Projection(p)) != part) ++p;
        require(p < kNumProjections, "the LoRA target '", part, "' is not known; take some of q,k,v,o,gate,up,down");
        if (std::find(targets.begin(), targets.end(), Projection(p)) == targets.end()) targets.push_back(Projection(p));
    }
    require(!targets.empty(), "the list of LoRA targets is empty; take some of q,k,v,o,gate,up,down");
    std::sort(targets.begin(), targets.end());
    return targets;
}

const Parameter* ParameterList::look_up(const std::string& name) const {
    const auto found = index.find(name);
    return found == index.end() ? nullptr : &parameters[found->second];
}

const Parameter& ParameterList::find(const std::string& name) const {
    const Parameter* found = look_up(name);
    ensure(found != nullptr, name.c_str());
    return *found;
}

std::int64_t ParameterList::trainable_elements() const {
    std::int64_t sum = 0;
    for (const auto& p : parameters) sum += p.trainable ? p.shape.count() : 0;
    return sum;
}

std::int64_t ParameterList::total_elements() const {
    std::int64_t sum = 0;
    for (const auto& p : parameters) sum += p.shape.count();
    return sum;
}

std::string projection_name(std::int64_t layer, Projection p) {
    const char* block = p <= Projection::o ? ".self_attn." : ".mlp.";
    return text("model.layers.", layer, block, name_of(p), "_proj");
}

ParameterList list_parameters(const ModelConfig& config, const TrainableSet& trainables) {
    return list_parameters(config, trainables, whole_model(config));
}

ParameterList list_parameters(const ModelConfig& c, const TrainableSet& trainables, const Stage& stage) {
    ensure(stage.first_layer >= 0 && stage.num_layers >= 0 && stage.first_layer + stage.num_layers <= c.num_layers,
           "a stage holds layers of the model");
    Builder b{trainables, {}};
    b.list.units.resize(c.num_layers + 2);
    if (stage.has_embedding || (stage.has_head && c.tied))
        b.add(0, "model.embed_tokens.weight", {c.vocabulary, c.hidden}, ParameterGroup::embedding);
    for (std::int64_t layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer)
        b.add_layer(layer, c);
    if (!stage.has_head) return std::move(b.list);
    b.add(c.num_layers + 1, "model.norm.weight", {c.hidden}, ParameterGroup::norm);
    if (!c.tied) {
        const bool trained =
            trainables.method == Method::full || (trainables.method == Method::longlora && trainables.lm_head);
        b.add(c.num_layers + 1, "lm_head.weight", {c.vocabulary, c.hidden}, ParameterGroup::weight, trained);
    }
    return std::move(b.list);
}

}  // namespace longlora
