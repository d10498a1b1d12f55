// Attention against plain loops in double, with random windows, sizes, offsets, strides and types; keys in pieces;
// and the reference against finite differences.
#include <numeric>

#include "tests/support/preconditions.h"
#include "tests/unit/kernels/attention_case.h"

namespace longlora::attention_testing {

namespace {

void check_forward(const Case& c, Device& device, const std::string& what) {
    Operands o(c);
    o.forward(device);
    Values out, lse;
    std::vector<float> plain_out, plain_lse;
    reference::attention_forward(out, lse, c.q, c.k, c.v, c.problem);
    reference::attention_forward(plain_out, plain_lse, narrow(c.q), narrow(c.k), narrow(c.v), c.problem,
                                 PlainOperand{c.dtype});
    check_budget(o.out.values(), stored(plain_out, c.dtype), out, c.dtype, what + " out");
    check_budget(o.lse.values(), stored(plain_lse, DType::float32), lse, DType::float32, what + " lse");
    BOOST_TEST(o.gaps_untouched(), what);
}

/// Starts from the reference's forward results, rounded as they would be stored. The gradients are added to random
/// numbers.
void check_backward(const Case& c, Device& device, const std::string& what) {
    Values out, lse;
    reference::attention_forward(out, lse, c.q, c.k, c.v, c.problem);
    Operands o(c);
    const Rows stored_out(c.dtype, c.problem.num_queries, o.q.view.width(), c.gap, out),
        stored_lse(DType::float32, c.problem.num_heads, c.problem.num_queries, c.gap, lse);
    std::copy(stored_out.memory.begin(), stored_out.memory.end(), o.out.memory.begin());
    std::copy(stored_lse.memory.begin(), stored_lse.memory.end(), o.lse.memory.begin());
    Values ref[3];
    std::vector<float> plain[3];
    Rows* const kernel[3] = {&o.d_q, &o.d_k, &o.d_v};
    for (std::uint64_t i = 0; i < 3; ++i) {
        ref[i] = normal_values(i ? c.k.size() : c.q.size(), 77, i, c.gradient);
        plain[i] = narrow(ref[i]);
        const Rows start(c.gradient, kernel[i]->view.num_rows(), kernel[i]->view.width(), c.gap, ref[i]);
        std::copy(start.memory.begin(), start.memory.end(), kernel[i]->memory.begin());
    }
    o.backward(device);
    reference::attention_backward(ref[0], ref[1], ref[2], c.d_out, out, lse, c.q, c.k, c.v, c.problem);
    reference::attention_backward(plain[0], plain[1], plain[2], narrow(c.d_out), narrow(stored_out.values()),
                                  narrow(lse), narrow(c.q), narrow(c.k), narrow(c.v), c.problem, PlainOperand{c.dtype});
    const char* const names[] = {" d_q", " d_k", " d_v"};
    for (int i = 0; i < 3; ++i)
        check_budget(kernel[i]->values(), stored(plain[i], c.gradient), ref[i], c.gradient, what + names[i]);
    BOOST_TEST(o.gaps_untouched(), what);
}

void check_tokens(std::int64_t tokens, Device& device, std::uint64_t seed) {
    constexpr std::int64_t kHeads[][2] = {{9, 3}, {1, 1}, {4, 1}, {6, 2}, {3, 3}, {2, 1}};
    // A GPU takes multiples of 8.
    const auto head_dims =
        sizes<std::int64_t>({8, 16, 64, 32, 80, 128, 40, 24, 4, 13}, {8, 16, 64, 32, 80, 128, 40, 24, 96, 120});
    CaseOptions options;
    options.tokens = tokens;
    options.num_heads = kHeads[seed % 6][0], options.num_kv_heads = kHeads[seed % 6][1];
    options.head_dim = head_dims[seed % 10];
    const bool narrow_type = kOnGpu ? seed % 4 != 1 : seed % 4 == 3;  // on a GPU mostly bfloat16
    options.dtype = narrow_type ? DType::bfloat16 : DType::float32;
    options.gradient = seed % 8 == 3 ? DType::bfloat16 : DType::float32;
    options.offsets = seed % 3 == 1;
    const Case c = make_case(options, seed);
    const std::string what = text("T ", tokens, " H ", options.num_heads, "/", options.num_kv_heads, " E ",
                                  options.head_dim, " ", name_of(c.dtype), " seed ", seed);
    check_forward(c, device, what);
    check_backward(c, device, what);
}

Rows part(const Rows& rows, std::int64_t begin, std::int64_t n) {
    Values values;
    for (std::int64_t r = begin; r < begin + n; ++r) {
        for (std::int64_t i = 0; i < rows.view.width(); ++i) values.push_back(rows.at(r, i));
    }
    return Rows(rows.view.dtype, n, rows.view.width(), 2, values);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(attention)

BOOST_AUTO_TEST_CASE(every_small_size_and_the_edges_of_blocks) {
    for_devices([](Device& device) {
        std::uint64_t seed = 0;
        std::vector<std::int64_t> small(72);
        std::iota(small.begin(), small.end(), 1);
        if (kOnGpu) small = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65};
        for (const std::int64_t tokens : small) check_tokens(tokens, device, seed++);
        for (const std::int64_t tokens : sizes<std::int64_t>(
                 {95, 96, 97, 127, 128, 129, 143, 144, 145, 191, 192, 193, 200}, {96, 127, 128, 129, 191, 193, 260})) {
            for (int i = 0; i < (kOnGpu ? 2 : 4); ++i) check_tokens(tokens, device, seed++);
        }
        if (!kOnGpu) check_tokens(901, device, 6);  // enough for the CPU's large query blocks
    });
}

BOOST_AUTO_TEST_CASE(large_query_blocks, *only_on_cpus("only the kernels for CPUs have these blocks")) {
    for_devices([](Device& device) {
        CaseOptions options;
        options.tokens = 700, options.head_dim = 8, options.num_heads = 24, options.num_kv_heads = 4;
        check_forward(make_case(options, 1), device, "many blocks");
        check_backward(make_case(options, 2), device, "many blocks");
    });
}

BOOST_AUTO_TEST_CASE(bfloat16_in_all_combinations_of_types) {
    for_devices([](Device& device) {
        // On a GPU each width that its kernels have, filled by head_dim and not filled.
        const auto head_dims = sizes<std::int64_t>({24, 64}, {24, 64, 128, 40, 120});
        for (std::uint64_t seed = 0; seed < 4 * head_dims.size(); ++seed) {
            CaseOptions options;
            options.tokens = 150, options.head_dim = head_dims[seed % head_dims.size()],
            options.dtype = DType::bfloat16;
            if (kOnGpu) options.num_heads = 4, options.num_kv_heads = 2;
            options.gradient = seed / head_dims.size() % 2 ? DType::float32 : DType::bfloat16;
            options.gap = seed / head_dims.size() / 2 ? 5 : 8;  // rows start at multiples of 16 bytes, or do not
            options.offsets = seed % 3 == 2;
            const Case c = make_case(options, seed);
            check_forward(c, device, text("bfloat16 ", seed));
            check_backward(c, device, text("bfloat16 ", seed));
        }
    });
}

/// The tiles of GPU kernels end at every place for which one of their loops has code: numbers of rows in steps of
/// eight, queries that begin anywhere between keys, and a head_dim that fills the width of the kernel or does not.
BOOST_AUTO_TEST_CASE(tiles_end_anywhere) {
    for_devices([](Device& device) {
        using Kind = std::pair<DType, std::int64_t>;  // type and head_dim
        constexpr DType kWide = DType::float32, kNarrow = DType::bfloat16;
        for (const auto& [dtype, head_dim] : sizes<Kind>({{kNarrow, 64}}, {{kNarrow, 32},
                                                                           {kNarrow, 64},
                                                                           {kNarrow, 128},
                                                                           {kNarrow, 24},
                                                                           {kNarrow, 40},
                                                                           {kNarrow, 120},
                                                                           {kWide, 40},
                                                                           {kWide, 120}}))
            for (std::int64_t i = 0; i < 16; ++i) {
                CaseOptions options;
                options.skipped = 4 * i % 9, options.tokens = options.skipped + 3 + 8 * i, options.head_dim = head_dim;
                options.num_heads = 2, options.num_kv_heads = 1, options.dtype = dtype, options.gap = 8;
                const auto seed = static_cast<std::uint64_t>(i + head_dim);
                const std::string what = text("E ", head_dim, " T ", options.tokens, " from ", options.skipped);
                check_backward(make_case(options, seed), device, what);
                options.wide_out = i % 2;
                check_forward(make_case(options, seed), device, what);
            }
    });
}

/// One kind of heads sees all keys, the other sees sixteen. So a tile that is full for one kind is not full for the
/// other.
BOOST_AUTO_TEST_CASE(kinds_of_heads_that_see_different_tiles) {
    for_devices([](Device& device) {
        for (const std::int64_t head_dim : sizes<std::int64_t>({16}, {32, 64, 128}))
            for (const DType dtype : {DType::float32, DType::bfloat16})
                for (const std::size_t narrow_kind : {0, 1}) {
                    CaseOptions options;
                    options.tokens = 130, options.num_heads = 2, options.num_kv_heads = 1, options.head_dim = head_dim,
                    options.dtype = dtype;
                    Case c = make_case(options, 3);
                    c.problem.num_plain_heads = 1;
                    for (std::size_t t = 0; t < 130; ++t) {
                        c.problem.first_key[narrow_kind][t] = static_cast<std::int32_t>(t < 16 ? 0 : t - 15);
                        c.problem.first_key[1 - narrow_kind][t] = 0;
                    }
                    const std::string what =
                        text("E ", head_dim, " ", name_of(dtype), ", heads of kind ", narrow_kind, " see sixteen keys");
                    check_forward(c, device, what);
                    check_backward(c, device, what);
                }
    });
}

/// Keys in random pieces, in random order, merged through lse: out, lse and gradients are those over all keys at once.
BOOST_AUTO_TEST_CASE(pieces_of_keys_equal_the_whole) {
    for_devices([](Device& device) {
        for (std::uint64_t seed = 0; seed < (kOnGpu ? 7 : 12); ++seed) {
            CaseOptions options;
            options.tokens = 40 + 15 * static_cast<std::int64_t>(seed), options.head_dim = 32;
            if (kOnGpu && seed >= 4)
                options.dtype = DType::bfloat16, options.wide_out = true, options.head_dim <<= seed - 4;
            const Case c = make_case(options, seed);
            std::vector<std::int64_t> cuts = {0, options.tokens};
            for (std::uint64_t i = 0; i < 1 + seed % 4; ++i)
                cuts.push_back(
                    static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(options.tokens), seed, 9, i)));
            std::sort(cuts.begin(), cuts.end());
            std::vector<std::size_t> order(cuts.size() - 1);
            for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
            for (std::size_t i = order.size() - 1; i > 0; --i)
                std::swap(order[i], order[random_below(i + 1, seed, 10, i)]);
            Operands o(c);
            AttentionPlace place = o.place;
            bool accumulate = false;
            for (const std::size_t i : order) {
                Rows k = part(o.k, cuts[i], cuts[i + 1] - cuts[i]), v = part(o.v, cuts[i], cuts[i + 1] - cuts[i]);
                place.key_begin = cuts[i];
                o.on(device,
                     [&](Ops ops, const OnDevice& at, const Windows& windows) {
                         ops.attention_forward({.out = at(o.out), .lse = at(o.lse)},
                                               {.q = at(o.q), .k = at(k), .v = at(v)}, windows, place, accumulate);
                     },
                     {&k, &v});
                accumulate = true;
            }
            for (const std::size_t i : order) {
                const std::int64_t n = cuts[i + 1] - cuts[i];
                Rows k = part(o.k, cuts[i], n), v = part(o.v, cuts[i], n);
                place.key_begin = cuts[i];
                o.on(device,
                     [&](Ops ops, const OnDevice& at, const Windows& windows) {
                         ops.attention_backward(
                             {.d_q = at(o.d_q), .d_k = at(o.d_k).rows(cuts[i], n), .d_v = at(o.d_v).rows(cuts[i], n)},
                             {.q = at(o.q),
                              .k = at(k),
                              .v = at(v),
                              .d_out = at(o.d_out),
                              .out = at(o.out),
                              .lse = at(o.lse)},
                             windows, place);
                     },
                     {&k, &v});
            }
            Values out, lse, d_q(c.q.size()), d_k(c.k.size()), d_v(c.v.size());
            reference::attention_forward(out, lse, c.q, c.k, c.v, c.problem);
            reference::attention_backward(d_q, d_k, d_v, c.d_out, out, lse, c.q, c.k, c.v, c.problem);
            // Each merge adds a few rounding errors of its weights, which grow with |lse| of about 5. In bfloat16 the
            // operands of products are rounded.
            const double budget = options.dtype == DType::bfloat16 ? 4 * 0x1p-8 : 64 * 0x1p-24;
            for (const auto& [kernel, ref] : {std::pair{o.out.values(), out},
                                              {o.lse.values(), lse},
                                              {o.d_q.values(), d_q},
                                              {o.d_k.values(), d_k},
                                              {o.d_v.values(), d_v}}) {
                BOOST_TEST(max_difference(kernel, ref) <= budget * max_abs(ref), "seed " << seed);
            }
        }
    });
}

BOOST_AUTO_TEST_CASE(the_reference_agrees_with_finite_differences) {
    CaseOptions options;
    options.tokens = 7, options.num_heads = 4, options.num_kv_heads = 2, options.head_dim = 3;
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const Case c = make_case(options, seed);
        Values inputs[3] = {c.q, c.k, c.v}, out, lse,
               gradients[3] = {Values(c.q.size()), Values(c.k.size()), Values(c.v.size())};
        const auto loss = [&] {
            Values y, l;
            reference::attention_forward(y, l, inputs[0], inputs[1], inputs[2], c.problem);
            return reference::dot(y, 0, c.d_out, 0, static_cast<std::int64_t>(y.size()));
        };
        reference::attention_forward(out, lse, c.q, c.k, c.v, c.problem);
        reference::attention_backward(gradients[0], gradients[1], gradients[2], c.d_out, out, lse, c.q, c.k, c.v,
                                      c.problem);
        for (int i = 0; i < 3; ++i) {
            for (std::size_t j = 0; j < inputs[i].size(); ++j) {
                const double x = inputs[i][j], h = 1e-5;
                inputs[i][j] = x + h;
                const double above = loss();
                inputs[i][j] = x - h;
                const double below = loss();
                inputs[i][j] = x;
                BOOST_TEST(std::abs((above - below) / (2 * h) - gradients[i][j]) < 1e-8);
            }
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace longlora::attention_testing
