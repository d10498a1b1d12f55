// What attention guarantees beyond its numbers: causality, rows that see no key, repeatable bits, huge scores, NaN
// that stays visible, and calls of progress.
#include <omp.h>

#include <thread>

#include "tests/unit/kernels/attention_case.h"

namespace longlora::attention_testing {

namespace {

Case dense_case(std::int64_t tokens, std::int64_t head_dim) {
    CaseOptions options;
    options.tokens = tokens, options.num_heads = 3, options.num_kv_heads = 1, options.head_dim = head_dim;
    Case c = make_case(options, 5);
    for (auto& row : c.problem.first_key) std::fill(row.begin(), row.end(), 0);
    return c;
}

bool all_finite(const Values& values) {
    return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(attention_edges)

/// Later inputs change no bit of earlier outputs. A loss on tokens <= t has gradients of exactly 0 after t.
BOOST_AUTO_TEST_CASE(causality_is_exact) {
    for_devices([&](Device& device) {
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            CaseOptions options;
            options.tokens = 130;
            const Case c = make_case(options, seed);
            const std::int64_t t = static_cast<std::int64_t>(random_below(129, seed, 8, 0));
            const std::int64_t wide = c.problem.num_heads * c.problem.head_dim,
                               narrow_width = c.problem.num_kv_heads * c.problem.head_dim;
            Case changed = c;
            const auto behind = [&](Values& values, std::int64_t width, double factor, double shift) {
                for (std::size_t i = static_cast<std::size_t>((t + 1) * width); i < values.size(); ++i)
                    values[i] = values[i] * factor + shift;
            };
            behind(changed.q, wide, -3, 1), behind(changed.k, narrow_width, 50, -2),
                behind(changed.v, narrow_width, -7, 3);
            behind(changed.d_out, wide, 0, 0);
            Operands a(c), b(changed);
            a.forward(device), b.forward(device), b.backward(device);
            for (std::int64_t r = 0; r <= t; ++r) {
                for (std::int64_t i = 0; i < wide; ++i) BOOST_REQUIRE_EQUAL(a.out.at(r, i), b.out.at(r, i));
            }
            for (std::int64_t r = t + 1; r < options.tokens; ++r) {
                for (std::int64_t i = 0; i < wide; ++i) BOOST_REQUIRE_EQUAL(b.d_q.at(r, i), 0.0);
                for (std::int64_t i = 0; i < narrow_width; ++i)
                    BOOST_REQUIRE(b.d_k.at(r, i) == 0.0 && b.d_v.at(r, i) == 0.0);
            }
        }
    });
}

/// Queries whose windows contain none of the given keys get out 0 and lse -inf, or keep what they had when keys come
/// in pieces. Their gradients are 0.
BOOST_AUTO_TEST_CASE(queries_without_visible_keys) {
    for_devices([&](Device& device) {
        Case c = dense_case(150, 16);
        for (auto& row : c.problem.first_key) {
            for (std::size_t i = 60; i < row.size(); ++i) row[i] = 60;
        }
        c.problem.key_begin = 20, c.problem.num_keys = 40;  // tokens 20 .. 59: seen by queries 20 .. 59 only
        c.k.resize(40 * 16), c.v.resize(40 * 16);
        Operands o(c);
        o.forward(device);
        const auto sees = [](std::int64_t t) { return t >= 20 && t < 60; };
        for (std::int64_t t = 0; t < 150; ++t) {
            for (std::int64_t h = 0; h < 3; ++h)
                BOOST_REQUIRE_EQUAL(o.lse.at(h, t) == -std::numeric_limits<double>::infinity(), !sees(t));
            for (std::int64_t i = 0; i < 48; ++i)
                BOOST_REQUIRE(sees(t) ? o.out.at(t, i) != 0.0 : o.out.at(t, i) == 0.0);
        }
        o.backward(device);
        BOOST_TEST((all_finite(o.d_q.values()) && all_finite(o.d_k.values()) && all_finite(o.d_v.values())));
        for (std::int64_t t = 0; t < 150; ++t) {
            for (std::int64_t i = 0; i < 48; ++i) BOOST_REQUIRE(sees(t) || o.d_q.at(t, i) == 0.0);
        }
        for (std::int64_t t = 0; t < 150; ++t) {  // a piece of keys that a query does not see leaves its result alone
            for (std::int64_t h = 0; h < 3; ++h) o.lse.view.data<float>()[h * o.lse.view.row_stride + t] = 1.5f;
            for (std::int64_t i = 0; i < 48; ++i) o.out.view.data<float>()[t * o.out.view.row_stride + i] = 2.5f;
        }
        o.forward(device, true);
        for (std::int64_t t = 0; t < 150; ++t) {
            for (std::int64_t i = 0; i < 48; ++i) BOOST_REQUIRE((o.out.at(t, i) == 2.5) == !sees(t));
            for (std::int64_t h = 0; h < 3; ++h) BOOST_REQUIRE((o.lse.at(h, t) == 1.5) == !sees(t));
        }
    });
}

/// A query that sees one key gets its v as out, and the scores have a gradient of exactly 0, without rounding noise.
BOOST_AUTO_TEST_CASE(one_visible_key) {
    for_devices([&](Device& device) {
        for (const DType dtype : {DType::float32, DType::bfloat16}) {
            CaseOptions options;
            options.tokens = 110, options.head_dim = 40, options.dtype = options.gradient = dtype;
            Case c = make_case(options, 11);
            for (auto& row : c.problem.first_key) {
                for (std::size_t t = 0; t < row.size(); ++t) row[t] = static_cast<std::int32_t>(t);
            }
            Operands o(c);
            o.forward(device), o.backward(device);
            for (std::int64_t t = 0; t < 110; ++t) {
                for (std::int64_t i = 0; i < 360; ++i)
                    BOOST_REQUIRE_EQUAL(o.out.at(t, i), o.v.at(t, i / 40 / 3 * 40 + i % 40));
            }
            BOOST_TEST((max_abs(o.d_q.values()) == 0 && max_abs(o.d_k.values()) == 0));
        }
    });
}

BOOST_AUTO_TEST_CASE(same_bits_for_every_run_and_number_of_threads) {
    const int before = omp_get_max_threads();
    for_devices([&](Device& device) {
        for (const DType gradient : {DType::float32, DType::bfloat16}) {
            CaseOptions options;
            options.tokens = kOnGpu ? 200 : 700, options.head_dim = 24, options.gradient = options.dtype = gradient;
            const Case c = make_case(options, 3);
            omp_set_num_threads(1);
            Operands first(c);
            first.forward(device), first.backward(device);
            for (const int threads : sizes({2, 5, 2, 3, 1}, {1})) {
                omp_set_num_threads(threads);
                Operands again(c);
                again.forward(device);
                again.backward(device);
                BOOST_TEST((again.out.same_bits(first.out) && again.lse.same_bits(first.lse)), threads << " threads");
                BOOST_TEST((again.d_q.same_bits(first.d_q) && again.d_k.same_bits(first.d_k) &&
                            again.d_v.same_bits(first.d_v)),
                           threads << " threads");
            }
        }
    });
    omp_set_num_threads(before);
}

BOOST_AUTO_TEST_CASE(huge_scores_do_not_overflow) {
    for_devices([&](Device& device) {
        Case c = dense_case(100, 8);
        c.problem.scale = 1;
        for (std::size_t i = 0; i < c.q.size(); ++i) c.q[i] = i % 8 == 0 ? 100 : 0;
        for (std::size_t i = 0; i < c.k.size(); ++i)
            c.k[i] = i % 8 == 0 ? (i / 8 % 3 == 0 ? 100.0 : i / 8 % 3 == 1 ? -100.0 : 0.0) : 1;  // scores 1e4, -1e4, 0
        Operands o(c);
        o.forward(device), o.backward(device);
        Values out, lse, d_q(c.q.size()), d_k(c.k.size()), d_v(c.v.size());
        reference::attention_forward(out, lse, c.q, c.k, c.v, c.problem);
        reference::attention_backward(d_q, d_k, d_v, c.d_out, out, lse, c.q, c.k, c.v, c.problem);
        BOOST_TEST(max_difference(o.out.values(), out) < 1e-5);
        BOOST_TEST(max_difference(o.lse.values(), lse) < 2e-3);  // 1e4 has a spacing of 1e-3 in float
        // That spacing of score and lse gives exp(score - lse) its relative error.
        BOOST_TEST(max_difference(o.d_v.values(), d_v) < 4e-3 * max_abs(d_v));
        BOOST_TEST((all_finite(o.d_q.values()) && all_finite(o.d_k.values())));
    });
}

/// Each query has one huge score, and these scores take all places of a tile. A maximum that leaves one out would
/// overflow. The softmax is over that key alone, so out is its v.
BOOST_AUTO_TEST_CASE(one_huge_score_at_any_place) {
    for_devices([&](Device& device) {
        for (const DType dtype : {DType::float32, DType::bfloat16})
            for (const std::int64_t head_dim : {32, 64, 128}) {
                CaseOptions options;
                options.tokens = 192, options.num_heads = 4, options.num_kv_heads = 1, options.head_dim = head_dim,
                options.dtype = options.gradient = dtype;
                Case c = make_case(options, 5);
                for (auto& row : c.problem.first_key) std::fill(row.begin(), row.end(), 0);
                c.problem.scale = 1;
                std::fill(c.q.begin(), c.q.end(), 0), std::fill(c.k.begin(), c.k.end(), 0);
                // The huge score belongs to one of the first 64 keys, each of which is a unit vector or the negative
                // of one. Each head has other places.
                const auto seen = [](std::int64_t t, std::int64_t h) {
                    return t < 64 ? (11 + 2 * h) * t % (t + 1) : ((29 + 4 * h) * t + 7 + h) % 64;
                };
                const auto unit = [head_dim](std::int64_t j) { return j < head_dim ? 100.0f : -100.0f; };
                for (std::int64_t t = 0; t < 192; ++t)
                    for (std::int64_t h = 0; h < 4; ++h)
                        c.q[static_cast<std::size_t>((t * 4 + h) * head_dim + seen(t, h) % head_dim)] =
                            unit(seen(t, h));
                for (std::int64_t j = 0; j < 64; ++j)
                    c.k[static_cast<std::size_t>(j * head_dim + j % head_dim)] = unit(j);
                Operands o(c);
                o.forward(device), o.backward(device);
                for (std::int64_t t = 0; t < 192; ++t) {
                    for (std::int64_t i = 0; i < 4 * head_dim; ++i)
                        BOOST_REQUIRE_EQUAL(o.out.at(t, i), o.v.at(seen(t, i / head_dim), i % head_dim));
                    for (std::int64_t h = 0; h < 4; ++h) BOOST_REQUIRE_SMALL(o.lse.at(h, t) - 1e4, 2e-3);
                }
                BOOST_TEST((all_finite(o.d_q.values()) && all_finite(o.d_k.values()) && all_finite(o.d_v.values())));
            }
    });
}

/// exp(0 - lse) overflows here, so what a tile computes for its padding must not reach the results.
BOOST_AUTO_TEST_CASE(very_negative_scores) {
    for_devices([&](Device& device) {
        Case c = dense_case(101, 8);
        c.problem.scale = 1;
        for (std::size_t i = 0; i < c.q.size(); ++i) c.q[i] = i % 8 == 0 ? 40 : 0.25;
        for (std::size_t i = 0; i < c.k.size(); i += 8) c.k[i] = -40;
        Operands o(c);
        o.forward(device), o.backward(device);
        Values out, lse, d_q(c.q.size()), d_k(c.k.size()), d_v(c.v.size());
        reference::attention_forward(out, lse, c.q, c.k, c.v, c.problem);
        reference::attention_backward(d_q, d_k, d_v, c.d_out, out, lse, c.q, c.k, c.v, c.problem);
        const double budget = 1e-3;  // scores near 1600 have a spacing of 1.2e-4 in float
        BOOST_TEST(max_difference(o.out.values(), out) < budget * max_abs(out));
        BOOST_TEST(max_difference(o.d_q.values(), d_q) < budget * max_abs(d_q));
        BOOST_TEST(max_difference(o.d_k.values(), d_k) < budget * max_abs(d_k));
        BOOST_TEST(max_difference(o.d_v.values(), d_v) < budget * max_abs(d_v));
        for (std::int64_t h = 0; h < 3; ++h)
            o.lse.view.data<float>()[h * o.lse.view.row_stride + 40] = -std::numeric_limits<float>::infinity();
        Operands again(c);
        std::copy(o.lse.memory.begin(), o.lse.memory.end(), again.lse.memory.begin());
        again.backward(device);  // lse says that row 40 saw no key, so it has no gradient
        for (std::int64_t i = 0; i < 24; ++i) BOOST_TEST(again.d_q.at(40, i) == 0.0);
    });
}

/// A NaN in the inputs must reach the loss, where the run is stopped.
BOOST_AUTO_TEST_CASE(nan_stays_visible) {
    for_devices([&](Device& device) {
        for (int where = 0; where < 3; ++where) {
            Case c = dense_case(100, 8);
            Values& values = where == 0 ? c.q : where == 1 ? c.k : c.v;
            values[static_cast<std::size_t>(50 * (where == 0 ? 24 : 8) + 3)] = std::numeric_limits<double>::quiet_NaN();
            Operands o(c);
            o.forward(device), o.backward(device);
            BOOST_TEST(std::isnan(o.out.at(50, 3)), where);
            BOOST_TEST(!all_finite(o.d_k.values()), where);
        }
    });
}

BOOST_AUTO_TEST_CASE(progress_is_called_by_the_calling_thread) {
    for_devices([&](Device& device) {
        Operands o(dense_case(400, 16));
        const auto caller = std::this_thread::get_id();
        int calls = 0, elsewhere = 0;
        const auto progress = [&] { (std::this_thread::get_id() == caller ? calls : elsewhere) += 1; };
        device.set_progress(progress);
        o.forward(device);
        o.backward(device);
        device.set_progress({});
        BOOST_TEST(elsewhere == 0);
        if (!kOnGpu && omp_get_max_threads() == 1) BOOST_TEST(calls > 10);
    });
}

BOOST_AUTO_TEST_CASE(pairs_are_counted) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        CaseOptions options;
        options.tokens = 1 + static_cast<std::int64_t>(seed), options.num_heads = 2, options.num_kv_heads = 1,
        options.head_dim = 1, options.offsets = true;
        Case c = make_case(options, seed);
        c.problem.num_plain_heads = 1;
        const Operands o(c);
        const auto& p = c.problem;
        for (std::int64_t h = 0; h < 2; ++h) {
            std::int64_t pairs = 0;
            for (std::int64_t t = 0; t < p.num_queries; ++t) {
                for (std::int64_t j = 0; j < p.num_keys; ++j) pairs += p.visible(t, j, h);
            }
            BOOST_TEST(pairs == visible_pairs(o.windows, h ? HeadKind::shifted : HeadKind::plain, p.query_begin,
                                              p.num_queries, p.key_begin, p.num_keys));
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace longlora::attention_testing
