// Allocation of the flat buffers and movement of single parameters between host and device. Filling from files is weights_load.cpp.
#include "model/weights.h"

#include <cstring>

namespace longlora {
namespace {

constexpr std::int64_t kStagingElements = 1 << 22;   // 16 MiB of float32 at a time

/// n elements of `from` (any float type) as elements of `to` (float32 or bfloat16).
void convert(std::byte* to, DType to_type, const std::byte* from, DType from_type, std::int64_t n) {
    if (to_type == from_type) {
        std::memcpy(to, from, static_cast<std::size_t>(n * size_of(to_type)));
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
        case DType::float32: return each([&](std::int64_t i) { return reinterpret_cast<const float*>(from)[i]; });
        case DType::float64: return each([&](std::int64_t i) { return reinterpret_cast<const double*>(from)[i]; });
        case DType::bfloat16: return each([&](std::int64_t i) { return float(reinterpret_cast<const bf16*>(from)[i]); });
        case DType::float16: return each([&](std::int64_t i) { return float(reinterpret_cast<const fp16*>(from)[i]); });
        default: ensure(false, "weights are converted between float types only");
    }
}

}  // namespace

Weights::Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables, const WeightsOptions& options)
    : device_(&device), config_(config), trainables_(trainables), list_(list_parameters(config, trainables)), options_(options) {
    trainable_.resize(list_.units.size());
    frozen_.resize(list_.units.size());
    Ops ops = device.ops();
    for (std::size_t unit = 0; unit < list_.units.size(); ++unit) {
        const auto [trainable, frozen] = list_.units[unit];
        if (frozen) frozen_[unit] = device.memory().tensor(options.frozen, {frozen}, Use::weights);
        if (!trainable) continue;
        auto& t = trainable_[unit];
        const auto zeros = [&](Use use) {
            ArenaTensor x = device.memory().tensor(DType::float32, {trainable}, use);
            ops.fill(x, 0);
            return x;
        };
        t.master = zeros(Use::masters);
        if (options.real != DType::float32) t.rounded = device.memory().tensor(options.real, {trainable}, Use::weights);
        if (!options.training) continue;
        t.moment1 = zeros(Use::moments);
        t.moment2 = zeros(Use::moments);
        t.gradient = zeros(Use::gradients);
    }
}

Tensor Weights::part(const ArenaTensor& flat, const Parameter& p) const { return flat ? flat->slice(p.offset, p.shape.count()).reshaped(p.shape) : Tensor{}; }

Tensor Weights::weight(const Parameter& p) const {
    if (!p.trainable) return part(frozen_[static_cast<std::size_t>(p.unit)], p);
    return part(options_.real == DType::float32 ? buffers(p.unit).master : buffers(p.unit).rounded, p);
}
Tensor Weights::gradient(const Parameter& p) const { return p.trainable ? part(buffers(p.unit).gradient, p) : Tensor{}; }
Tensor Weights::master(const Parameter& p) const { return p.trainable ? part(buffers(p.unit).master, p) : Tensor{}; }
Tensor Weights::moment(const Parameter& p, int which) const { return part(which == 1 ? buffers(p.unit).moment1 : buffers(p.unit).moment2, p); }

void Weights::set(const Parameter& p, const HostTensor& value, const std::string& where) {
    require(value.shape == p.shape, "'", p.name, "' has shape ", to_text(value.shape), " in ", where, ", but the model's configuration asks for ", to_text(p.shape),
            "; take the config.json that belongs to these weights");
    require(value.dtype == DType::float32 || value.dtype == DType::float64 || value.dtype == DType::bfloat16 || value.dtype == DType::float16, "'", p.name, "' in ", where,
            " has type ", name_of(value.dtype), "; weights must be float32, float64, bfloat16 or float16 (quantised models cannot be trained)");
    if (device_->kind() == DeviceKind::plan) return;
    const Tensor target = (p.trainable ? master(p) : weight(p)).reshaped({p.shape.count()});
    const std::int64_t n = p.shape.count();
    ArenaTensor staging = device_->pinned().tensor(target.dtype, {std::min(n, kStagingElements)}, Use::workspace);
    for (std::int64_t begin = 0; begin < n; begin += kStagingElements) {
        const std::int64_t count = std::min(kStagingElements, n - begin);
        convert(staging->bytes, target.dtype, value.bytes + begin * size_of(value.dtype), value.dtype, count);
        device_->copy_to_device(target.slice(begin, count), staging->slice(0, count), Device::compute_stream());
        device_->synchronize(Device::compute_stream());
    }
    if (p.trainable && options_.real != DType::float32) device_->ops().copy(weight(p), master(p));
}

std::vector<float> Weights::get(const Parameter& p) const {
    const Tensor source = (p.trainable ? master(p) : weight(p)).reshaped({p.shape.count()});
    std::vector<float> out(static_cast<std::size_t>(source.count()));
    ArenaTensor staging = device_->pinned().tensor(source.dtype, {std::min(source.count(), kStagingElements)}, Use::workspace);
    for (std::int64_t begin = 0; begin < source.count(); begin += kStagingElements) {
        const std::int64_t count = std::min(kStagingElements, source.count() - begin);
        device_->copy_to_host(staging->slice(0, count), source.slice(begin, count), Device::compute_stream());
        device_->synchronize(Device::compute_stream());
        convert(reinterpret_cast<std::byte*>(out.data() + begin), DType::float32, staging->bytes, source.dtype, count);
    }
    return out;
}

void Weights::refresh_rounded() {
    if (options_.real == DType::float32) return;
    for (const auto& t : trainable_)
        if (t.master) device_->ops().copy(t.rounded, t.master);
}

}  // namespace longlora
