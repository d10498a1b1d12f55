// What the checkpoint tests share: a small model whose masters and moments are a pure function of name and element, and a folder that all ranks know.
#pragma once

#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/random.h"
#include "dist/host_group.h"
#include "model/weights.h"

namespace checkpoint_testing {

using namespace longlora;

/// Made by rank 0 of the group, removed by it.
class SharedFolder {
public:
    explicit SharedFolder(const dist::HostGroup& group) : group_(group) {
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
    const dist::HostGroup& group_;
    std::string path_;
};

/// About 1.1 M trainable elements: masters and moments are 13 MB, so that each of four ranks has several blocks of 1 MiB.
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

struct Fixture {
    std::unique_ptr<Device> device = make_cpu_device({.memory_bytes = std::int64_t{256} << 20, .num_threads = 1});
    std::unique_ptr<Weights> weights;
    explicit Fixture(DType real = DType::float32, TrainableSet trainables = {}, bool training = true) {
        weights = std::make_unique<Weights>(*device, small_config(), trainables, WeightsOptions{real, real, training});
    }
};

/// Any bits, NaNs and infinities included: a checkpoint must not care. `which`: 0 master, 1 and 2 moments.
inline float value_of(const std::string& name, int which, std::int64_t element, std::uint64_t generation) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(random_bits(generation * 3 + static_cast<std::uint64_t>(which), stream_of(name), static_cast<std::uint64_t>(element))));
}

/// Where all of it is kept.
inline Tensor tensor_of(const Weights& weights, const Parameter& p, int which) {
    return (which == 0 ? weights.own_master(p.unit) : weights.own_moment(p.unit, which)).slice(p.offset, p.shape.count());
}

/// The device is a CPU here, so its memory is filled in place.
inline void fill(Weights& weights, std::uint64_t generation) {
    for (const Parameter& p : weights.list().parameters)
        for (int which = 0; p.trainable && which <= 2; ++which) {
            float* data = tensor_of(weights, p, which).data<float>();
            for (std::int64_t i = 0; i < p.shape.count(); ++i) data[i] = value_of(p.name, which, i, generation);
        }
}

/// How many elements differ in any bit from what fill() wrote.
inline std::int64_t num_wrong(const Weights& weights, std::uint64_t generation, int last_which = 2) {
    std::int64_t wrong = 0;
    for (const Parameter& p : weights.list().parameters)
        for (int which = 0; p.trainable && which <= last_which; ++which) {
            const float* data = tensor_of(weights, p, which).data<float>();
            for (std::int64_t i = 0; i < p.shape.count(); ++i)
                wrong += std::bit_cast<std::uint32_t>(data[i]) != std::bit_cast<std::uint32_t>(value_of(p.name, which, i, generation));
        }
    return wrong;
}

template <class Work>
std::string sentence_of(const Work& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

inline bool says(const std::string& sentence, const std::string& part) { return sentence.find(part) != std::string::npos; }

}  // namespace checkpoint_testing
