// All functions but make_weights() may fail on one rank alone, so callers run them inside agree().
#include "jobs/experiment/setup.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "parallel/agree.h"

namespace longlora {
namespace {

TrainableSet trainables_of(const TrainOptions& o) {
    TrainableSet set;
    set.method = method_of(o.method);
    set.lora_rank = o.lora_rank;
    set.lora_alpha = o.lora_alpha;
    set.lora_targets = lora_targets_of(o.lora_targets);
    set.embedding = set.norm = set.lm_head = false;
    std::stringstream list(o.train);
    for (std::string part; std::getline(list, part, ',');) {
        if (part == "embed") set.embedding = true;
        else if (part == "norm") set.norm = true;
        else if (part == "lm_head") set.lm_head = true;
        else
            require(part.empty() || part == "none", "--train ", part,
                    " is not known; take some of embed,norm,lm_head or none");
    }
    return set;
}

std::string list_text(const std::vector<Projection>& targets) {
    std::string out;
    for (auto p : targets) out += (out.empty() ? "" : ",") + std::string(name_of(p));
    return out;
}

void check_adapter(const Adapter& adapter, const TrainableSet& set) {
    const auto& a = adapter.trainables;
    require(a.lora_rank == set.lora_rank, "the adapter ", adapter.path, " has LoRA rank ", a.lora_rank, " but the run ",
            set.lora_rank, "; add --lora-rank ", a.lora_rank);
    require(a.lora_alpha == set.lora_alpha, "the adapter ", adapter.path, " has LoRA alpha ", a.lora_alpha,
            " but the run ", set.lora_alpha, "; add --lora-alpha ", a.lora_alpha);
    require(a.lora_targets == set.lora_targets, "the adapter ", adapter.path, " has LoRA on ",
            list_text(a.lora_targets), " but the run on ", list_text(set.lora_targets), "; add --lora-targets ",
            list_text(a.lora_targets));
}

/// "FILE.h5" or "FILE.h5:weight".
DataSource open_source(const std::string& value) {
    std::string path = value;
    double weight = 1;
    if (const auto colon = value.rfind(':'); colon != std::string::npos && !file_exists(value)) {
        char* end = nullptr;
        weight = std::strtod(value.c_str() + colon + 1, &end);
        require(end != value.c_str() + colon + 1 && *end == 0, "--data ", value, ": '", value.substr(colon + 1),
                "' is not a weight; write FILE.h5:2.5");
        path = value.substr(0, colon);
    }
    return {std::make_shared<TokenFile>(path), weight};
}

/// Such a file would only make the batches of other files smaller, or the training stand still.
void require_predictions(const DataOrder& order, std::int64_t source) {
    require(
        order.has_predictions_in_documents(source), "no sequence of ", order.context(), " tokens in ",
        order.file(source).path(),
        " has two tokens of one document, so that with --document-mask nothing is predicted; prepare it with longer "
        "documents or leave --document-mask out");
}

}  // namespace

BaseModel open_base_model(const TrainOptions& o, bool with_weights) {
    BaseModel base;
    base.config = read_config(o.init.empty() ? o.model : o.init);
    base.trainables = trainables_of(o);
    require(!base.trainables.lm_head || !base.config.tied || base.trainables.embedding,
            "--train lm_head: this model's head is its embedding (tied); name embed, which trains both");
    if (with_weights && o.init.empty()) base.files.emplace(o.model);
    if (!o.adapter.empty()) {
        base.adapter = open_adapter(o.adapter, base.config);
        base.config = base.adapter->config;
        check_adapter(*base.adapter, base.trainables);
    }
    base.config = extend_rope(base.config,
                              {o.rope, o.rope_factor, o.rope_theta, o.rope_low_freq_factor, o.rope_high_freq_factor,
                               o.rope_beta_fast, o.rope_beta_slow, o.rope_original},
                              o.context);
    return base;
}

void check_rope_for_context(const TrainOptions& o, const ModelConfig& extended) {
    const bool has_parameters =
        o.rope_low_freq_factor != 0 || o.rope_high_freq_factor != 0 || o.rope_beta_fast != 0 || o.rope_beta_slow != 0;
    require(extended.rope.kind != RopeKind::none || !has_parameters, "the parameters of --rope ", o.rope,
            " have no effect: the model covers the context of ", o.context,
            " tokens without scaling; leave them out, or give --rope-factor");
    if (o.rope_factor == 0) return;
    const std::int64_t original = extended.original_positions();
    // Dynamic scaling keeps max_position_embeddings, so there only the factor says what is covered.
    const auto by_factor =
        static_cast<std::int64_t>(static_cast<double>(original) * extended.rope.factor * (1 + 1e-12));
    const std::int64_t covered = std::max(extended.covered_positions(), by_factor);
    require(covered >= o.context, "--rope-factor ", o.rope_factor, " on the ", original,
            " positions of this model makes a context of ", covered, " tokens, fewer than --context ", o.context,
            "; give --rope-factor ", (o.context + original - 1) / original, " or more, or leave it out");
}

std::unique_ptr<DataOrder> open_data(const TrainOptions& o, const ModelConfig& config) {
    std::vector<DataSource> sources;
    for (const auto& value : o.data) sources.push_back(open_source(value));
    auto order = std::make_unique<DataOrder>(std::move(sources), o.context, sequence_order_of(o.order),
                                             static_cast<std::uint64_t>(o.seed));
    require(order->vocabulary() <= config.vocabulary, "the token files have a vocabulary of ", order->vocabulary(),
            " ids but the model only ", config.vocabulary, "; prepare the data with the model's own tokenizer");
    for (std::int64_t source = 0; o.document_mask.on && source < order->num_sources(); ++source)
        require_predictions(*order, source);
    return order;
}

AttentionPattern pattern_of(const TrainOptions& o) { return {attention_kind(o.attention), o.group}; }

StepOptions step_options_of(const TrainOptions& o) {
    const auto or_lr = [&](double lr) { return lr > 0 ? lr : o.lr; };
    return {o.global_batch,
            o.micro_batch,
            o.clip,
            o.document_mask.on,
            {o.lr, or_lr(o.lr_embed), or_lr(o.lr_norm), o.weight_decay, o.beta1, o.beta2, o.eps}};
}

FilledWeights make_weights(const parallel::HostGroup& group, Device& device, const BaseModel& base,
                           const WeightsOptions& weights_options, const Stage& stage, std::int64_t seed) {
    FilledWeights filled;
    filled.weights = parallel::agreed(group, [&] {
        auto weights = std::make_unique<Weights>(device, base.config, base.trainables, weights_options, stage);
        if (!base.files) initialise_model(*weights, seed);
        return weights;
    });
    if (base.files) {
        filled.model.tensors = load_model_on_all_ranks(group, *filled.weights, *base.files, seed);
        filled.model.hash = content_hash(*base.files, filled.model.tensors);
    }
    if (base.adapter) load_adapter_on_all_ranks(group, *filled.weights, *base.adapter);
    return filled;
}

PlanRequest plan_request(const TrainOptions& o, const BaseModel& base, const WeightsOptions& weights_options,
                         parallel::MeshShape mesh, int rank) {
    return {base.config, base.trainables,           weights_options, pattern_of(o), o.context, step_options_of(o), mesh,
            rank,        o.offload == "activations"};
}

}  // namespace longlora
