// merge_attention against its formula in double, for sums of all sizes and rows that saw no key; against one
// attention over all keys, which are taken in two pieces; and what it refuses.
#include <limits>

#include "tests/reference/attention.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Partial {
    Values out, lse;  ///< (T, H*E), (H, T)
};

/// A random third of the rows saw no key; their out is NaN, which must not be read. Some sums of two such results lie
/// far apart.
Partial random_partial(std::int64_t tokens, std::int64_t heads, std::int64_t head_dim, std::uint64_t seed) {
    Partial p{random_values(tokens, heads * head_dim, seed, kFloat),
              random_values(heads, tokens, seed + 1, kFloat, 30)};
    for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t t = 0; t < tokens; ++t) {
            if (random_below(3, seed, 9, static_cast<std::uint64_t>(h * tokens + t))) continue;
            p.lse(h, t) = -kInfinity;
            for (std::int64_t e = 0; e < head_dim; ++e) p.out(t, h * head_dim + e) = NAN;
        }
    return p;
}

/// The formula in Real, with plain exponentials relative to the larger sum.
template <class Real>
void merge(reference::Matrix<Real>& out, reference::Matrix<Real>& lse, const reference::Matrix<Real>& other_out,
           const reference::Matrix<Real>& other_lse, std::int64_t head_dim) {
    for (std::int64_t h = 0; h < lse.rows; ++h)
        for (std::int64_t t = 0; t < lse.columns; ++t) {
            const Real a = lse(h, t), b = other_lse(h, t), larger = std::max(a, b);
            if (std::isinf(b)) continue;
            const Real sum = larger + std::log(std::exp(a - larger) + std::exp(b - larger));
            for (std::int64_t i = h * head_dim; i < (h + 1) * head_dim; ++i) {
                const Real kept = std::isinf(a) ? 0 : std::exp(a - sum) * out(t, i);
                out(t, i) = kept + std::exp(b - sum) * other_out(t, i);
            }
            lse(h, t) = sum;
        }
}

/// The largest |a - b|. NaN and infinite values must be the same in both; otherwise the result is infinite.
double far(const Values& a, const Values& b) {
    double most = 0;
    for (std::size_t i = 0; i < b.values.size(); ++i) {
        const double x = a.values[i], y = b.values[i];
        if (x == y || (std::isnan(x) && std::isnan(y))) continue;
        most = std::max(most, std::isfinite(x - y) ? std::abs(x - y) : kInfinity);
    }
    return most;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(merge_attention)

BOOST_AUTO_TEST_CASE(equals_the_formula) {
    // The last size is so large that threads share it.
    constexpr std::int64_t kSizes[][3] = {{1, 1, 1}, {5, 3, 8}, {33, 9, 7}, {130, 2, 64}, {301, 9, 16}};
    for_devices([&](Device& device) {
        for (const auto& [tokens, heads, head_dim] : kSizes)
            for (std::uint64_t seed = 0; seed < 4; ++seed) {
                const Partial first = random_partial(tokens, heads, head_dim, 10 * seed),
                              second = random_partial(tokens, heads, head_dim, 10 * seed + 5);
                const std::int64_t gap = static_cast<std::int64_t>(seed % 3);
                Buffer out(device, kFloat, first.out, gap), lse(device, kFloat, first.lse, 2 * gap);
                const Buffer other_out(device, kFloat, second.out, 5 * gap), other_lse(device, kFloat, second.lse, gap);
                device.ops().merge_attention({.out = out, .lse = lse}, {.out = other_out, .lse = other_lse});
                Partial ref = first;
                merge(ref.out, ref.lse, second.out, second.lse, head_dim);
                PlainValues plain_out(first.out), plain_lse(first.lse);
                merge(plain_out, plain_lse, PlainValues(second.out), PlainValues(second.lse), head_dim);
                // The normal numbers here are at most 5.
                BOOST_CHECK_LE(far(out.read(), ref.out), 2 * far(Values(plain_out), ref.out) + 4 * 0x1p-24 * 5);
                BOOST_CHECK_LE(far(lse.read(), ref.lse), 2 * far(Values(plain_lse), ref.lse) + 4 * 0x1p-24 * 128);
            }
    });
}

/// Merges into heads 2 and 3 of 5 and rows 3 .. 9; everything else stays as it is.
BOOST_AUTO_TEST_CASE(part_of_heads_and_rows) {
    for_devices([&](Device& device) {
        constexpr std::int64_t kTokens = 12, kHeads = 5, kHeadDim = 6;
        const Partial first = random_partial(kTokens, kHeads, kHeadDim, 1), second = random_partial(7, 2, kHeadDim, 3);
        Buffer out(device, kFloat, first.out, 3), lse(device, kFloat, first.lse);
        const Buffer other_out(device, kFloat, second.out), other_lse(device, kFloat, second.lse, 1);
        device.ops().merge_attention({.out = out.tensor().rows(3, 7).columns(2 * kHeadDim, 2 * kHeadDim),
                                      .lse = lse.tensor().rows(2, 2).columns(3, 7)},
                                     {.out = other_out, .lse = other_lse});
        Partial wide = random_partial(kTokens, kHeads, kHeadDim, 1), ref = first;
        for (double& x : wide.lse.values) x = -kInfinity;
        for (std::int64_t t = 0; t < 7; ++t)
            for (std::int64_t h = 0; h < 2; ++h) {
                wide.lse(h + 2, t + 3) = second.lse(h, t);
                for (std::int64_t e = 0; e < kHeadDim; ++e)
                    wide.out(t + 3, (h + 2) * kHeadDim + e) = second.out(t, h * kHeadDim + e);
            }
        merge(ref.out, ref.lse, wide.out, wide.lse, kHeadDim);
        BOOST_CHECK_LE(far(out.read(), ref.out), 1e-5);
        BOOST_CHECK_LE(far(lse.read(), ref.lse), 1e-5);
    });
}

BOOST_AUTO_TEST_CASE(nan_stays_visible) {
    for_devices([](Device& device) {
        for (const int where : {0, 1}) {
            Partial first{Values(1, 4, 1), Values(1, 1, 0)}, second = first;
            (where ? first : second).lse(0, 0) = NAN;
            Buffer out(device, kFloat, first.out), lse(device, kFloat, first.lse);
            const Buffer other_out(device, kFloat, second.out), other_lse(device, kFloat, second.lse);
            device.ops().merge_attention({.out = out, .lse = lse}, {.out = other_out, .lse = other_lse});
            BOOST_CHECK(std::isnan(out.read()(0, 0)) && std::isnan(lse.read()(0, 0)));
        }
    });
}

/// Keys [0, cut) and [cut, 90) are two pieces, seen by queries 40 .. 99. The windows of shifted heads have 35 tokens,
/// so some rows see only one of the pieces, and the last rows do not see the first piece.
BOOST_AUTO_TEST_CASE(two_pieces_of_keys_equal_one_attention) {
    constexpr std::int64_t kTokens = 100, kBegin = 40, kQueries = 60, kKeys = 90, kHeads = 6, kKvHeads = 2,
                           kHeadDim = 16;
    reference::AttentionProblem p{.num_queries = kQueries,
                                  .num_keys = kKeys,
                                  .num_heads = kHeads,
                                  .num_kv_heads = kKvHeads,
                                  .head_dim = kHeadDim,
                                  .query_begin = kBegin,
                                  .key_begin = 0,
                                  .first_key = {},
                                  .num_plain_heads = 2,
                                  .scale = 0.25};
    std::vector<std::int32_t> first_key;
    for (int kind = 0; kind < 2; ++kind) {
        for (std::int64_t t = 0; t < kTokens; ++t)
            p.first_key[kind].push_back(static_cast<std::int32_t>(kind ? std::max<std::int64_t>(0, t - 34) : 0));
        first_key.insert(first_key.end(), p.first_key[kind].begin(), p.first_key[kind].end());
    }
    for_devices([&](Device& device) {
        const Values q = random_values(kQueries, kHeads * kHeadDim, 1, kFloat),
                     k = random_values(kKeys, kKvHeads * kHeadDim, 2, kFloat),
                     v = random_values(kKeys, kKvHeads * kHeadDim, 3, kFloat);
        const IdBuffer ids(device, first_key);
        Windows windows;
        windows.first_key = Tensor(ids).reshaped({2, kTokens});
        windows.host[0] = p.first_key[0], windows.host[1] = p.first_key[1];
        windows.num_plain_heads = p.num_plain_heads;
        const Buffer queries(device, kFloat, q, 3), keys(device, kFloat, k, 1), values(device, kFloat, v);
        for (const std::int64_t cut : {1, 40, 64, 89}) {
            Buffer out(device, kFloat, Values(kQueries, kHeads * kHeadDim, NAN)),
                lse(device, kFloat, Values(kHeads, kQueries, NAN));
            Buffer other_out(device, kFloat, Values(kQueries, kHeads * kHeadDim, NAN), 2),
                other_lse(device, kFloat, Values(kHeads, kQueries, NAN), 4);
            const auto attend = [&](Tensor to, Tensor sums, std::int64_t begin, std::int64_t count) {
                device.ops().attention_forward(
                    {.out = to, .lse = sums},
                    {.q = queries, .k = keys.tensor().rows(begin, count), .v = values.tensor().rows(begin, count)},
                    windows, {kHeadDim, kBegin, begin, 0.25f}, false);
            };
            attend(out, lse, 0, cut), attend(other_out, other_lse, cut, kKeys - cut);
            device.ops().merge_attention({.out = out, .lse = lse}, {.out = other_out, .lse = other_lse});
            std::vector<double> ref_out, ref_lse;
            reference::attention_forward(ref_out, ref_lse, q.values, k.values, v.values, p);
            const Values found_out = out.read(), found_lse = lse.read();
            for (std::size_t i = 0; i < ref_out.size(); ++i)
                BOOST_REQUIRE_SMALL(found_out.values[i] - ref_out[i], 1e-5);
            for (std::size_t i = 0; i < ref_lse.size(); ++i)
                BOOST_REQUIRE(found_lse.values[i] == ref_lse[i] || std::abs(found_lse.values[i] - ref_lse[i]) < 1e-5);
        }
    });
}

BOOST_AUTO_TEST_CASE(refused_and_recorded) {
    const auto plan = make_plan_device();
    const auto make = [&](DType dtype, Shape shape) { return plan->memory().tensor(dtype, shape, Use::workspace); };
    const ArenaTensor out = make(kFloat, {10, 24}), lse = make(kFloat, {3, 10}), other_out = make(kFloat, {10, 24}),
                      other_lse = make(kFloat, {3, 10}), turned = make(kFloat, {10, 3});
    const ArenaTensor half = make(kBfloat, {10, 24}), fewer = make(kFloat, {9, 24}), odd = make(kFloat, {10, 25}),
                      odd_too = make(kFloat, {10, 25});
    const auto refused = [&](Tensor a, Tensor b, Tensor c, Tensor d) {
        BOOST_CHECK_THROW(plan->ops().merge_attention({.out = a, .lse = b}, {.out = c, .lse = d}), std::logic_error);
    };
    refused(half, lse, half, other_lse);
    refused(out, lse, half, other_lse);
    refused(out, turned, other_out, other_lse);
    refused(out, lse, fewer, other_lse);
    refused(odd, lse, odd_too, other_lse);
    refused(out, lse, out, other_lse);
    refused(out, lse, other_out, lse);
    BOOST_TEST(plan->recorder().by_operation.empty());
    plan->ops().merge_attention({.out = out, .lse = lse}, {.out = other_out, .lse = other_lse});
    BOOST_CHECK_EQUAL(plan->recorder().flops(), 3 * 240);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace longlora
