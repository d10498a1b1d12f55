// Fills weights from a model's files or from a seed. Every random element is a pure function of (seed, parameter
// name, index).
#include <cmath>

#include "core/random.h"
#include "model/model_files.h"
#include "model/vocabulary_growth.h"
#include "model/weights.h"

namespace longlora {
namespace {

constexpr std::int64_t kPieceElements = 1 << 20;

/// Computes only the elements that this rank keeps, a piece at a time.
template <class Value> void set_each(Weights& weights, const Parameter& p, Value&& value) {
    if (weights.device().kind() == DeviceKind::plan) return;
    const parallel::Shard kept = weights.kept(p);
    std::vector<float> values(std::min(kept.count, kPieceElements));
    for (std::int64_t at = 0; at < kept.count; at += kPieceElements) {
        const std::int64_t begin = kept.begin + at, count = std::min(kPieceElements, kept.count - at);
        for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(value(begin + i));
        weights.set_part(p, begin, {DType::float32, {count}, reinterpret_cast<const std::byte*>(values.data())});
        weights.device().progress();
    }
}

/// The rows that the files have, and the mean of these rows for the new ones.
void set_grown(Weights& weights, const Parameter& p, const HostTensor& value, const std::string& where,
               const ReadObserver& on_read) {
    const Shape expected = shape_in_files(weights.config(), p);
    require(value.shape == expected, "'", p.name, "' has shape ", to_text(value.shape), " in ", where,
            ", but the base model's configuration asks for ", to_text(expected),
            "; take the config.json that belongs to these weights");
    weights.set_begin(p, value, where, on_read);
    const parallel::Shard kept = weights.kept(p);
    if (kept.end() <= value.count()) return;
    const std::vector<float> mean = mean_row(value);
    const std::int64_t width = p.shape.last();
    for (std::int64_t begin = value.count(); begin < p.shape.count(); begin += width)
        weights.set_part(p, begin, {DType::float32, {width}, reinterpret_cast<const std::byte*>(mean.data())});
}

bool is_lora_a(const Parameter& p) { return p.name.ends_with("lora_A.weight"); }

}  // namespace

DType frozen_dtype_of(DType real, const ParameterList& list, const SafetensorsFolder& files) {
    if (real == DType::bfloat16) return real;
    for (const auto& p : list.parameters) {
        if (p.trainable) continue;
        const auto found = files.find(p.name);
        if (found && found->dtype != DType::bfloat16) return DType::float32;
    }
    return DType::bfloat16;
}

void initialise_lora(Weights& weights, std::uint64_t seed) {
    for (const auto& p : weights.list().parameters) {
        if (p.group != ParameterGroup::lora) continue;
        const double bound = is_lora_a(p) ? 1 / std::sqrt(static_cast<double>(p.shape.last())) : 0;
        const std::uint64_t stream = stream_of(p.name);
        set_each(weights, p, [&](std::uint64_t i) { return bound * (2 * random_uniform(seed, stream, i) - 1); });
    }
}

void initialise_model(Weights& weights, std::uint64_t seed) {
    const double sigma = weights.config().initializer_range;
    for (const auto& p : weights.list().parameters) {
        if (p.group == ParameterGroup::lora) continue;
        const std::uint64_t stream = stream_of(p.name);
        if (p.group == ParameterGroup::norm) set_each(weights, p, [](std::uint64_t) { return 1.0; });
        else set_each(weights, p, [&](std::uint64_t i) { return sigma * random_normal(seed, stream, i); });
    }
    initialise_lora(weights, seed);
}

void load_model(Weights& weights, const SafetensorsFolder& files, std::uint64_t seed, const ReadObserver& on_read) {
    check_tensor_names(files, weights.config());
    for (const auto& p : weights.list().parameters) {
        if (p.group == ParameterGroup::lora) continue;
        if (has_new_rows(weights.config(), p)) set_grown(weights, p, files.get(p.name), files.file_of(p.name), on_read);
        else weights.set(p, files.get(p.name), files.file_of(p.name), on_read);
        weights.device().progress();
    }
    initialise_lora(weights, seed);
}

}  // namespace longlora
