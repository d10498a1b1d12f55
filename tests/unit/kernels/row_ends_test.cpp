// Operations on rows that end at every place: every width around the packs that devices take at once, rows that do
// and do not begin at multiples of 32 bytes, and from one row to more rows than a block takes. The tests cover fill,
// add, copy, products of depth 0, AdamW, cross entropy and sums of squares; row_ends_of_layers_test.cpp tests the
// operations of layers.
#include <cstring>

#include "tests/unit/kernels/kernel_testing.h"
#include "tests/unit/kernels/row_shapes.h"

namespace longlora {
using namespace kernel_testing;

static Tensor scalar_of(const Buffer& buffer) { return Tensor(buffer.tensor().bytes, buffer.tensor().dtype, Shape{}); }

BOOST_AUTO_TEST_SUITE(loss_and_optimizer)

BOOST_AUTO_TEST_CASE(fill_add_copy_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [rows, width, padding] : row_shapes())
            for (const DType y_type : kRealTypes) {
                const Values y = random_values(rows, width, 2, y_type);
                Buffer filled(device, y_type, y, padding);
                device.ops().fill(filled, 0.375f);
                BOOST_TEST(distance(filled.read(), Values(rows, width, 0.375)) == 0);
                for (const DType x_type : kRealTypes) {
                    const Values x = random_values(rows, width, 1, x_type);
                    const Buffer from(device, x_type, x, padding);
                    Buffer sum(device, y_type, y, padding), copy(device, y_type, y, padding);
                    device.ops().add(sum, from, 0.5f);
                    device.ops().copy(copy, from);
                    Values ref_sum = y, ref_copy = x;
                    for (std::size_t i = 0; i < y.values.size(); ++i) {
                        ref_sum.values[i] =
                            rounded(static_cast<float>(y.values[i]) + 0.5f * static_cast<float>(x.values[i]), y_type);
                        ref_copy.values[i] = rounded(x.values[i], y_type);
                    }
                    BOOST_TEST(distance(sum.read(), ref_sum) == 0);
                    BOOST_TEST(distance(copy.read(), ref_copy) == 0);
                }
            }
        for (const std::int64_t width : {1, 2, 3, 8, 9, 599, 4103}) {
            Buffer wide(device, DType::float64, Values(3, width, 1), width % 3);
            device.ops().fill(wide, -2.5f);
            BOOST_TEST(distance(wide.read(), Values(3, width, -2.5)) == 0);
        }
    });
}

/// Copies rows of `width` bytes from and to the middle of larger rows, at every alignment; no other byte may change.
BOOST_AUTO_TEST_CASE(copy_of_bytes) {
    struct Case {
        std::int64_t rows, width, stride, begin;
    };
    std::vector<Case> cases;
    for (std::int64_t begin = 0; begin <= 16; begin = begin ? 2 * begin : 1)
        for (const std::int64_t width : {1, 2, 4, 6, 8, 16, 24, 32, 33})
            cases.push_back({300, width, 64, begin}), cases.push_back({5, width, 67, begin});
    for (const std::int64_t width : {4112, 4104, 4100, 4098, 4097, 20'000})
        cases.push_back({1, width, width, 0}), cases.push_back({3, width, width + 16, 0});
    for_devices([&](Device& device) {
        for (const auto& [rows, width, stride, begin] : cases) {
            const std::int64_t size = begin + rows * stride + 16;
            const ArenaTensor from = device.memory().tensor(DType::uint8, {size}, Use::workspace),
                              to = device.memory().tensor(DType::uint8, {size}, Use::workspace);
            const ArenaTensor host = device.pinned().tensor(DType::uint8, {size}, Use::workspace),
                              before = device.pinned().tensor(DType::uint8, {size}, Use::workspace);
            for (std::int64_t i = 0; i < size; ++i)
                host->data<std::uint8_t>()[i] = static_cast<std::uint8_t>(i * 7 + i / 251),
                before->data<std::uint8_t>()[i] = 0xA5;
            device.copy_to_device(from, host, Device::compute_stream()),
                device.copy_to_device(to, before, Device::compute_stream());
            const auto part = [&](const Tensor& all) {
                Tensor t(all.bytes + begin, DType::uint8, {rows, width});
                t.row_stride = stride;
                return t;
            };
            device.ops().copy(part(to), part(from));
            const ArenaTensor after = device.pinned().tensor(DType::uint8, {size}, Use::workspace);
            device.copy_to_host(after, to, Device::compute_stream());
            device.synchronize(Device::compute_stream());
            for (std::int64_t row = 0; row < rows; ++row)
                std::memcpy(before->data<std::uint8_t>() + begin + row * stride,
                            host->data<std::uint8_t>() + begin + row * stride, static_cast<std::size_t>(width));
            const bool as_expected = std::memcmp(after->data<std::uint8_t>(), before->data<std::uint8_t>(),
                                                 static_cast<std::size_t>(size)) == 0;
            BOOST_TEST(as_expected, rows << " rows of " << width << " from " << begin);
        }
    });
}

BOOST_AUTO_TEST_CASE(adamw_of_slices) {
    for_devices([](Device& device) {
        for (const std::int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 1030})
            for (const std::int64_t begin : {0, 1, 4})
                for (const DType type : kRealTypes) {
                    const std::int64_t size = n + begin + 3;
                    Values master = random_values(1, size, 1, kFloat), m = random_values(1, size, 2, kFloat),
                           v = random_values(1, size, 3, kFloat);
                    for (double& x : v.values) x = std::abs(x);
                    const Values grad = random_values(1, size, 4, kFloat);
                    PlainValues plain(master), plain_m(m), plain_v(v);
                    Buffer p(device, kFloat, master), first(device, kFloat, m), second(device, kFloat, v),
                        weight(device, type, Values(1, size, 7));
                    const Buffer scale(device, kFloat, Values(1, 1, 0.5));
                    const Buffer g(device, kFloat, grad);
                    const AdamwOptions options{.lr = 1e-2, .eps = 1e-2, .weight_decay = 0.1, .step = 3};
                    const auto part = [&](const Buffer& buffer) { return buffer.vector().slice(begin, n); };
                    device.ops().adamw({.master = part(p), .m = part(first), .v = part(second), .weight = part(weight)},
                                       {.grad = part(g), .scale = scalar_of(scale)}, options);
                    Values narrow(1, size, 7);
                    for (std::int64_t i = begin; i < begin + n; ++i) {
                        reference::adamw<double>(master(0, i), m(0, i), v(0, i), grad(0, i), 0.5, options.lr,
                                                 options.beta1, options.beta2, options.eps, options.weight_decay, 3);
                        reference::adamw<float>(plain(0, i), plain_m(0, i), plain_v(0, i), float(grad(0, i)), 0.5f,
                                                options.lr, options.beta1, options.beta2, options.eps,
                                                options.weight_decay, 3);
                    }
                    const Values got = p.read();
                    for (std::int64_t i = begin; i < begin + n; ++i) narrow(0, i) = rounded(got(0, i), type);
                    check_close(got, master, plain, kFloat, text("adamw master ", n, " from ", begin));
                    check_close(first.read(), m, plain_m, kFloat, "adamw m");
                    check_close(second.read(), v, plain_v, kFloat, "adamw v");
                    BOOST_TEST(distance(weight.read(), narrow) == 0);
                }
    });
}

/// Each place of a row once holds by far the largest logit, which overflows if the maximum leaves it out. The label
/// is sometimes there and sometimes elsewhere.
BOOST_AUTO_TEST_CASE(cross_entropy_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [some_rows, width, padding] : row_shapes()) {
            if (width > 100 || some_rows > 10) continue;
            for (const DType type : kRealTypes) {
                Values logits = random_values(width, width, 1, type);
                Ids labels(static_cast<std::size_t>(width));
                for (std::int64_t i = 0; i < width; ++i) {
                    logits(i, i) = 120;
                    labels[static_cast<std::size_t>(i)] =
                        static_cast<std::int32_t>(i % 4 == 3 ? -1 : (i + i % 2) % width);
                }
                const IdBuffer label_buffer(device, labels);
                Buffer x(device, type, logits, padding), loss(device, DType::float64, Values(1, 1));
                Values ref = logits;
                PlainValues plain(logits);
                double ref_loss = 0, plain_loss = 0;
                reference::cross_entropy<double>(ref_loss, ref, labels, 0.5, true);
                reference::cross_entropy<float>(plain_loss, plain, labels, 0.5f, true);
                device.ops().cross_entropy(scalar_of(loss), x, label_buffer, 0.5f, true);
                const double got = loss.read()(0, 0);
                BOOST_TEST(
                    std::abs(got - ref_loss) <= 2 * std::abs(plain_loss - ref_loss) + 4 * 0x1p-24 * std::abs(ref_loss),
                    width << ": " << got << " is not " << ref_loss);
                check_close(x.read(), ref, plain, type, text("cross entropy of ", width));
            }
        }
    });
}

/// The losses are 0.7 to 6 each, so the sum shows if one is left out.
BOOST_AUTO_TEST_CASE(cross_entropy_of_many_rows) {
    for_devices([](Device& device) {
        for (const std::int64_t tokens : {255, 257, 1000, 1025, 2500}) {
            Values logits(tokens, 2, 0);
            double expected = 0;
            for (std::int64_t t = 0; t < tokens; ++t)
                logits(t, 1) = static_cast<double>(t % 7), expected += std::log1p(std::exp(logits(t, 1)));
            const IdBuffer labels(device, Ids(static_cast<std::size_t>(tokens), 0));
            Buffer x(device, kFloat, logits), loss(device, DType::float64, Values(1, 1));
            device.ops().cross_entropy(scalar_of(loss), x, labels, 1, false);
            BOOST_TEST(std::abs(loss.read()(0, 0) - expected) <= 1e-6 * expected);
        }
    });
}

/// Neighbouring elements are different powers of two, so sums are exact and show if an element is left out.
BOOST_AUTO_TEST_CASE(sum_squares_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [rows, width, padding] : row_shapes()) {
            if (rows > 10) continue;
            for (const DType type : kRealTypes) {
                Values x(rows, width);
                double expected = 3;
                for (std::size_t i = 0; i < x.values.size(); ++i)
                    x.values[i] = std::exp2(double(i % 13)) * (i % 2 ? -1 : 1), expected += x.values[i] * x.values[i];
                const Buffer in(device, type, x, padding);
                Buffer sum(device, DType::float64, Values(1, 1, 3));
                device.ops().sum_squares(scalar_of(sum), in);
                BOOST_TEST(sum.read()(0, 0) == expected);
            }
        }
    });
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(matmul)

/// A product of depth 0 is beta * out.
BOOST_AUTO_TEST_CASE(products_of_depth_zero_of_all_row_ends) {
    for_devices([](Device& device) {
        for (const auto& [rows, width, padding] : row_shapes())
            for (const DType type : kRealTypes) {
                Values was = random_values(rows, width, 1, type);
                const Buffer a(device, type, Values(rows, 0)), b(device, type, Values(0, width));
                Buffer out(device, type, was, padding);
                device.ops().matmul(out, a, b, Transpose::no, Transpose::no, 1, 0.5f);
                for (double& x : was.values) x *= 0.5;
                BOOST_TEST(distance(out.read(), was) == 0);
            }
    });
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
