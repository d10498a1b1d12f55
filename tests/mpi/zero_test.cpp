// ZeRO on as many ranks as mpirun started. Sums of gradients have the bits of sums computed here in the promised order;
// weights are whole between open and close and at no other time; updates have the bits of updates of whole weights; a
// plan uses the same memory, operations and messages. Which rank keeps which part is tested by
// tests/unit/model/sharded_weights_test.cpp. Checks do not throw: a rank that left early would hang the others.
#include "tests/mpi/zero_testing.h"

#include <cstring>

#include "train/optimizer.h"

using namespace longlora;
using namespace longlora::zero_testing;

BOOST_AUTO_TEST_SUITE(zero)

BOOST_AUTO_TEST_CASE(gradients_are_summed_in_the_promised_order) {
    for (const Kind& kind : all_kinds())
        for (const int micro_batches : {1, 3}) {
            Ranks r(kind);
            for (int step = 0; step < 2; ++step) {  // the second step starts from zero again
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
            for (std::int64_t unit = 0; unit < r.weights->num_units(); ++unit) {  // the padding stays zero
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
            r.zero->open(head, 0);  // as for a tied head: two units at once, and the embedding opened twice
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

/// At no time more than two units, whichever unit comes next.
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

/// Gathers finish before and after a long reduction that started before or after them, on ranks that are out of step.
BOOST_AUTO_TEST_CASE(gathers_and_long_reductions_pass_each_other) {
    Kind kind;
    kind.zero = 3, kind.method = Method::full;
    kind.max_workspace = 512;  // pieces of a few elements, so nearly all of a reduction happens inside its finish()
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
        if (round % 2) r.zero->open(2, 3);  // the gather of unit 3 is under way when the reduction starts
        pause(round);
        r.zero->close_gradients(1, false);
        if (round % 2 == 0) r.zero->open(2, 3);  // the gather begins and ends during the reduction
        BOOST_CHECK_EQUAL(num_wrong_weights(*r.weights, alone.weights, 2), 0);
        r.zero->close(2);
        pause(round + 10);
        if (round >= 2) r.zero->finish_gradients();  // ends before the gather that started earlier
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
            const float factor = step == 2 ? NAN : 0.7f;  // a NaN must change nothing
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

/// Each part is sent once to each rank that needs it. ZeRO 0 sums to the owners and gathers the sums; ZeRO 1 gathers
/// the updated weights instead; ZeRO 2 and 3 sum in every micro-batch; ZeRO 3 gathers the weights before each use.
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
            const bool small = kind.zero == 0 && 4 * trainable <= 64 << 10;  // sent whole to every rank at once
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
