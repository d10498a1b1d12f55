// Cross entropy, sums of squares, the clip scale, AdamW, fill, add and copy against the reference.
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(loss_and_optimizer)

static const DType kTypes[] = {kFloat, kBfloat};

static Tensor scalar_of(const Buffer& buffer) { return Tensor(buffer.tensor().bytes, buffer.tensor().dtype, Shape{}); }
static Buffer make_scalar(Device& device, DType dtype, double value) {
    return Buffer(device, dtype, Values(1, 1, value));
}

BOOST_AUTO_TEST_CASE(cross_entropy) {
    for_devices([](Device& device) {
        for (const std::int64_t tokens : {1, 7, 33})
            for (const std::int64_t vocabulary : {1, 7, 64, 65, 2049})
                for (const DType type : kTypes) {
                    const std::string what = text("cross entropy (", tokens, ",", vocabulary, ") ", name_of(type));
                    const Values logits = random_values(tokens, vocabulary, 1, type, 4);
                    Ids labels(static_cast<std::size_t>(tokens));
                    for (std::size_t t = 0; t < labels.size(); ++t)
                        labels[t] = t % 3 == 1 ? -1
                                               : static_cast<std::int32_t>(
                                                     random_below(static_cast<std::uint64_t>(vocabulary), 5, 1, t));
                    const IdBuffer label_buffer(device, labels);
                    Buffer x(device, type, logits, 3), loss = make_scalar(device, DType::float64, 2.5),
                                                       again = make_scalar(device, DType::float64, 2.5);
                    Values ref = logits;
                    PlainValues plain(logits);
                    double ref_loss = 2.5, plain_loss = 2.5;
                    reference::cross_entropy<double>(ref_loss, ref, labels, 0.125, true);
                    reference::cross_entropy<float>(plain_loss, plain, labels, 0.125f, true);
                    device.ops().cross_entropy(scalar_of(loss), x, label_buffer, 0.125f, false);
                    BOOST_TEST(distance(x.read(), logits) == 0);  // untouched without gradient
                    device.ops().cross_entropy(scalar_of(again), x, label_buffer, 0.125f, true);
                    BOOST_TEST(loss.read()(0, 0) == again.read()(0, 0));
                    BOOST_TEST(std::abs(loss.read()(0, 0) - ref_loss) <=
                               2 * std::abs(plain_loss - ref_loss) + 4 * 0x1p-24 * std::abs(ref_loss));
                    check_close(x.read(), ref, plain, type, what);
                }
        // Large logits do not overflow; a NaN reaches the loss.
        Values large(1, 3);
        large.values = {3e38, -3e38, 3e38};
        const IdBuffer first(device, {0});
        Buffer x(device, kFloat, large), loss = make_scalar(device, DType::float64, 0);
        device.ops().cross_entropy(scalar_of(loss), x, first, 1, true);
        BOOST_TEST(std::abs(loss.read()(0, 0) - std::log(2.0)) < 1e-6);
        BOOST_TEST(std::abs(x.read()(0, 0) + 0.5) < 1e-6);
        BOOST_TEST(x.read()(0, 1) == 0);
        large.values = {1, NAN, 2};
        Buffer bad(device, kFloat, large);
        device.ops().cross_entropy(scalar_of(loss), bad, first, 1, false);
        BOOST_TEST(std::isnan(loss.read()(0, 0)));
    });
    Values logits = random_values(4, 5, 9, DType::float64), gradient = logits;
    const Ids labels = {3, -1, 0, 4};
    double unused = 0;
    reference::cross_entropy<double>(unused, gradient, labels, 1, true);
    check_gradient(
        [&](const Values& at) {
            Values copy = at;
            double loss = 0;
            reference::cross_entropy<double>(loss, copy, labels, 1, false);
            return loss;
        },
        logits, gradient, "cross entropy");
}

BOOST_AUTO_TEST_CASE(sum_of_squares_and_clip) {
    for_devices([](Device& device) {
        for (const std::int64_t n : {1, 63, 16385, 100'003})
            for (const DType type : kTypes) {
                const Values x = random_values(1, n, 1, type);
                const Values column = random_values(n % 100 + 1, 7, 2, type);
                const Buffer in(device, type, x), strided(device, type, column, 4);
                Buffer sum = make_scalar(device, DType::float64, 3);
                device.ops().sum_squares(scalar_of(sum), in);
                device.ops().sum_squares(scalar_of(sum), strided);
                const double expected = 3 + dot(x, x) + dot(column, column);
                BOOST_TEST(std::abs(sum.read()(0, 0) - expected) <= 1e-12 * expected);
            }
        const auto clip = [&](double squares, double loss, double most) {
            const Buffer s = make_scalar(device, DType::float64, squares),
                         l = make_scalar(device, DType::float64, loss);
            Buffer scale = make_scalar(device, kFloat, -1);
            device.ops().clip_scale(scalar_of(scale), {.sum_squares = scalar_of(s), .loss_sum = scalar_of(l)}, most);
            return scale.read()(0, 0);
        };
        BOOST_TEST(clip(0.25, 1, 1) == 1);
        BOOST_TEST(clip(16, 1, 1) == double(float(1 / (4 + 1e-6))));
        BOOST_TEST(clip(16, 1, 0) == 1);
        for (const double bad : {double(INFINITY), double(NAN)}) {
            BOOST_TEST(std::isnan(clip(bad, 1, 1)));
            BOOST_TEST(std::isnan(clip(bad, 1, 0)));
            BOOST_TEST(std::isnan(clip(1, bad, 1)));
        }
    });
}

BOOST_AUTO_TEST_CASE(adamw) {
    for_devices([](Device& device) {
        for (const std::int64_t n : {1, 65, 20'001})
            for (const DType type : kTypes) {
                Values master = random_values(1, n, 1, kFloat), m(1, n), v(1, n);
                PlainValues plain(master), plain_m(1, n), plain_v(1, n);
                Buffer p(device, kFloat, master), first(device, kFloat, m), second(device, kFloat, v),
                    weight(device, type, Values(1, n)), scale = make_scalar(device, kFloat, 0.75);
                AdamwOptions options{.lr = 1e-2, .eps = 1e-2, .weight_decay = 0.1};  // eps is large enough to matter
                for (options.step = 1; options.step <= 10; ++options.step) {
                    const Values grad = random_values(1, n, 100 + static_cast<std::uint64_t>(options.step), kFloat);
                    const Buffer g(device, kFloat, grad);
                    device.ops().adamw(
                        {.master = p.vector(), .m = first.vector(), .v = second.vector(), .weight = weight.vector()},
                        {.grad = g.vector(), .scale = scalar_of(scale)}, options);
                    for (std::int64_t i = 0; i < n; ++i) {
                        reference::adamw<double>(master(0, i), m(0, i), v(0, i), grad(0, i), 0.75, options.lr,
                                                 options.beta1, options.beta2, options.eps, options.weight_decay,
                                                 options.step);
                        reference::adamw<float>(plain(0, i), plain_m(0, i), plain_v(0, i), float(grad(0, i)), 0.75f,
                                                options.lr, options.beta1, options.beta2, options.eps,
                                                options.weight_decay, options.step);
                    }
                }
                check_close(p.read(), master, plain, kFloat, "adamw master");
                check_close(first.read(), m, plain_m, kFloat, "adamw m");
                check_close(second.read(), v, plain_v, kFloat, "adamw v");
                Values narrow = p.read();
                for (double& x : narrow.values) x = rounded(x, type);
                BOOST_TEST(distance(weight.read(), narrow) == 0);

                const Values before[] = {p.read(), first.read(), second.read(), weight.read()};
                const Buffer nan = make_scalar(device, kFloat, NAN), g(device, kFloat, Values(1, n, 1));
                device.ops().adamw(
                    {.master = p.vector(), .m = first.vector(), .v = second.vector(), .weight = weight.vector()},
                    {.grad = g.vector(), .scale = scalar_of(nan)}, options);
                Buffer* after[] = {&p, &first, &second, &weight};
                for (int i = 0; i < 4; ++i) BOOST_TEST(distance(after[i]->read(), before[i]) == 0);
                device.ops().adamw({.master = p.vector(), .m = first.vector(), .v = second.vector(), .weight = {}},
                                   {.grad = g.vector(), .scale = scalar_of(scale)}, options);  // no weight
                BOOST_TEST(distance(p.read(), before[0]) > 0);
                BOOST_TEST(distance(weight.read(), before[3]) == 0);
            }
    });
}

BOOST_AUTO_TEST_CASE(fill_add_copy) {
    for_devices([](Device& device) {
        for (const std::int64_t padding : {0, 5})
            for (const DType y_type : kTypes)
                for (const DType x_type : kTypes)
                    for (const std::int64_t width : {1, 65, 20'000}) {
                        const Values x = random_values(3, width, 1, x_type), y = random_values(3, width, 2, y_type);
                        const Buffer from(device, x_type, x, padding);
                        Buffer sum(device, y_type, y, padding), copy(device, y_type, y, 2),
                            filled(device, y_type, y, padding);
                        device.ops().add(sum, from, 0.5f);
                        device.ops().copy(copy, from);
                        device.ops().fill(filled, 0.375f);
                        Values ref_sum = y, ref_copy = x;
                        for (std::size_t i = 0; i < y.values.size(); ++i) {
                            ref_sum.values[i] = rounded(
                                static_cast<float>(y.values[i]) + 0.5f * static_cast<float>(x.values[i]), y_type);
                            ref_copy.values[i] = rounded(x.values[i], y_type);
                        }
                        BOOST_TEST(distance(sum.read(), ref_sum) == 0);
                        BOOST_TEST(distance(copy.read(), ref_copy) == 0);
                        BOOST_TEST(distance(filled.read(), Values(3, width, 0.375)) == 0);
                    }
        Buffer a = make_scalar(device, DType::float64, 1e-17), b = make_scalar(device, DType::float64, 3);
        device.ops().add(scalar_of(a), scalar_of(b), 2);
        BOOST_TEST(a.read()(0, 0) == 6 + 1e-17);
        const IdBuffer ids(device, {1, 2, 3}), to(device, {0, 0, 0});
        device.ops().copy(to, ids);
        BOOST_TEST((to.read(device) == Ids{1, 2, 3}));
        device.ops().fill(to, 7);
        BOOST_TEST((to.read(device) == Ids{7, 7, 7}));
        // Rounding to bfloat16: to nearest even; infinities and NaN stay what they are.
        Values odd(1, 5);
        odd.values = {1 + 0x1p-8, 1 + 3 * 0x1p-8, double(INFINITY), 3.4e38, double(NAN)};
        const Buffer wide(device, kFloat, odd);
        Buffer narrow(device, kBfloat, Values(1, 5));
        device.ops().copy(narrow, wide);
        const Values got = narrow.read();
        BOOST_TEST(got(0, 0) == 1);
        BOOST_TEST(got(0, 1) == 1 + 4 * 0x1p-8);
        BOOST_TEST(std::isinf(got(0, 2)));
        BOOST_TEST(std::isinf(got(0, 3)));
        BOOST_TEST(std::isnan(got(0, 4)));
    });
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
