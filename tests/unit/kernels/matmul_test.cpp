// matmul against plain double loops: transpositions, alpha and beta, every mix of types, strided rows, empty sides,
// tiles and panels.
#include <bit>

#include "tests/support/preconditions.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(matmul)

struct Case {
    std::int64_t m, n, k;
    DType out, a, b;
    bool transpose_a, transpose_b;
    float alpha, beta;
};

static std::string name_of_case(const Case& c) {
    return text("(", c.m, ",", c.n, ",", c.k, ") ", name_of(c.out), " = ", name_of(c.a), c.transpose_a ? "^T " : " ",
                name_of(c.b), c.transpose_b ? "^T" : "", " alpha ", c.alpha, " beta ", c.beta);
}

static void check_case(Device& device, const Case& c) {
    const Values a = random_values(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, 1, c.a),
                 b = random_values(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, 2, c.b);
    Values expected = random_values(c.m, c.n, 3, c.out);
    PlainValues plain(expected);
    Buffer out(device, c.out, c.beta == 0 ? Values(c.m, c.n, NAN) : expected, 5);
    const Buffer left(device, c.a, a, 3), right(device, c.b, b, 9);
    device.ops().matmul(out, left, right, Transpose{c.transpose_a}, Transpose{c.transpose_b}, c.alpha, c.beta);
    reference::matmul<double>(expected, a, b, c.transpose_a, c.transpose_b, c.alpha, c.beta);
    reference::matmul<float>(plain, PlainValues(a), PlainValues(b), c.transpose_a, c.transpose_b, c.alpha, c.beta);
    check_close(out.read(), expected, plain, c.out, name_of_case(c));
}

static const DType kTypes[] = {kFloat, kBfloat};

BOOST_AUTO_TEST_CASE(all_types_and_transpositions) {
    const std::int64_t sizes[][3] = {{1, 1, 1},    {7, 1, 65},   {1, 63, 7},  {64, 65, 63},
                                     {65, 8, 130}, {130, 65, 8}, {8, 70, 257}};
    for_devices([&](Device& device) {
        for (const auto& size : sizes)
            for (int bits = 0; bits < 32; ++bits)
                for (const auto& [alpha, beta] : {std::pair{1.0f, 0.0f}, {1.0f, 1.0f}, {-0.5f, 0.25f}})
                    check_case(device, {size[0], size[1], size[2], kTypes[bits & 1], kTypes[bits >> 1 & 1],
                                        kTypes[bits >> 2 & 1], bool(bits & 8), bool(bits & 16), alpha, beta});
    });
}

BOOST_AUTO_TEST_CASE(empty_sides) {
    for_devices([](Device& device) {
        for (const DType type : kTypes) {
            const Values was = random_values(4, 5, 1, type);
            const Buffer a(device, type, Values(4, 0)), b(device, type, Values(0, 5));
            Buffer out(device, type, was);
            device.ops().matmul(out, a, b, Transpose::no, Transpose::no, 1, 1);
            BOOST_TEST(distance(out.read(), was) == 0);
            device.ops().matmul(out, a, b, Transpose::no, Transpose::no, 1, 0.5f);
            BOOST_TEST(distance(out.read(), was) == 0.5 * largest(was));
            Buffer nans(device, type, Values(4, 5, NAN));
            device.ops().matmul(nans, a, b, Transpose::no, Transpose::no, 1, 0);
            BOOST_TEST(largest(nans.read()) == 0);
            const Buffer no_rows(device, type, Values(0, 3)), square(device, type, Values(3, 3, 1)),
                no_out(device, type, Values(0, 3));
            device.ops().matmul(no_out, no_rows, square, Transpose::no, Transpose::no);
        }
    });
}

/// Only a sample of the elements of large products is compared. Depths of 9000 and 8200 exceed that of a panel, and
/// 1500 x 1500 exceeds the panel of a bfloat16 result.
BOOST_AUTO_TEST_CASE(tiles_and_panels) {
    const Case cases[] = {{1100, 1030, 1000, kFloat, kFloat, kFloat, false, true, 1, 0},
                          {1030, 1100, 1000, kFloat, kBfloat, kFloat, true, false, 1, 1},
                          {70, 130, 9000, kFloat, kFloat, kBfloat, false, true, 1, 1},
                          {5, 300, 8200, kBfloat, kFloat, kBfloat, false, false, 2, 0.5f},
                          {300, 5, 8200, kBfloat, kBfloat, kFloat, true, false, 1, 0},
                          {1500, 1500, 8, kBfloat, kBfloat, kFloat, false, true, 1, 1},
                          {1100, 1030, 1000, kBfloat, kBfloat, kBfloat, false, true, 1, 0},
                          {600, 520, 8200, kFloat, kBfloat, kBfloat, true, false, 1, 1}};
    for_devices([&](Device& device) {
        for (const Case& c : cases) {
            const Values a = random_values(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, 1, c.a),
                         b = random_values(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, 2, c.b);
            const Values was = random_values(c.m, c.n, 3, c.out);
            const PlainValues plain_a(a), plain_b(b);
            const Buffer left(device, c.a, a), right(device, c.b, b);
            Buffer out(device, c.out, was, 3);
            device.ops().matmul(out, left, right, Transpose{c.transpose_a}, Transpose{c.transpose_b}, c.alpha, c.beta);
            const Values got = out.read();
            // The elements that are compared sum about 10 million terms.
            const std::int64_t step = std::max<std::int64_t>(1, c.m * c.n * c.k / 10'000'000);
            Values sample(1, (c.m * c.n + step - 1) / step), expected = sample;
            PlainValues plain(1, sample.columns);
            for (std::int64_t s = 0; s < sample.columns; ++s) {
                const std::int64_t i = s * step / c.n, j = s * step % c.n;
                sample(0, s) = got(i, j);
                expected(0, s) =
                    c.alpha * reference::product(a, b, c.transpose_a, c.transpose_b, i, j) + c.beta * was(i, j);
                plain(0, s) = c.alpha * reference::product(plain_a, plain_b, c.transpose_a, c.transpose_b, i, j) +
                              c.beta * static_cast<float>(was(i, j));
            }
            check_close(sample, expected, plain, c.out, name_of_case(c));
        }
    });
}

BOOST_AUTO_TEST_CASE(progress_is_called_and_changes_no_bit,
                     *only_on_cpus("only the CPU calls progress between the tiles of a long product")) {
    for_devices([](Device& device) {
        for (const DType type : kTypes) {
            const Buffer a(device, kFloat, random_values(1100, 1000, 1, kFloat)),
                b(device, type, random_values(1200, 1000, 2, type));
            Buffer out(device, kFloat, Values(1100, 1200)), again(device, kFloat, Values(1100, 1200));
            device.ops().matmul(out, a, b, Transpose::no, Transpose::yes);
            int calls = 0;
            device.set_progress([&] { ++calls; });
            device.ops().matmul(again, a, b, Transpose::no, Transpose::yes);
            device.set_progress({});
            BOOST_TEST(calls > 0);
            const bool same = out.read().values == again.read().values;
            BOOST_TEST(same);
        }
    });
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
