// Weights: the memory of a stage's parameters on one device, as flat buffers per unit, of which ZeRO keeps a part;
// and how it is filled from files or from a seed. It does not communicate (zero.h does), and src/train/optimizer.h
// changes the values. The elements of a unit that a rank keeps:
//
//     ZeRO stage           0        1           2           3
//     trainable weights    whole    whole       whole       own part (whole between Zero::open and close)
//     frozen weights       whole    whole       whole       own part (whole between Zero::open and close)
//     gradient sums        whole    whole       own part    own part
//     masters, moments     whole    own part    own part    own part
//
// At stages 2 and 3 a whole buffer of gradients exists between Zero::open_gradients and close_gradients. Trainable
// weights are in the computing type.
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
    DType frozen = DType::float32;           ///< type of frozen weights in memory (frozen_dtype_of)
    bool training = true;                    ///< false: no moments, no gradients
    int zero = 0;                            ///< ZeRO stage; with one rank it becomes 0
    parallel::Communicator* data = nullptr;  ///< the ranks that share these weights; nullptr: this rank only.
                                             ///< Weights uses only its rank and size.
};

/// bfloat16 if `real` is bfloat16, or if every frozen tensor of the files is bfloat16 (then no bit is lost);
/// otherwise float32.
DType frozen_dtype_of(DType real, const ParameterList& list, const SafetensorsFolder& files);

/// The elements of a parameter in this rank's own part of its unit.
struct OwnedPart {
    const Parameter* parameter = nullptr;
    parallel::Shard in_parameter;
    std::int64_t in_own = 0;  ///< index of the first one in own_master(), own_moment() and own_gradient()
};

/// Sees what is read of a tensor: its name, the first element, and the elements.
using ReadObserver = std::function<void(const std::string&, std::int64_t, const HostTensor&)>;

class Weights {
public:
    Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables, const WeightsOptions& options,
            const Stage& stage);
    /// The weights of the whole model.
    Weights(Device& device, const ModelConfig& config, const TrainableSet& trainables, const WeightsOptions& options);

    Device& device() const { return *device_; }
    const ModelConfig& config() const { return config_; }
    const TrainableSet& trainables() const { return trainables_; }
    const Stage& stage() const { return stage_; }
    /// The parameters of this stage.
    const ParameterList& list() const { return list_; }
    const WeightsOptions& options() const { return options_; }
    std::int64_t num_units() const { return static_cast<std::int64_t>(list_.units.size()); }
    bool holds(std::int64_t unit) const { return layout(unit).trainable_count + layout(unit).frozen_count > 0; }

    /// The part of a unit's flat trainables whose masters and moments this rank keeps and updates.
    parallel::Shard own(std::int64_t unit) const;
    /// The part for which this rank alone is responsible among all ranks of the mesh: it saves these elements, and
    /// adds their squares to the norm. Always within own().
    parallel::Shard sole(std::int64_t unit) const;
    std::vector<OwnedPart> owned_parts() const { return parts_of(&Weights::own); }
    std::vector<OwnedPart> sole_parts() const { return parts_of(&Weights::sole); }

    /// own(unit).count elements; empty if nothing of the unit is trained. Moments and gradient are also empty if
    /// WeightsOptions::training is false.
    Tensor own_master(std::int64_t unit) const;
    Tensor own_moment(std::int64_t unit, int which) const;  ///< which = 1 or 2
    Tensor own_gradient(std::int64_t unit) const;
    /// Where the update writes the rounded weights. Empty in float32, where operations read the masters themselves.
    Tensor own_weight(std::int64_t unit) const;

    /// What operations read: the computing type for trainables, the frozen type for the others. At ZeRO 3 only while
    /// Zero has the unit open.
    ConstTensor weight(const Parameter& p) const;
    /// float32, for trainables in training; empty for other parameters. At ZeRO 2 and 3 it exists only between
    /// open_gradients and close_gradients.
    Tensor gradient(const Parameter& p) const;

    /// Copies a host tensor of any float type into the parameter, converting exactly or rounding to nearest. Reads
    /// only what this rank keeps, a block at a time, and shows each block to `on_read`. If the shapes differ, throws an
    /// Error that names the parameter, both shapes and `where`.
    void set(const Parameter& p, const HostTensor& value, const std::string& where, const ReadObserver& on_read = {});
    /// The same for the first value.count() elements of the parameter only; their shape does not matter.
    void set_begin(const Parameter& p, const HostTensor& value, const std::string& where,
                   const ReadObserver& on_read = {});
    /// The elements of the parameter of which this rank keeps at least one copy.
    parallel::Shard kept(const Parameter& p) const;
    /// `values` are elements [begin, begin + count) of the parameter. Those that this rank does not keep are ignored.
    void set_part(const Parameter& p, std::int64_t begin, const HostTensor& values);
    /// The parameter's exact values on the host, as float32 (the masters, or frozen values widened). Only on ranks
    /// that keep all of them.
    std::vector<float> get(const Parameter& p) const;

private:
    friend class Zero;
    /// Buffers of trainables have UnitLayout::trainable_count elements, those of frozen parameters frozen_count, or
    /// this rank's part of them. Holes between parameters are zero.
    struct UnitBuffers {
        ArenaTensor weight, frozen;    // what operations read
        ArenaTensor master;            // own part; empty in float32, where `weight` has the masters
        ArenaTensor moment1, moment2;  // own part
        ArenaTensor gradient;          // whole; from ZeRO 2 on own part
        ArenaTensor open_weight, open_frozen, open_gradient;  // whole; Zero makes and releases them
    };
    const UnitLayout& layout(std::int64_t unit) const { return list_.units[unit]; }
    const UnitBuffers& buffers(std::int64_t unit) const { return buffers_[unit]; }
    UnitBuffers& buffers(std::int64_t unit) { return buffers_[unit]; }
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

/// Takes all base parameters from a model's files, and LoRA matrices from the seed (A uniform +-1/sqrt(in), B zero).
/// Every stage refuses files that do not have the tensors of the whole model (model_files.h). Each rank reads only what
/// it keeps, and shows it to `on_read`. This rank alone: load_on_all_ranks.h also compares what the ranks read.
void load_model(Weights& weights, const SafetensorsFolder& files, std::uint64_t seed, const ReadObserver& on_read = {});
/// From scratch: normal(0, initializer_range) for matrices, ones for norms, LoRA as above. The values are a pure
/// function of seed and name.
void initialise_model(Weights& weights, std::uint64_t seed);
/// LoRA only: A uniform(+-1/sqrt(in)), B zero.
void initialise_lora(Weights& weights, std::uint64_t seed);

}  // namespace longlora
