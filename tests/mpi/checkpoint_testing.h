// Shared by the checkpoint tests: a small model, whole or sharded, whose masters and moments are a pure function of
// name and element, and a folder whose path all ranks have. No tests here.
#pragma once

#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/random.h"
#include "model/weights.h"
#include "parallel/host_group.h"
#include "tests/support/device_values.h"
#include "tests/support/test_device.h"

namespace checkpoint_testing {

using namespace longlora;

/// A temporary folder that rank 0 of the group makes and removes; all ranks get its path.
class SharedFolder {
public:
    explicit SharedFolder(const parallel::HostGroup& group) : group_(group) {
        std::string name = (std::filesystem::temp_directory_path() / "longlora-checkpoint-XXXXXX").string();
        if (group.rank() == 0) ensure(::mkdtemp(name.data()) != nullptr, "a temporary folder");
        path_ = group.broadcast(name);
    }
    ~SharedFolder() {
        std::error_code ignored;
        if (group_.rank() == 0) std::filesystem::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }

private:
    const parallel::HostGroup& group_;
    std::string path_;
};

/// About 1.1 M trainable elements. Masters and moments are 13 MB, so each of four ranks has several blocks of 1 MiB.
inline ModelConfig small_config() {
    ModelConfig config;
    config.model_type = "llama";
    config.hidden = 40;
    config.intermediate = 56;
    config.num_layers = 3;
    config.num_heads = 5;
    config.num_kv_heads = 1;
    config.head_dim = 8;
    config.vocabulary = 27001;
    config.max_positions = 64;
    return config;
}

/// Weights as this rank of `ranks` keeps them. A plan communicator says which rank this is, and nothing is sent.
struct Fixture {
    std::unique_ptr<Device> device = make_test_device(256 << 20);
    std::unique_ptr<parallel::Communicator> data;
    std::unique_ptr<Weights> weights;
    explicit Fixture(DType real = DType::float32, const TrainableSet& trainables = {}, bool training = true,
                     MPI_Comm ranks = MPI_COMM_WORLD)
        : Fixture(small_config(), trainables, {real, real, training}, whole_model(small_config()), ranks) {}
    Fixture(const ModelConfig& config, const TrainableSet& trainables, WeightsOptions options, const Stage& stage,
            MPI_Comm ranks) {
        int rank = 0, size = 1;
        MPI_Comm_rank(ranks, &rank), MPI_Comm_size(ranks, &size);
        data = parallel::make_plan_communicator(*device, rank, size);
        options.data = data.get();
        weights = std::make_unique<Weights>(*device, config, trainables, options, stage);
    }
};

/// Random bits, NaNs and infinities included: a checkpoint must keep all of them. `which`: 0 master, 1 and 2 moments.
inline float value_of(const std::string& name, int which, std::int64_t element, std::uint64_t generation) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(random_bits(
        generation * 3 + static_cast<std::uint64_t>(which), stream_of(name), static_cast<std::uint64_t>(element))));
}

/// This rank's elements of a part, in the masters (`which` 0) or moments (1, 2).
inline Tensor tensor_of(const Weights& weights, const OwnedPart& part, int which) {
    const std::int64_t unit = part.parameter->unit;
    return (which == 0 ? weights.own_master(unit) : weights.own_moment(unit, which))
        .slice(part.in_own, part.in_parameter.count);
}
/// The values that fill() writes to tensor_of() the same part.
inline std::vector<float> values_of(const OwnedPart& part, int which, std::uint64_t generation) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < part.in_parameter.count; ++i)
        values.push_back(value_of(part.parameter->name, which, part.in_parameter.begin + i, generation));
    return values;
}

inline void fill(Weights& weights, std::uint64_t generation) {
    for (const OwnedPart& part : weights.owned_parts())
        for (int which = 0; which <= 2; ++which)
            write_device(weights.device(), tensor_of(weights, part, which), values_of(part, which, generation));
}

inline bool same_bits(float a, float b) { return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b); }

/// The number of elements that differ in any bit from what fill() wrote.
inline std::int64_t num_wrong(const Weights& weights, std::uint64_t generation, int last_which = 2) {
    std::int64_t wrong = 0;
    for (const OwnedPart& part : weights.owned_parts())
        for (int which = 0; which <= last_which; ++which) {
            const std::vector<float> expected = values_of(part, which, generation),
                                     found = read_device<float>(weights.device(), tensor_of(weights, part, which));
            for (std::size_t i = 0; i < expected.size(); ++i) wrong += !same_bits(found[i], expected[i]);
        }
    return wrong;
}

/// Whether `found` is the rounded master. A NaN must stay a NaN; its bits are the operation's choice.
inline bool is_rounded(bf16 found, float master) {
    return master == master ? found.bits == bf16(master).bits
                            : (found.bits & 0x7f80) == 0x7f80 && (found.bits & 0x7f) != 0;
}

template <class Work> std::string sentence_of(const Work& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

inline bool says(const std::string& sentence, const std::string& part) {
    return sentence.find(part) != std::string::npos;
}

}  // namespace checkpoint_testing
