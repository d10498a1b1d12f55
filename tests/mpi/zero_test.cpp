// ZeRO on as many ranks as mpirun started: sums of gradients bit-equal to sums made here in the order that is promised,
// weights that are whole between open and close and nowhere else, updates bit-equal to those of whole weights, and a
// plan that uses the same memory, operations and messages. What is kept where is
// tests/unit/model/sharded_weights_test.cpp. Checks do not throw: a rank that left early would hang the others.
#include "model/zero.h"

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cstring>
#include <thread>

#include "core/random.h"
#include "parallel/host_group.h"
#include "tests/support/device_values.h"
#include "tests/support/test_device.h"
#include "train/optimizer.h"

using namespace longlora;

namespace {

ModelConfig config_of(bool tied) {
    ModelConfig c;
    c.model_type = "llama";
    c.hidden = 24, c.intermediate = 40, c.num_layers = 3, c.num_heads = 3, c.num_kv_heads = 1, c.head_dim = 8,
    c.vocabulary = 67;
    c.max_positions = 64;
    c.tied = tied;
    return c;
}

struct Kind {
    int zero = 0;
    DType real = DType::float32;
    Method method = Method::longlora;
    bool tied = false;
    std::int64_t max_workspace = 64 << 20;  ///< small: long reductions, which go on in finish()
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

std::vector<Kind> all_kinds() {
    std::vector<Kind> kinds;
    for (const int zero : {0, 1, 2, 3})
        for (const DType real : {DType::float32, DType::bfloat16})
            for (const bool tied : {false, true})
                for (const std::int64_t workspace : {64 << 20, 700})
                    kinds.push_back({zero, real, tied ? Method::longlora : Method::full, tied, workspace});
    return kinds;
}

struct Ranks {
    parallel::HostGroup group;
    std::unique_ptr<Device> device;
    std::unique_ptr<parallel::Communicator> data;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Zero> zero;
    mutable ArenaTensor upload;  // pinned memory that is perhaps still read
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

/// Weights of the same model that are whole, on this rank alone.
struct Alone {
    std::unique_ptr<Device> device = make_test_device(64 << 20);
    Weights weights;
    explicit Alone(const Kind& kind)
        : weights(*device, config_of(kind.tied), kind.trainables(), {kind.real, kind.real, true}) {
        initialise_model(weights, 3);
    }
};

/// Of very different sizes, so that another order of addition gives other bits. `turn`: the how manieth contribution to
/// this unit.
float value_of(int rank, int turn, const Parameter& p, std::int64_t i) {
    const auto stream = stream_of(p.name) + static_cast<std::uint64_t>(rank * 100 + turn),
               index = static_cast<std::uint64_t>(i);
    return static_cast<float>(
        std::ldexp(random_normal(5, stream, index), static_cast<int>(random_below(12, 6, stream, index))));
}

/// Not to a plan's memory, which cannot be touched.
void add_gradients(const Ranks& r, std::int64_t unit, int turn) {
    if (r.device->kind() == DeviceKind::plan) return;
    for (const Parameter& p : r.weights->list().parameters) {
        if (p.unit != unit || !p.trainable) continue;
        const Tensor gradient = r.weights->gradient(p);
        BOOST_CHECK(static_cast<bool>(gradient));
        if (!gradient) continue;
        std::vector<float> values = read_device<float>(*r.device, gradient);
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] += value_of(r.rank(), turn, p, static_cast<std::int64_t>(i));
        r.upload = send_to_device(*r.device, gradient, values);  // the one before was waited for by read_device
    }
}

/// The backward of a model: units from the last to the first; tied, the head adds to the embedding as well.
void backward(const Ranks& r, int num_micro_batches) {
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
            std::this_thread::sleep_for(std::chrono::microseconds(random_below(
                300, 1, static_cast<std::uint64_t>(r.rank()), static_cast<std::uint64_t>(unit))));  // ranks out of step
            add_gradients(r, unit, tied && unit == 0 ? 2 * micro + 1 : micro);
            r.zero->close_gradients(unit, last);
            r.zero->close(unit);
        }
    }
    r.zero->finish_gradients();
}

/// What must come out. Stages 0 and 1: each rank adds its contributions, then ranks in order; 2 and 3: each
/// contribution over ranks, then one after another.
float expected_gradient(const Kind& kind, int size, int num_turns, const Parameter& p, std::int64_t i) {
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

bool same_bits(Device& device_a, Tensor a, Device& device_b, Tensor b) {
    const auto bytes = [](Device& device, Tensor x) {
        return read_device<std::uint8_t>(device, Tensor(x.bytes, DType::uint8, {x.size_bytes()}));
    };
    return a.dtype == b.dtype && a.count() == b.count() && (a.count() == 0 || bytes(device_a, a) == bytes(device_b, b));
}
bool same_bits(const Weights& of_a, Tensor a, const Weights& of_b, Tensor b) {
    return same_bits(of_a.device(), a, of_b.device(), b);
}

int num_closed(const Ranks& r) {
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

/// Parameters of the unit that differ from the whole ones.
int num_wrong_weights(const Weights& weights, const Weights& whole, std::int64_t unit) {
    int wrong = 0;
    for (const Parameter& p : weights.list().parameters)
        if (p.unit == unit) wrong += !same_bits(weights, weights.weight(p), whole, whole.weight(p));
    return wrong;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(zero)

BOOST_AUTO_TEST_CASE(gradients_are_summed_in_the_promised_order) {
    for (const Kind& kind : all_kinds())
        for (const int micro_batches : {1, 3}) {
            Ranks r(kind);
            for (int step = 0; step < 2; ++step) {  // the second one starts from zero again
                r.zero->clear_gradients();
                backward(r, micro_batches);
            }
            std::int64_t wrong = 0, covered = 0, nonzero = 0, owned = 0;
            for (const OwnedPart& part : r.weights->owned_parts()) {
                const bool twice = kind.tied && part.parameter->unit == 0;
                const std::vector<float> found = read_device<float>(
                    *r.device,
                    r.weights->own_gradient(part.parameter->unit).slice(part.in_own, part.in_parameter.count));
                for (std::int64_t i = 0; i < part.in_parameter.count; ++i) {
                    const float expected = expected_gradient(kind, r.size(), (twice ? 2 : 1) * micro_batches,
                                                             *part.parameter, part.in_parameter.begin + i);
                    wrong += std::memcmp(&found[static_cast<std::size_t>(i)], &expected, sizeof expected) != 0;
                    covered += expected != 0;
                }
            }
            for (std::int64_t unit = 0; unit < r.weights->num_units(); ++unit) {  // holes stay zero
                const Tensor own = r.weights->own_gradient(unit);
                owned += own ? own.count() : 0;
                if (own)
                    for (const float value : read_device<float>(*r.device, own)) nonzero += value != 0;
            }
            BOOST_CHECK_MESSAGE(wrong == 0 && nonzero == covered && (owned == 0 || covered > 0),
                                kind.text()
                                    << ": " << wrong << " wrong of " << covered << ", " << nonzero << " not zero");
            if (kind.zero >= 2 && r.size() > 1)
                for (const Parameter& p : r.weights->list().parameters) BOOST_CHECK(!r.weights->gradient(p));
        }
}

BOOST_AUTO_TEST_CASE(open_units_are_whole) {
    for (const Kind& kind : all_kinds()) {
        Alone alone(kind);
        Ranks r(kind);
        const std::int64_t head = r.weights->num_units() - 1, before = r.device->memory().in_use_bytes();
        const bool gathers = kind.zero == 3 && r.size() > 1;
        const auto check_closed = [&] {
            BOOST_CHECK_EQUAL(num_closed(r), gathers ? static_cast<int>(r.weights->list().parameters.size()) : 0);
        };
        const auto check = [&](std::int64_t unit) {
            BOOST_CHECK_MESSAGE(num_wrong_weights(*r.weights, alone.weights, unit) == 0, kind.text()
                                                                                             << ", unit " << unit);
        };
        check_closed();
        for (int pass = 0; pass < 2; ++pass) {
            for (std::int64_t unit = 0; unit <= head; ++unit) {
                r.zero->open(unit, unit < head ? unit + 1 : -1);
                check(unit);
                r.zero->close(unit);
            }
            BOOST_CHECK_EQUAL(r.device->memory().in_use_bytes(), before);
            r.zero->open(head, 0);  // a tied head: two at once, and the embedding twice
            r.zero->open(0, head - 1);
            r.zero->open(0);
            check(0), check(head);
            r.zero->close(head);
            r.zero->close(0);
            check(0);
            r.zero->close(0);
            check_closed();
            BOOST_CHECK_EQUAL(r.device->memory().in_use_bytes(), before);
        }
    }
}

/// Two units at a time, whatever the next one is.
BOOST_AUTO_TEST_CASE(at_most_two_units_are_whole) {
    Kind kind;
    kind.zero = 3;
    Ranks r(kind);
    if (r.size() == 1) return;
    const std::int64_t head = r.weights->num_units() - 1, before = r.device->memory().in_use_bytes();
    std::int64_t largest = 0;
    for (const UnitLayout& unit : r.weights->list().units)
        largest = std::max(largest, 4 * (unit.trainable_count + unit.frozen_count) + 512);
    for (std::int64_t unit = 0; unit < head; ++unit) {
        r.zero->open(unit, unit + 1);
        BOOST_CHECK_LE(r.device->memory().in_use_bytes() - before, 2 * largest);
        BOOST_CHECK_GT(r.device->memory().in_use_bytes() - before, 0);
        r.zero->close(unit);
    }
    r.zero->open(head);
    r.zero->close(head);
    BOOST_CHECK_EQUAL(r.device->memory().in_use_bytes(), before);
}

/// Gathers finish before and behind a long reduction that was started before and behind them, on ranks that are out of
/// step.
BOOST_AUTO_TEST_CASE(gathers_and_long_reductions_pass_each_other) {
    Kind kind;
    kind.zero = 3, kind.method = Method::full;
    kind.max_workspace = 512;  // pieces of a few elements: nearly all of a reduction happens inside its finish()
    Alone alone(kind);
    Ranks r(kind);
    r.zero->clear_gradients();
    const std::int64_t head = r.weights->num_units() - 1;
    const auto pause = [&](std::uint64_t when) {
        std::this_thread::sleep_for(
            std::chrono::milliseconds(random_below(4, 2, static_cast<std::uint64_t>(r.rank()), when)));
    };
    for (std::uint64_t round = 0; round < 4; ++round) {
        r.zero->open_gradients(1);
        add_gradients(r, 1, static_cast<int>(round));
        if (round % 2) r.zero->open(2, 3);  // gathering 3 is under way when the reduction starts
        pause(round);
        r.zero->close_gradients(1, false);
        if (round % 2 == 0) r.zero->open(2, 3);  // begins and ends while the reduction is under way
        BOOST_CHECK_EQUAL(num_wrong_weights(*r.weights, alone.weights, 2), 0);
        r.zero->close(2);
        pause(round + 10);
        if (round >= 2) r.zero->finish_gradients();  // before the gather that started before it
        r.zero->open(3, head);
        BOOST_CHECK_EQUAL(num_wrong_weights(*r.weights, alone.weights, 3), 0);
        r.zero->close(3);
        r.zero->open(head);
        BOOST_CHECK_EQUAL(num_wrong_weights(*r.weights, alone.weights, head), 0);
        r.zero->close(head);
    }
    r.zero->finish_gradients();
    std::int64_t wrong = 0;
    for (const OwnedPart& part : r.weights->owned_parts()) {
        if (part.parameter->unit != 1) continue;
        const std::vector<float> found =
            read_device<float>(*r.device, r.weights->own_gradient(1).slice(part.in_own, part.in_parameter.count));
        for (std::int64_t i = 0; i < part.in_parameter.count; ++i)
            wrong += found[static_cast<std::size_t>(i)] !=
                     expected_gradient(kind, r.size(), 4, *part.parameter, part.in_parameter.begin + i);
    }
    BOOST_CHECK_EQUAL(wrong, 0);
}

BOOST_AUTO_TEST_CASE(updates_are_those_of_whole_weights) {
    for (const Kind& kind : all_kinds()) {
        Alone alone(kind);
        Ranks r(kind);
        OptimizerOptions options;
        options.lr = 1e-3, options.lr_embedding = 3e-3, options.lr_norm = 2e-3, options.weight_decay = 0.1;
        const ArenaTensor scale = r.device->memory().tensor(DType::float32, {}, Use::workspace),
                          scale_alone = alone.device->memory().tensor(DType::float32, {}, Use::workspace);
        for (int step = 1; step <= 3; ++step) {
            const float factor = step == 2 ? NAN : 0.7f;  // by NaN nothing may change
            r.device->ops().fill(scale, factor), alone.device->ops().fill(scale_alone, factor);
            r.zero->clear_gradients();
            backward(r, 1);
            for (const Parameter& p : alone.weights.list().parameters) {
                if (!p.trainable) continue;
                std::vector<float> gradient;
                for (std::int64_t i = 0; i < p.shape.count(); ++i)
                    gradient.push_back(expected_gradient(kind, r.size(), kind.tied && p.unit == 0 ? 2 : 1, p, i));
                write_device(*alone.device, alone.weights.gradient(p), gradient);
            }
            optimizer_step(*r.weights, options, 0.5, step, scale);
            optimizer_step(alone.weights, options, 0.5, step, scale_alone);
            r.zero->share_update();
        }
        std::int64_t wrong = 0;
        for (const OwnedPart& part : r.weights->owned_parts()) {
            const std::int64_t unit = part.parameter->unit, count = part.in_parameter.count,
                               at = part.parameter->offset + part.in_parameter.begin;
            wrong += !same_bits(*r.weights, r.weights->own_master(unit).slice(part.in_own, count), alone.weights,
                                alone.weights.own_master(unit).slice(at, count));
            for (const int which : {1, 2})
                wrong += !same_bits(*r.weights, r.weights->own_moment(unit, which).slice(part.in_own, count),
                                    alone.weights, alone.weights.own_moment(unit, which).slice(at, count));
        }
        for (std::int64_t unit = 0; unit < r.weights->num_units(); ++unit) {
            r.zero->open(unit);
            wrong += num_wrong_weights(*r.weights, alone.weights, unit);
            r.zero->close(unit);
        }
        BOOST_CHECK_MESSAGE(wrong == 0, kind.text() << ": " << wrong << " parts differ");
    }
}

BOOST_AUTO_TEST_CASE(a_plan_uses_the_same_memory_operations_and_messages) {
    for (const Kind& kind : all_kinds()) {
        Ranks real(kind), plan(kind, true);
        for (Ranks* r : {&real, &plan}) {
            r->device->recorder().clear();
            const ArenaTensor scale = r->device->memory().tensor(DType::float32, {}, Use::workspace);
            r->device->ops().fill(scale, 1);
            r->zero->clear_gradients();
            backward(*r, 2);
            optimizer_step(*r->weights, {}, 1, 1, scale);
            r->zero->share_update();
        }
        const bool same = plan.data->traffic().bytes == real.data->traffic().bytes &&
                          plan.data->traffic().messages == real.data->traffic().messages &&
                          plan.device->memory().high_water_bytes() == real.device->memory().high_water_bytes() &&
                          plan.device->memory().at_peak() == real.device->memory().at_peak() &&
                          plan.device->recorder().flops() == real.device->recorder().flops();
        BOOST_CHECK_MESSAGE(same, kind.text());
        BOOST_CHECK((real.data->traffic().bytes > 0) == (real.size() > 1));
    }
}

/// Each part goes once to where it is needed: stage 0 sums to owners and gathers sums, 1 gathers weights instead, 2 and
/// 3 sum every micro-batch, 3 gathers weights before use.
BOOST_AUTO_TEST_CASE(traffic_follows_the_formulas) {
    for (const Kind& kind : all_kinds()) {
        Ranks r(kind);
        if (r.size() == 1) continue;
        const std::int64_t others = r.size() - 1, real = size_of(kind.real);
        std::int64_t expected = 0;
        const int micro_batches = 2;
        for (std::int64_t unit = 0; unit < r.weights->num_units(); ++unit) {
            const auto [trainable, frozen] = r.weights->list().units[static_cast<std::size_t>(unit)];
            const std::int64_t own = parallel::shard_of(trainable, r.rank(), r.size()).count,
                               own_frozen = parallel::shard_of(frozen, r.rank(), r.size()).count;
            const std::int64_t sums = kind.zero < 2 ? 1 : micro_batches * (kind.tied && unit == 0 ? 2 : 1);
            const bool small = kind.zero == 0 && 4 * trainable <= 64 << 10;  // all of it to everyone at once
            expected +=
                small ? 4 * trainable * others : sums * 4 * (trainable - own) + (kind.zero == 0 ? 4 * own * others : 0);
            if (kind.zero == 1 || kind.zero == 2) expected += real * own * others;
            if (kind.zero == 3) expected += micro_batches * real * (own + own_frozen) * others;
        }
        r.zero->clear_gradients();
        backward(r, micro_batches);
        r.zero->share_update();
        BOOST_CHECK_MESSAGE(r.data->traffic().bytes == expected,
                            kind.text() << ": " << r.data->traffic().bytes << " bytes, expected " << expected);
    }
}

BOOST_AUTO_TEST_SUITE_END()
