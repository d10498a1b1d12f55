// The one list of parameters: name, shape, unit, group, and whether it is trained. Loading, saving, counting,
// sharding and the optimizer all follow it. It holds no values; weights.h does. Names are Hugging Face's; LoRA
// matrices are PROJECTION.lora_A.weight and PROJECTION.lora_B.weight.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/tensor.h"
#include "model/config.h"
#include "model/stage.h"

namespace longlora {

/// The unit of the embedding; layer l is unit l + 1.
constexpr std::int64_t kEmbeddingUnit = 0;

enum class Method { longlora, lora, full };
Method method_of(const std::string& name);
std::string_view name_of(Method method);

/// The group decides the learning rate of a parameter, and whether it is trained.
enum class ParameterGroup : std::uint8_t { weight, embedding, norm, lora };

/// The seven projections of a layer, in the order of a forward pass.
enum class Projection : std::uint8_t { q, k, v, o, gate, up, down };
constexpr int kNumProjections = 7;
constexpr std::string_view name_of(Projection p) {
    constexpr std::string_view names[] = {"q", "k", "v", "o", "gate", "up", "down"};
    return names[static_cast<int>(p)];
}

struct TrainableSet {
    Method method = Method::longlora;
    bool embedding = true, norm = true, lm_head = false;  ///< trained besides LoRA (`--train`)
    std::int64_t lora_rank = 8;
    double lora_alpha = 16;
    std::vector<Projection> lora_targets = {Projection::q, Projection::k, Projection::v, Projection::o};
    bool has_lora() const { return method != Method::full; }
    bool targets(Projection p) const;
    float lora_scale() const { return static_cast<float>(lora_alpha / static_cast<double>(lora_rank)); }
};

/// Nothing is trained and there is no LoRA: for the evaluation of a merged or base model.
TrainableSet nothing_trainable();

/// Parses "q,k,v,o" (also q_proj and so on); unknown names are refused.
std::vector<Projection> lora_targets_of(const std::string& list);

struct Parameter {
    std::string name;
    Shape shape;
    ParameterGroup group = ParameterGroup::weight;
    bool trainable = false;
    std::int64_t unit = 0;    ///< 0: embedding, 1 .. L: layers, L+1: final norm and lm_head
    std::int64_t offset = 0;  ///< of its first element in the unit's flat buffer of trainable or of frozen parameters
};

/// The sizes of a unit's flat buffers in elements, with the holes between parameters (each begins at a multiple of
/// 64).
struct UnitLayout {
    std::int64_t trainable_count = 0, frozen_count = 0;
};

struct ParameterList {
    std::vector<Parameter> parameters;  ///< in unit order
    std::vector<UnitLayout> units;      ///< all L + 2 of the model; units of other stages are empty
    std::unordered_map<std::string, std::size_t>
        index{};  ///< name -> position in `parameters`; a map, since every use of a weight looks up its name
    const Parameter* look_up(const std::string& name) const;  ///< nullptr: not in this list
    const Parameter& find(const std::string& name) const;     ///< ensure()s that it exists
    std::int64_t trainable_elements() const;                  ///< without holes
    std::int64_t total_elements() const;
};

/// All parameters of a model with these trainables. A tied model has no lm_head.weight: its embedding is also the
/// head.
ParameterList list_parameters(const ModelConfig& config, const TrainableSet& trainables);
/// The parameters that a pipeline stage holds, at the same offsets of the same units. In a tied model the last stage
/// holds a copy of the embedding as its head.
ParameterList list_parameters(const ModelConfig& config, const TrainableSet& trainables, const Stage& stage);

/// "model.layers.3.self_attn.q_proj" and so on.
std::string projection_name(std::int64_t layer, Projection p);

}  // namespace longlora
