// Allocates the flat buffers, computes which part of them this rank keeps, and copies parameters from and to the
// host. weights_load.cpp fills them from files.
#include "model/weights.h"

#include <cstring>

namespace longlora {
namespace {

constexpr std::int64_t kStagingElements = 1 << 22;  // 16 MiB of float32 at a time

/// Converts n elements of `from` (any float type) to `to` (float32 or bfloat16).
void convert(std::byte* to, DType to_type, const std::byte* from, DType from_type, std::int64_t n) {
    if (to_type == from_type) {
        std::memcpy(to, from, n * size_of(to_type));
        return;
    }
    const auto each = [&](auto read) {
        if (to_type == DType::float32) {
            auto* out = reinterpret_cast<float*>(to);
            for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(read(i));
        } else {
            auto* out = reinterpret_cast<bf16*>(to);
            for (std::int64_t i = 0; i < n; ++i) out[i] = bf16(static_cast<float>(read(i)));
        }
    };
    switch (from_type) {
        case DType::float32:
            return each([&](std::int64_t i) { return reinterpret_cast<const float*>(from)[i]; });
        case DType::float64:
            return each([&](std::int64_t i) { return reinterpret_cast<const double*>(from)[i]; });
        case DType::bfloat16:
            return each([&](std::int64_t i) { return float(reinterpret_cast<const bf16*>(from)[i]); });
        case DType::float16:
            return each([&](std::int64_t i) { return float(reinterpret_cast<const fp16*>(from)[i]); });
        default:
            ensure(false, "weights are converted between float types only");
    }
}

/// The elements that `a` and `b` have in common; both are ranges of the same row.
parallel::Shard common(parallel::Shard a, parallel::Shard b) {
    const std::int64_t begin = std::max(a.begin, b.begin), end = std::min(a.begin + a.count, b.begin + b.count);
    return {begin, std::max<std::int64_t>(0, end - begin)};
}

parallel::Shard in_unit(const Parameter& p) { return {p.offset, p.shape.count()}; }

/// This parameter in a whole flat buffer; empty if there is no buffer.
Tensor part(const ArenaTensor& flat, const Parameter& p) {
    return flat ? flat->slice(p.offset, p.shape.count()).reshaped(p.shape) : Tensor{};
}
/// The part `own` of a whole flat buffer; empty if there is no buffer.
Tensor part(const ArenaTensor& flat, parallel::Shard own) {
    return flat ? flat->slice(own.begin, own.count) : Tensor{};
}

}  // namespace

Weights::Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables,
                 const WeightsOptions& options)
    : Weights(device, config, trainables, options, whole_model(config)) {}

Weights::Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables,
                 const WeightsOptions& options, const Stage& stage)
    : device_(&device),
      config_(config),
      trainables_(trainables),
      stage_(stage),
      list_(list_parameters(config, trainables, stage)),
      options_(options) {
    ensure(options.zero >= 0 && options.zero <= 3, "ZeRO has stages 0 to 3");
    if (!options.data || options.data->size() == 1) options_.zero = 0;
    buffers_.resize(list_.units.size());
    for (std::int64_t unit = 0; unit < num_units(); ++unit) allocate(unit);
}

void Weights::allocate(std::int64_t unit) {
    UnitBuffers& b = buffers(unit);
    const auto [trainable, frozen] = layout(unit);
    const auto zeros = [&](DType dtype, std::int64_t count, Use use) {
        ArenaTensor x = device_->memory().tensor(dtype, {count}, use);
        device_->ops().fill(x, 0);
        return x;
    };
    const int zero = options_.zero;
    if (frozen) b.frozen = zeros(options_.frozen, zero == 3 ? own_frozen(unit).count : frozen, Use::weights);
    if (!trainable) return;
    const std::int64_t mine = own(unit).count;
    const bool rounds = options_.real != DType::float32;
    // In float32 the weights are also the masters. At ZeRO 1 and 2 they count as weights, since other ranks own most
    // of them.
    b.weight = zeros(options_.real, zero == 3 ? mine : trainable,
                     rounds || zero == 1 || zero == 2 ? Use::weights : Use::masters);
    if (rounds) b.master = zeros(DType::float32, mine, Use::masters);
    if (!options_.training) return;
    b.moment1 = zeros(DType::float32, mine, Use::moments);
    b.moment2 = zeros(DType::float32, mine, Use::moments);
    b.gradient = zeros(DType::float32, zero >= 2 ? mine : trainable, Use::gradients);
}

parallel::Shard Weights::share_of(std::int64_t count) const {
    return options_.data ? parallel::shard_of(count, options_.data->rank(), options_.data->size())
                         : parallel::Shard{0, count};
}
parallel::Shard Weights::own(std::int64_t unit) const {
    return options_.zero >= 1 ? share_of(layout(unit).trainable_count)
                              : parallel::Shard{0, layout(unit).trainable_count};
}
parallel::Shard Weights::own_frozen(std::int64_t unit) const {
    return options_.zero == 3 ? share_of(layout(unit).frozen_count) : parallel::Shard{0, layout(unit).frozen_count};
}
/// The first stage is responsible for the embedding; no rank is responsible for the copy on the last stage.
parallel::Shard Weights::sole(std::int64_t unit) const {
    return unit == 0 && !stage_.has_embedding ? parallel::Shard{} : share_of(layout(unit).trainable_count);
}

std::vector<OwnedPart> Weights::parts_of(parallel::Shard (Weights::*of)(std::int64_t) const) const {
    std::vector<OwnedPart> parts;
    for (const Parameter& p : list_.parameters) {
        if (!p.trainable) continue;
        const parallel::Shard mine = common(in_unit(p), (this->*of)(p.unit));
        if (mine.count) parts.push_back({&p, {mine.begin - p.offset, mine.count}, mine.begin - own(p.unit).begin});
    }
    return parts;
}

Tensor Weights::own_master(std::int64_t unit) const {
    const UnitBuffers& b = buffers(unit);
    if (options_.real != DType::float32) return b.master;
    return options_.zero == 3 ? Tensor(b.weight) : part(b.weight, own(unit));
}
Tensor Weights::own_moment(std::int64_t unit, int which) const {
    return which == 1 ? buffers(unit).moment1 : buffers(unit).moment2;
}
Tensor Weights::own_gradient(std::int64_t unit) const {
    return options_.zero >= 2 ? Tensor(buffers(unit).gradient) : part(buffers(unit).gradient, own(unit));
}
Tensor Weights::own_weight(std::int64_t unit) const {
    if (options_.real == DType::float32) return {};
    return options_.zero == 3 ? Tensor(buffers(unit).weight) : part(buffers(unit).weight, own(unit));
}

ConstTensor Weights::weight(const Parameter& p) const {
    const UnitBuffers& b = buffers(p.unit);
    if (options_.zero < 3) return part(p.trainable ? b.weight : b.frozen, p);
    const ArenaTensor& whole = p.trainable ? b.open_weight : b.open_frozen;
    ensure(static_cast<bool>(whole), "at ZeRO 3 weights are read while their unit is open");
    return part(whole, p);
}

Tensor Weights::gradient(const Parameter& p) const {
    if (!p.trainable) return {};
    return part(options_.zero >= 2 ? buffers(p.unit).open_gradient : buffers(p.unit).gradient, p);
}

void Weights::set(const Parameter& p, const HostTensor& value, const std::string& where, const ReadObserver& on_read) {
    require(value.shape == p.shape, "'", p.name, "' has shape ", to_text(value.shape), " in ", where,
            ", but the model's configuration asks for ", to_text(p.shape),
            "; take the config.json that belongs to these weights");
    set_begin(p, value, where, on_read);
}

void Weights::set_begin(const Parameter& p, const HostTensor& value, const std::string& where,
                        const ReadObserver& on_read) {
    require(value.dtype == DType::float32 || value.dtype == DType::float64 || value.dtype == DType::bfloat16 ||
                value.dtype == DType::float16,
            "'", p.name, "' in ", where, " has type ", name_of(value.dtype),
            "; weights must be float32, float64, bfloat16 or float16 (quantised models cannot be trained)");
    const parallel::Shard mine = common(kept(p), {0, value.count()});
    for (std::int64_t at = mine.begin; at < mine.end(); at += kStagingElements) {
        const HostTensor block{
            value.dtype, {std::min(kStagingElements, mine.end() - at)}, value.bytes + at * size_of(value.dtype)};
        if (on_read) on_read(p.name, at, block);
        set_part(p, at, block);
    }
}

parallel::Shard Weights::kept(const Parameter& p) const {
    const parallel::Shard mine =
        options_.zero < 3 ? in_unit(p) : common(in_unit(p), p.trainable ? own(p.unit) : own_frozen(p.unit));
    return {mine.begin - p.offset, mine.count};
}

void Weights::set_part(const Parameter& p, std::int64_t begin, const HostTensor& values) {
    const UnitBuffers& b = buffers(p.unit);
    const std::int64_t own_begin = own(p.unit).begin;
    if (!p.trainable) return write(b.frozen, own_frozen(p.unit).begin, p, begin, values);
    write(b.weight, options_.zero == 3 ? own_begin : 0, p, begin, values);
    if (b.master) write(b.master, own_begin, p, begin, values);
}

/// Writes those elements of `values` (elements [begin, ...) of p) that lie in `flat` (elements [flat_begin, ...) of
/// p's unit).
void Weights::write(Tensor flat, std::int64_t flat_begin, const Parameter& p, std::int64_t begin,
                    const HostTensor& values) {
    if (device_->kind() == DeviceKind::plan) return;
    const parallel::Shard wanted = common({flat_begin, flat.count()}, {p.offset + begin, values.count()});
    if (!wanted.count) return;
    const ArenaTensor staging =
        device_->pinned().tensor(flat.dtype, {std::min(wanted.count, kStagingElements)}, Use::workspace);
    for (std::int64_t at = wanted.begin; at < wanted.begin + wanted.count; at += kStagingElements) {
        const std::int64_t count = std::min(kStagingElements, wanted.begin + wanted.count - at);
        convert(staging->bytes, flat.dtype, values.bytes + (at - p.offset - begin) * size_of(values.dtype),
                values.dtype, count);
        device_->copy_to_device(flat.slice(at - flat_begin, count), staging->slice(0, count), Device::compute_stream());
        device_->synchronize(Device::compute_stream());
    }
}

std::vector<float> Weights::get(const Parameter& p) const {
    const UnitBuffers& b = buffers(p.unit);
    ensure(options_.zero == 0 || (options_.zero < 3 && !(p.trainable && b.master)),
           "a parameter's values are read where they are all kept");
    const ConstTensor source = part(!p.trainable ? b.frozen
                                    : b.master   ? b.master
                                                 : b.weight,
                                    p)
                                   .reshaped({p.shape.count()});
    std::vector<float> out(source.count());
    const ArenaTensor staging =
        device_->pinned().tensor(source.dtype, {std::min(source.count(), kStagingElements)}, Use::workspace);
    for (std::int64_t begin = 0; begin < source.count(); begin += kStagingElements) {
        const std::int64_t count = std::min(kStagingElements, source.count() - begin);
        device_->copy_to_host(staging->slice(0, count), source.slice(begin, count), Device::compute_stream());
        device_->synchronize(Device::compute_stream());
        convert(reinterpret_cast<std::byte*>(out.data() + begin), DType::float32, staging->bytes, source.dtype, count);
    }
    return out;
}

}  // namespace longlora
