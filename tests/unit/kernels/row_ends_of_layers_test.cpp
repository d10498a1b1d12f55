// The operations of layers on rows that end at every place (tests/unit/kernels/row_shapes.h) and with every mix of
// types. layer_ops_test.cpp and merge_attention_test.cpp test what these operations compute.
#include <limits>

#include "tests/unit/kernels/kernel_testing.h"
#include "tests/unit/kernels/row_shapes.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(layer_ops)

BOOST_AUTO_TEST_CASE(embedding_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [rows, width, padding] : row_shapes()) {
            Ids ids(static_cast<std::size_t>(rows));
            for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(random_below(5, 11, 1, i));
            const IdBuffer id_buffer(device, ids);
            for (const DType type : kRealTypes) {
                const Values table = random_values(5, width, 2, type);
                const Buffer from(device, type, table, padding);
                for (const DType out_type : kRealTypes) {
                    Buffer out(device, out_type, Values(rows, width, NAN), padding);
                    device.ops().embedding_forward(out, from, id_buffer);
                    Values expected(rows, width);
                    reference::embedding_forward(expected, table, ids);
                    for (double& v : expected.values) v = rounded(v, out_type);
                    BOOST_TEST(distance(out.read(), expected) == 0);
                }
                const Values d_out = random_values(rows, width, 3, type), was = random_values(5, width, 4, kFloat);
                Buffer d_table(device, kFloat, was, padding);
                const Buffer gradient(device, type, d_out, padding);
                device.ops().embedding_backward(d_table, gradient, id_buffer);
                PlainValues plain(was);
                reference::embedding_backward(plain, PlainValues(d_out), ids);
                BOOST_TEST(distance(d_table.read(), Values(plain)) == 0);
            }
        }
    });
}

/// Another `seed` gives other numbers, so nothing that an earlier call left in scratch memory is right by chance.
static void check_rmsnorm(Device& device, const RowShape& shape, DType y_type, DType x_type, DType d_type,
                          DType weight_type, std::uint64_t seed = 0) {
    const auto& [rows, width, padding] = shape;
    const std::string what = text("rmsnorm (", rows, ",", width, ") of ", name_of(x_type), " to ", name_of(y_type),
                                  " weight ", name_of(weight_type), " d_y ", name_of(d_type));
    const Values x = random_values(rows, width, seed + 1, x_type),
                 weight = random_values(1, width, seed + 2, weight_type),
                 d_y = random_values(rows, width, seed + 3, d_type);
    const Values d_x_was = random_values(rows, width, seed + 4, y_type),
                 d_weight_was = random_values(1, width, seed + 5, kFloat);
    const Buffer in(device, x_type, x, padding), w(device, weight_type, weight), gradient(device, d_type, d_y, padding);
    Buffer y(device, y_type, Values(rows, width, NAN), padding), rrms(device, kFloat, Values(rows, 1, NAN));
    Buffer d_x(device, y_type, d_x_was, padding), d_weight(device, kFloat, d_weight_was);
    device.ops().rmsnorm_forward(y, rrms.vector(), in, w.vector(), 1e-5f);
    device.ops().rmsnorm_backward({.d_x = d_x, .d_weight = d_weight.vector()},
                                  {.d_y = gradient, .x = in, .weight = w.vector(), .rrms = rrms.vector()});
    Values ref_y(rows, width), ref_rrms(rows, 1), ref_d_x = d_x_was, ref_d_weight = d_weight_was;
    PlainValues plain_y(rows, width), plain_rrms(rows, 1), plain_d_x(d_x_was), plain_d_weight(d_weight_was);
    reference::rmsnorm_forward<double>(ref_y, ref_rrms, x, weight, 1e-5);
    reference::rmsnorm_forward<float>(plain_y, plain_rrms, PlainValues(x), PlainValues(weight), 1e-5f);
    reference::rmsnorm_backward<double>(ref_d_x, ref_d_weight, d_y, x, weight, ref_rrms);
    reference::rmsnorm_backward<float>(plain_d_x, plain_d_weight, PlainValues(d_y), PlainValues(x), PlainValues(weight),
                                       plain_rrms);
    check_close(y.read(), ref_y, plain_y, y_type, what);
    check_close(d_x.read(), ref_d_x, plain_d_x, y_type, what + " d_x");
    check_close(d_weight.read(), ref_d_weight, plain_d_weight, kFloat, what + " d_weight");
}

BOOST_AUTO_TEST_CASE(rmsnorm_of_all_row_ends_and_types) {
    for_devices([](Device& device) {
        for (const RowShape& shape : row_shapes())
            for (const DType type : kRealTypes) check_rmsnorm(device, shape, type, type, type, type);
        const RowShape mixed[] = {{3, 5, 11},   {3, 6, 10},   {3, 7, 9},    {3, 11, 5},   {3, 14, 2},
                                  {3, 15, 2},   {2, 24, 8},   {33, 25, 2},  {20, 400, 0}, {2, 2056, 0},
                                  {2, 8200, 8}, {2, 8203, 5}, {2, 8203, 6}, {2, 12296, 8}};
        std::uint64_t seed = 0;
        // Rows of whole packs that end at the first pack of a thread, at its second, and so on.
        for (const std::int64_t width : {96, 160, 288, 416, 576})
            for (const DType type : kRealTypes)
                check_rmsnorm(device, {3, width, 8}, type, type, type, type, seed += 10);
        for (const RowShape& shape : mixed)
            for (int bits = 0; bits < 16; ++bits)
                check_rmsnorm(device, shape, kRealTypes[bits & 1], kRealTypes[bits >> 1 & 1], kRealTypes[bits >> 2 & 1],
                              kRealTypes[bits >> 3], seed += 10);
    });
}

BOOST_AUTO_TEST_CASE(rotary_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [rows, half, padding] : row_shapes()) {
            if (rows > 10 || half > 100) continue;
            for (const std::int64_t heads : {1, 8, 9})
                for (const DType type : kRealTypes) {
                    const Values cos = random_values(rows + 1, half, 2, kFloat),
                                 sin = random_values(rows + 1, half, 3, kFloat);
                    const Values x = random_values(rows, 2 * half * heads, 1, type);
                    Buffer in(device, type, x, padding);
                    const Buffer c(device, kFloat, cos), s(device, kFloat, sin);
                    device.ops().rotary(in, {.cos = c, .sin = s}, 2 * half, 1, false);
                    Values ref = x;
                    PlainValues plain(x);
                    reference::rotary<double>(ref, cos, sin, 2 * half, 1, false);
                    reference::rotary<float>(plain, PlainValues(cos), PlainValues(sin), 2 * half, 1, false);
                    check_close(in.read(), ref, plain, type, text("rotary ", rows, " x ", heads, " x ", 2 * half));
                }
        }
    });
}

BOOST_AUTO_TEST_CASE(swiglu_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [rows, width, padding] : row_shapes())
            for (const DType type : kRealTypes) {
                const std::string what = text("swiglu (", rows, ",", width, ") ", name_of(type));
                const Values gate = random_values(rows, width, 1, type, 3), up = random_values(rows, width, 2, type),
                             d_out = random_values(rows, width, 3, type);
                const Values nan(rows, width, NAN);
                const Buffer g(device, type, gate, padding), u(device, type, up, padding),
                    dy(device, type, d_out, padding);
                Buffer y(device, type, nan, padding), dg(device, type, nan, padding), du(device, type, nan, padding);
                device.ops().swiglu_forward(y, {.gate = g, .up = u});
                device.ops().swiglu_backward({.d_gate = dg, .d_up = du}, {.d_out = dy, .gate = g, .up = u});
                Values ref(rows, width), ref_dg = ref, ref_du = ref;
                PlainValues plain(ref), plain_dg(ref), plain_du(ref);
                reference::swiglu_forward(ref, gate, up);
                reference::swiglu_forward(plain, PlainValues(gate), PlainValues(up));
                reference::swiglu_backward(ref_dg, ref_du, d_out, gate, up);
                reference::swiglu_backward(plain_dg, plain_du, PlainValues(d_out), PlainValues(gate), PlainValues(up));
                check_close(y.read(), ref, plain, type, what);
                check_close(dg.read(), ref_dg, plain_dg, type, what + " d_gate");
                check_close(du.read(), ref_du, plain_du, type, what + " d_up");
            }
    });
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(merge_attention)

/// In row 0 both results have equal sums, so the merged result is exactly their mean. Row 1 of the second result and
/// row 2 of the first saw no key.
BOOST_AUTO_TEST_CASE(merge_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [some_rows, head_dim, padding] : row_shapes()) {
            if (some_rows > 10 || head_dim > 100) continue;
            constexpr std::int64_t kRows = 3, kHeads = 2;
            const Values first = random_values(kRows, kHeads * head_dim, 1, kFloat),
                         second = random_values(kRows, kHeads * head_dim, 2, kFloat);
            Values lse(kHeads, kRows, 0.75), other_lse(kHeads, kRows, 0.75), expected = first;
            constexpr double kNothing = -std::numeric_limits<double>::infinity();
            for (std::int64_t h = 0; h < kHeads; ++h) lse(h, 2) = other_lse(h, 1) = kNothing;
            for (std::int64_t d = 0; d < kHeads * head_dim; ++d) {
                expected(0, d) =
                    rounded(0.5f * static_cast<float>(first(0, d)) + 0.5f * static_cast<float>(second(0, d)), kFloat);
                expected(2, d) = second(2, d);
            }
            Buffer out(device, kFloat, first, padding), sums(device, kFloat, lse, padding);
            const Buffer other(device, kFloat, second, padding), other_sums(device, kFloat, other_lse, padding);
            device.ops().merge_attention({.out = out, .lse = sums}, {.out = other, .lse = other_sums});
            BOOST_TEST(distance(out.read(), expected) == 0);
            const Values got = sums.read();
            for (std::int64_t h = 0; h < kHeads; ++h) {
                BOOST_TEST(std::abs(got(h, 0) - 0.75 - std::log(2.0)) < 1e-6);
                BOOST_TEST((got(h, 1) == 0.75 && got(h, 2) == 0.75));
            }
        }
    });
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
