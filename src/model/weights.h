// Weights: the memory behind the parameter list on one device - flat buffers per unit - and filling it from files or from a seed.
// It does not know how a training step runs (stage.h) nor how values change (src/train/optimizer).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "kernels/device.h"
#include "model/parameters.h"

namespace longlora {

struct WeightsOptions {
    DType real = DType::float32;     ///< computing type
    DType frozen = DType::float32;   ///< how frozen weights are kept (frozen_dtype_of)
    bool training = true;            ///< false: no moments, no gradients
};

/// bfloat16 when computing in bfloat16, or when every frozen tensor of the files is bfloat16 (then no bit is lost); else float32.
DType frozen_dtype_of(DType real, const ParameterList& list, const SafetensorsFolder& files);

/// One unit's trainables: float32 masters, moments and gradients, and what computing reads (the masters themselves in float32).
/// All have UnitLayout::trainable_count elements; holes are zero. Empty when a unit trains nothing.
struct TrainableBuffers {
    ArenaTensor master, moment1, moment2, gradient, rounded;
};

class Weights {
public:
    Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables, const WeightsOptions& options);

    Device& device() const { return *device_; }
    const ModelConfig& config() const { return config_; }
    const TrainableSet& trainables() const { return trainables_; }
    const ParameterList& list() const { return list_; }
    const WeightsOptions& options() const { return options_; }
    std::int64_t num_units() const { return static_cast<std::int64_t>(list_.units.size()); }
    const TrainableBuffers& buffers(std::int64_t unit) const { return trainable_[static_cast<std::size_t>(unit)]; }

    /// What operations read: real for trainables, the frozen type for the others.
    Tensor weight(const Parameter& p) const;
    /// float32; trainables only (an empty Tensor for frozen ones).
    Tensor gradient(const Parameter& p) const;
    Tensor master(const Parameter& p) const;
    Tensor moment(const Parameter& p, int which) const;   ///< which = 1 or 2

    /// Copies a host tensor of float type into the parameter (master and rounded, or frozen), converting exactly or rounding to nearest.
    /// Shapes must agree: otherwise an Error naming parameter, both shapes and `where`.
    void set(const Parameter& p, const HostTensor& value, const std::string& where);
    /// The parameter's exact values on the host: float32 (masters, or frozen ones widened).
    std::vector<float> get(const Parameter& p) const;
    /// Makes the rounded copies follow the masters.
    void refresh_rounded();

private:
    Tensor part(const ArenaTensor& flat, const Parameter& p) const;
    Device* device_;
    ModelConfig config_;
    TrainableSet trainables_;
    ParameterList list_;
    WeightsOptions options_;
    std::vector<TrainableBuffers> trainable_;
    std::vector<ArenaTensor> frozen_;   // per unit
};

/// All base parameters from a model's files; LoRA matrices from the seed (A uniform +-1/sqrt(in), B zero). A missing tensor is an Error that names it.
/// Tensors of the files that the model does not have are refused too, but for rotary inv_freq and a tied lm_head.
void load_model(Weights& weights, const SafetensorsFolder& files, std::uint64_t seed);
/// From scratch: normal(0, initializer_range) for matrices, ones for norms; LoRA as above. A pure function of seed and name.
void initialise_model(Weights& weights, std::uint64_t seed);
/// LoRA only: A uniform(+-1/sqrt(in)), B zero.
void initialise_lora(Weights& weights, std::uint64_t seed);

}  // namespace longlora
