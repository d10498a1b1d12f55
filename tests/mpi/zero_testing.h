// A small model whose weights the ranks share by ZeRO, its gradients, and the results that tests/mpi/zero_test.cpp
// expects. No tests here.
#pragma once

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/random.h"
#include "model/zero.h"
#include "parallel/host_group.h"
#include "tests/support/device_values.h"
#include "tests/support/test_device.h"

namespace longlora::zero_testing {

inline ModelConfig config_of(bool tied) {
    ModelConfig c;
    c.model_type = "llama";
    c.hidden = 24, c.intermediate = 40, c.num_layers = 3, c.num_heads = 3, c.num_kv_heads = 1, c.head_dim = 8,
    c.vocabulary = 67;
    c.max_positions = 64;
    c.tied = tied;
    return c;
}

/// One way to keep and train the model.
struct Kind {
    int zero = 0;
    DType real = DType::float32;
    Method method = Method::longlora;
    bool tied = false;
    std::int64_t max_workspace = 64 << 20;  ///< a small one makes reductions long, so that they continue in finish()
    TrainableSet trainables() const {
        TrainableSet set;
        set.method = method;
        set.lora_rank = 3;
        return set;
    }
    parallel::CommunicatorOptions communicator() const { return {.max_message = 1000, .max_workspace = max_workspace}; }
    std::string text() const {
        return longlora::text("ZeRO ", zero, ", ", name_of(real), ", ", name_of(method), tied ? ", tied" : "",
                              ", workspace ", max_workspace);
    }
};

inline std::vector<Kind> all_kinds() {
    std::vector<Kind> kinds;
    for (const int zero : {0, 1, 2, 3})
        for (const DType real : {DType::float32, DType::bfloat16})
            for (const bool tied : {false, true})
                for (const std::int64_t workspace : {64 << 20, 700})
                    kinds.push_back({zero, real, tied ? Method::longlora : Method::full, tied, workspace});
    return kinds;
}

/// This rank's weights and the communicator over all ranks; with `plan` on a device that computes nothing.
struct Ranks {
    parallel::HostGroup group;
    std::unique_ptr<Device> device;
    std::unique_ptr<parallel::Communicator> data;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Zero> zero;
    mutable ArenaTensor upload;  // pinned memory that the device may still read
    explicit Ranks(const Kind& kind, bool plan = false)
        : device(plan ? make_test_plan(64 << 20) : make_test_device(64 << 20)) {
        data = plan ? parallel::make_plan_communicator(*device, group.rank(), group.size(), kind.communicator())
                    : parallel::make_communicator(*device, MPI_COMM_WORLD, kind.communicator());
        weights = std::make_unique<Weights>(*device, config_of(kind.tied), kind.trainables(),
                                            WeightsOptions{kind.real, kind.real, true, kind.zero, data.get()});
        zero = std::make_unique<Zero>(*weights);
        initialise_model(*weights, 3);
    }
    int rank() const { return group.rank(); }
    int size() const { return group.size(); }
};

/// The same model with whole weights, on this rank alone.
struct Alone {
    std::unique_ptr<Device> device = make_test_device(64 << 20);
    Weights weights;
    explicit Alone(const Kind& kind)
        : weights(*device, config_of(kind.tied), kind.trainables(), {kind.real, kind.real, true}) {
        initialise_model(weights, 3);
    }
};

/// What rank `rank` adds to element `i` of a gradient in its contribution number `turn`. Magnitudes differ so much that
/// another order of addition gives other bits.
inline float value_of(int rank, int turn, const Parameter& p, std::int64_t i) {
    const auto stream = stream_of(p.name) + static_cast<std::uint64_t>(rank * 100 + turn),
               index = static_cast<std::uint64_t>(i);
    return static_cast<float>(
        std::ldexp(random_normal(5, stream, index), static_cast<int>(random_below(12, 6, stream, index))));
}

/// Adds this rank's contribution to a unit's gradients, but nothing on a plan device, whose memory is inaccessible.
inline void add_gradients(const Ranks& r, std::int64_t unit, int turn) {
    if (r.device->kind() == DeviceKind::plan) return;
    for (const Parameter& p : r.weights->list().parameters) {
        if (p.unit != unit || !p.trainable) continue;
        const Tensor gradient = r.weights->gradient(p);
        BOOST_CHECK(static_cast<bool>(gradient));
        if (!gradient) continue;
        std::vector<float> values = read_device<float>(*r.device, gradient);
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] += value_of(r.rank(), turn, p, static_cast<std::int64_t>(i));
        r.upload = send_to_device(*r.device, gradient, values);  // read_device has waited for the previous upload
    }
}

/// The backward pass of a model: units from last to first. With tied weights the head adds to the embedding as well.
inline void backward(const Ranks& r, int num_micro_batches) {
    const std::int64_t head = r.weights->num_units() - 1;
    const bool tied = r.weights->config().tied;
    for (int micro = 0; micro < num_micro_batches; ++micro) {
        const bool last = micro + 1 == num_micro_batches;
        if (tied) r.zero->open_gradients(0);
        for (std::int64_t unit = head; unit >= 0; --unit) {
            r.zero->open(unit, unit - 1);
            r.zero->open_gradients(unit);
            if (tied && unit == head) {
                add_gradients(r, 0, 2 * micro);
                r.zero->close_gradients(0, false);
            }
            // Brings the ranks out of step.
            std::this_thread::sleep_for(std::chrono::microseconds(
                random_below(300, 1, static_cast<std::uint64_t>(r.rank()), static_cast<std::uint64_t>(unit))));
            add_gradients(r, unit, tied && unit == 0 ? 2 * micro + 1 : micro);
            r.zero->close_gradients(unit, last);
            r.zero->close(unit);
        }
    }
    r.zero->finish_gradients();
}

/// The sum in the promised order. ZeRO 0 and 1: each rank sums its contributions, then the ranks' sums are added in
/// rank order. ZeRO 2 and 3: each contribution is summed over the ranks, then these sums are added one after another.
inline float expected_gradient(const Kind& kind, int size, int num_turns, const Parameter& p, std::int64_t i) {
    float sum = 0;
    if (kind.zero >= 2 && size > 1) {
        for (int turn = 0; turn < num_turns; ++turn) {
            float of_turn = 0;
            for (int rank = 0; rank < size; ++rank) of_turn += 0.f + value_of(rank, turn, p, i);
            sum += of_turn;
        }
        return sum;
    }
    for (int rank = 0; rank < size; ++rank) {
        float of_rank = 0;
        for (int turn = 0; turn < num_turns; ++turn) of_rank += value_of(rank, turn, p, i);
        sum = rank ? sum + of_rank : of_rank;
    }
    return sum;
}

inline bool same_bits(Device& device_a, ConstTensor a, Device& device_b, ConstTensor b) {
    const auto bytes = [](Device& device, ConstTensor x) {
        return read_device<std::uint8_t>(device, ConstTensor(x.bytes, DType::uint8, {x.size_bytes()}));
    };
    return a.dtype == b.dtype && a.count() == b.count() && (a.count() == 0 || bytes(device_a, a) == bytes(device_b, b));
}
inline bool same_bits(const Weights& of_a, ConstTensor a, const Weights& of_b, ConstTensor b) {
    return same_bits(of_a.device(), a, of_b.device(), b);
}

/// Parameters whose weights cannot be read now, since their unit is closed.
inline int num_closed(const Ranks& r) {
    int closed = 0;
    for (const Parameter& p : r.weights->list().parameters) {
        try {
            r.weights->weight(p);
        } catch (const std::logic_error&) {
            ++closed;
        }
    }
    return closed;
}

/// Parameters of a unit whose weights differ from those of the whole model.
inline int num_wrong_weights(const Weights& weights, const Weights& whole, std::int64_t unit) {
    int wrong = 0;
    for (const Parameter& p : weights.list().parameters)
        if (p.unit == unit) wrong += !same_bits(weights, weights.weight(p), whole, whole.weight(p));
    return wrong;
}

}  // namespace longlora::zero_testing
