// Weights: the memory behind the parameter list on one device - flat buffers per unit, of which ZeRO keeps a part - and
// filling it from files or from a seed. It communicates nothing (zero.h does) and does not know how values change
// (src/train/optimizer).
//
//   by unit, elements kept      ZeRO 0        1             2             3
//   weights that are computed   whole         whole         whole         own part (whole between Zero::open and close)
//   frozen weights              whole         whole         whole         own part (likewise)
//   gradient sums               whole         whole         own part      own part (a whole buffer between
//   Zero::open_gradients and close_gradients) masters, moments            whole         own part      own part      own
//   part
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
#include "parallel/communicator.h"

namespace longlora {

struct WeightsOptions {
    DType real = DType::float32;             ///< computing type
    DType frozen = DType::float32;           ///< how frozen weights are kept (frozen_dtype_of)
    bool training = true;                    ///< false: no moments, no gradients
    int zero = 0;                            ///< ZeRO stage; with one rank it is 0 whatever is asked for
    parallel::Communicator* data = nullptr;  ///< the ranks that share these weights; nullptr: this one only. Weights
                                             ///< ask it for rank and size only.
};

/// bfloat16 when computing in bfloat16, or when every frozen tensor of the files is bfloat16 (then no bit is lost);
/// else float32.
DType frozen_dtype_of(DType real, const ParameterList& list, const SafetensorsFolder& files);

/// Elements of a parameter in this rank's own buffers of its unit.
struct OwnedPart {
    const Parameter* parameter = nullptr;
    parallel::Shard in_parameter;
    std::int64_t in_own = 0;  ///< of the first one, in own_master() and the others
};

class Weights {
public:
    Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables, const WeightsOptions& options,
            const Stage& stage);
    /// Of the whole model.
    Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables, const WeightsOptions& options);

    Device& device() const { return *device_; }
    const ModelConfig& config() const { return config_; }
    const TrainableSet& trainables() const { return trainables_; }
    const Stage& stage() const { return stage_; }
    /// What this stage holds.
    const ParameterList& list() const { return list_; }
    const WeightsOptions& options() const { return options_; }
    std::int64_t num_units() const { return static_cast<std::int64_t>(list_.units.size()); }
    bool holds(std::int64_t unit) const { return layout(unit).trainable_count + layout(unit).frozen_count > 0; }

    /// Of a unit's flat trainables: those whose masters and moments this rank keeps and updates.
    parallel::Shard own(std::int64_t unit) const;
    /// Those for which this rank alone answers among all ranks of the mesh: it saves them, and adds their squares to
    /// the norm. Always within own().
    parallel::Shard sole(std::int64_t unit) const;
    std::vector<OwnedPart> owned_parts() const { return parts_of(&Weights::own); }
    std::vector<OwnedPart> sole_parts() const { return parts_of(&Weights::sole); }

    /// own(unit).count elements; empty when the unit trains nothing, and moments and gradient when nothing is trained.
    Tensor own_master(std::int64_t unit) const;
    Tensor own_moment(std::int64_t unit, int which) const;  ///< which = 1 or 2
    Tensor own_gradient(std::int64_t unit) const;
    /// Where the update writes the rounded weights; empty in float32, where the masters are what is computed with.
    Tensor own_weight(std::int64_t unit) const;

    /// What operations read: real for trainables, the frozen type for the others. At ZeRO 3 only while Zero has the
    /// unit open.
    ConstTensor weight(const Parameter& p) const;
    /// float32, of trainables in training; empty for others, and at ZeRO 2 and 3 but between open_gradients and
    /// close_gradients.
    Tensor gradient(const Parameter& p) const;

    /// Copies a host tensor of float type into the parameter, converting exactly or rounding to nearest. Reads only
    /// what this rank keeps. Shapes must agree: otherwise an Error naming parameter, both shapes and `where`.
    void set(const Parameter& p, const HostTensor& value, const std::string& where);
    /// The elements of a parameter of which this rank keeps anything.
    parallel::Shard kept(const Parameter& p) const;
    /// `values` are elements [begin, begin + count) of the parameter; what this rank does not keep of them is ignored.
    void set_part(const Parameter& p, std::int64_t begin, const HostTensor& values);
    /// The parameter's exact values on the host: float32 (masters, or frozen ones widened). Only where they are all
    /// kept.
    std::vector<float> get(const Parameter& p) const;

private:
    friend class Zero;
    /// Trainables have UnitLayout::trainable_count elements, frozen ones frozen_count, or this rank's part of them;
    /// holes between parameters are zero.
    struct UnitBuffers {
        ArenaTensor weight, frozen;    // what operations read
        ArenaTensor master;            // own part; in float32 there is none: it would be the same as weight's
        ArenaTensor moment1, moment2;  // own part
        ArenaTensor gradient;          // whole, from ZeRO 2 on own part
        ArenaTensor open_weight, open_frozen, open_gradient;  // whole, Zero's
    };
    const UnitLayout& layout(std::int64_t unit) const { return list_.units[static_cast<std::size_t>(unit)]; }
    const UnitBuffers& buffers(std::int64_t unit) const { return buffers_[static_cast<std::size_t>(unit)]; }
    UnitBuffers& buffers(std::int64_t unit) { return buffers_[static_cast<std::size_t>(unit)]; }
    parallel::Shard share_of(std::int64_t count) const;
    parallel::Shard own_frozen(std::int64_t unit) const;
    std::vector<OwnedPart> parts_of(parallel::Shard (Weights::*of)(std::int64_t) const) const;
    void allocate(std::int64_t unit);
    void write(Tensor flat, std::int64_t flat_begin, const Parameter& p, std::int64_t begin, const HostTensor& values);
    Device* device_;
    ModelConfig config_;
    TrainableSet trainables_;
    Stage stage_;
    ParameterList list_;
    WeightsOptions options_;
    std::vector<UnitBuffers> buffers_;
};

/// All base parameters from a model's files; LoRA matrices from the seed (A uniform +-1/sqrt(in), B zero). A missing
/// tensor is an Error that names it. Tensors of the files that the model does not have are refused too, but for rotary
/// inv_freq and a tied lm_head. Every stage looks at the names of all, each rank reads only what it keeps.
void load_model(Weights& weights, const SafetensorsFolder& files, std::uint64_t seed);
/// From scratch: normal(0, initializer_range) for matrices, ones for norms; LoRA as above. A pure function of seed and
/// name.
void initialise_model(Weights& weights, std::uint64_t seed);
/// LoRA only: A uniform(+-1/sqrt(in)), B zero.
void initialise_lora(Weights& weights, std::uint64_t seed);

}  // namespace longlora
