// embedding, rmsnorm, rotary and swiglu, forward and backward: against the reference in both types with strided rows,
// and the reference itself against finite differences.
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(layer_ops)

static const DType kTypes[] = {kFloat, kBfloat};
static const std::int64_t kSizes[][2] = {{1, 1}, {1, 64}, {7, 63}, {65, 65}, {130, 576}, {300, 130}};

static Ids random_ids(std::int64_t count, std::int64_t below, std::uint64_t stream) {
    Ids ids(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<std::int32_t>(random_below(static_cast<std::uint64_t>(below), 11, stream, i));
    return ids;
}

BOOST_AUTO_TEST_CASE(embedding) {
    for_devices([](Device& device) {
        for (const auto& [tokens, width] : kSizes)
            for (const DType out_type : kTypes)
                for (const DType type : kTypes) {
                    const Ids ids = random_ids(tokens, 17, 1);
                    const IdBuffer id_buffer(device, ids);
                    const Values table = random_values(17, width, 2, type);
                    const Buffer rows(device, type, table, 3);
                    Buffer out(device, out_type, Values(tokens, width, NAN), 5);
                    device.ops().embedding_forward(out, rows, id_buffer);
                    Values expected(tokens, width);
                    reference::embedding_forward(expected, table, ids);
                    for (double& v : expected.values) v = rounded(v, out_type);
                    BOOST_TEST(distance(out.read(), expected) == 0);

                    const Values d_out = random_values(tokens, width, 3, type),
                                 was = random_values(17, width, 4, kFloat);
                    Buffer d_table(device, kFloat, was, 2);
                    const Buffer gradient(device, type, d_out, 4);
                    device.ops().embedding_backward(d_table, gradient, id_buffer);
                    // The operation adds in the order of the tokens, so plain float loops give the same bits.
                    PlainValues plain(was);
                    reference::embedding_backward(plain, PlainValues(d_out), ids);
                    BOOST_TEST(distance(d_table.read(), Values(plain)) == 0);
                }
    });
}

BOOST_AUTO_TEST_CASE(rmsnorm) {
    const float eps = 1e-5f;
    for_devices([&](Device& device) {
        for (const auto& [tokens, width] : kSizes)
            for (const DType type : kTypes)
                for (const DType weight_type : kTypes) {
                    const std::string what =
                        text("rmsnorm (", tokens, ",", width, ") ", name_of(type), " weight ", name_of(weight_type));
                    const Values x = random_values(tokens, width, 1, type),
                                 weight = random_values(1, width, 2, weight_type),
                                 d_y = random_values(tokens, width, 3, type);
                    const Values d_x_was = random_values(tokens, width, 4, type),
                                 d_weight_was = random_values(1, width, 5, kFloat);
                    Buffer in(device, type, x, 3), w(device, weight_type, weight),
                        y(device, type, Values(tokens, width, NAN), 1), rrms(device, kFloat, Values(tokens, 1, NAN));
                    device.ops().rmsnorm_forward(y, rrms.vector(), in, w.vector(), eps);
                    Values ref_y(tokens, width), ref_rrms(tokens, 1), ref_d_x = d_x_was, ref_d_weight = d_weight_was;
                    PlainValues plain_y(tokens, width), plain_rrms(tokens, 1), plain_d_x(d_x_was),
                        plain_d_weight(d_weight_was);
                    reference::rmsnorm_forward<double>(ref_y, ref_rrms, x, weight, eps);
                    reference::rmsnorm_forward<float>(plain_y, plain_rrms, PlainValues(x), PlainValues(weight), eps);
                    check_close(y.read(), ref_y, plain_y, type, what);
                    check_close(rrms.read(), ref_rrms, plain_rrms, kFloat, what + " rrms");

                    Buffer gradient(device, type, d_y, 2), d_x(device, type, d_x_was, 7),
                        d_weight(device, kFloat, d_weight_was), alone(device, type, d_x_was);
                    device.ops().rmsnorm_backward(
                        {.d_x = d_x, .d_weight = d_weight.vector()},
                        {.d_y = gradient, .x = in, .weight = w.vector(), .rrms = rrms.vector()});
                    device.ops().rmsnorm_backward(
                        {.d_x = alone, .d_weight = {}},
                        {.d_y = gradient, .x = in, .weight = w.vector(), .rrms = rrms.vector()});
                    reference::rmsnorm_backward<double>(ref_d_x, ref_d_weight, d_y, x, weight, ref_rrms);
                    reference::rmsnorm_backward<float>(plain_d_x, plain_d_weight, PlainValues(d_y), PlainValues(x),
                                                       PlainValues(weight), plain_rrms);
                    check_close(d_x.read(), ref_d_x, plain_d_x, type, what + " d_x");
                    check_close(d_weight.read(), ref_d_weight, plain_d_weight, kFloat, what + " d_weight");
                    BOOST_TEST(distance(d_x.read(), alone.read()) == 0);

                    device.ops().rmsnorm_forward(in, rrms.vector(), in, w.vector(), eps);  // in place
                    BOOST_TEST(distance(in.read(), y.read()) == 0);
                }
    });
}

BOOST_AUTO_TEST_CASE(rotary) {
    for_devices([](Device& device) {
        for (const std::int64_t tokens : {1, 7, 65})
            for (const std::int64_t heads : {1, 3})
                for (const std::int64_t head_dim : {2, 6, 64, 80})
                    for (const DType type : kTypes)
                        for (const bool inverse : {false, true}) {
                            const std::int64_t half = head_dim / 2, begin = 5;
                            Values cos(tokens + begin + 2, half), sin = cos,
                                                                  x = random_values(tokens, heads * head_dim, 1, type);
                            for (std::int64_t p = 0; p < cos.rows; ++p)
                                for (std::int64_t i = 0; i < half; ++i) {
                                    const double angle =
                                        static_cast<double>(p) *
                                        std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
                                    cos(p, i) = rounded(std::cos(angle), kFloat),
                                           sin(p, i) = rounded(std::sin(angle), kFloat);
                                }
                            Buffer in(device, type, x, 6);
                            const Buffer c(device, kFloat, cos), s(device, kFloat, sin);
                            device.ops().rotary(in, {.cos = c, .sin = s}, head_dim, begin, inverse);
                            Values ref = x;
                            PlainValues plain(x);
                            reference::rotary<double>(ref, cos, sin, head_dim, begin, inverse);
                            reference::rotary<float>(plain, PlainValues(cos), PlainValues(sin), head_dim, begin,
                                                     inverse);
                            check_close(
                                in.read(), ref, plain, type,
                                text("rotary ", tokens, " x ", heads, " x ", head_dim, inverse ? " inverse" : ""));
                        }
    });
}

BOOST_AUTO_TEST_CASE(swiglu) {
    for_devices([](Device& device) {
        for (const auto& [tokens, width] : kSizes)
            for (const DType type : kTypes)
                for (const std::int64_t padding : {0, 3}) {
                    const std::string what = text("swiglu (", tokens, ",", width, ") ", name_of(type));
                    const Values gate = random_values(tokens, width, 1, type, 3),
                                 up = random_values(tokens, width, 2, type),
                                 d_out = random_values(tokens, width, 3, type);
                    const Values nan(tokens, width, NAN);
                    Buffer g(device, type, gate, padding), u(device, type, up, padding), y(device, type, nan, padding),
                        dy(device, type, d_out, padding), dg(device, type, nan, padding),
                        du(device, type, nan, padding);
                    device.ops().swiglu_forward(y, {.gate = g, .up = u});
                    device.ops().swiglu_backward({.d_gate = dg, .d_up = du}, {.d_out = dy, .gate = g, .up = u});
                    Values ref(tokens, width), ref_dg = ref, ref_du = ref;
                    PlainValues plain(ref), plain_dg(ref), plain_du(ref);
                    reference::swiglu_forward(ref, gate, up);
                    reference::swiglu_forward(plain, PlainValues(gate), PlainValues(up));
                    reference::swiglu_backward(ref_dg, ref_du, d_out, gate, up);
                    reference::swiglu_backward(plain_dg, plain_du, PlainValues(d_out), PlainValues(gate),
                                               PlainValues(up));
                    check_close(y.read(), ref, plain, type, what);
                    check_close(dg.read(), ref_dg, plain_dg, type, what + " d_gate");
                    check_close(du.read(), ref_du, plain_du, type, what + " d_up");

                    // The allowed aliases give the same bits: d_gate may be gate, d_up may be up or d_out, and out
                    // may be gate or up.
                    Buffer g2(device, type, gate, padding), dy2(device, type, d_out, padding),
                        g3(device, type, gate, padding), u3(device, type, up, padding);
                    device.ops().swiglu_backward({.d_gate = g2, .d_up = dy2}, {.d_out = dy2, .gate = g2, .up = u});
                    device.ops().swiglu_backward({.d_gate = g3, .d_up = u3}, {.d_out = dy, .gate = g3, .up = u3});
                    for (Buffer* in_place : {&g2, &g3}) BOOST_TEST(distance(in_place->read(), dg.read()) == 0);
                    for (Buffer* in_place : {&dy2, &u3}) BOOST_TEST(distance(in_place->read(), du.read()) == 0);
                    Buffer g4(device, type, gate, padding), u4(device, type, up, padding);
                    device.ops().swiglu_forward(g4, {.gate = g4, .up = u});
                    device.ops().swiglu_forward(u4, {.gate = g, .up = u4});
                    for (Buffer* in_place : {&g4, &u4}) BOOST_TEST(distance(in_place->read(), y.read()) == 0);
                }
        // Far from zero: no overflow, no NaN.
        const Values far = [] {
            Values v(1, 6);
            v.values = {-1e30, -200, -90, 90, 200, 1e30};
            return v;
        }();
        Buffer g(device, kFloat, far), ones(device, kFloat, Values(1, 6, 1)), y(device, kFloat, Values(1, 6));
        device.ops().swiglu_forward(y, {.gate = g, .up = ones});
        const Values got = y.read();
        for (int i = 0; i < 6; ++i)
            BOOST_TEST(std::abs(got(0, i) - std::max(0.0, far(0, i))) <= 1e-6 * std::max(0.0, far(0, i)) + 1e-7);
    });
}

BOOST_AUTO_TEST_CASE(references_match_finite_differences) {
    const Values x = random_values(3, 6, 1, DType::float64), weight = random_values(1, 6, 2, DType::float64),
                 d_y = random_values(3, 6, 3, DType::float64), up = random_values(3, 6, 4, DType::float64);
    Values y(3, 6), rrms(3, 1), d_x(3, 6), d_weight(1, 6), d_gate(3, 6), d_up(3, 6);
    const auto norm = [&](const Values& at, const Values& w) {
        reference::rmsnorm_forward<double>(y, rrms, at, w, 1e-5);
        return dot(d_y, y);
    };
    norm(x, weight);
    reference::rmsnorm_backward(d_x, d_weight, d_y, x, weight, Values(rrms));
    check_gradient([&](const Values& at) { return norm(at, weight); }, x, d_x, "rmsnorm d_x");
    check_gradient([&](const Values& w) { return norm(x, w); }, weight, d_weight, "rmsnorm d_weight");

    const auto gated = [&](const Values& g, const Values& u) {
        reference::swiglu_forward(y, g, u);
        return dot(d_y, y);
    };
    reference::swiglu_backward(d_gate, d_up, d_y, x, up);
    check_gradient([&](const Values& g) { return gated(g, up); }, x, d_gate, "swiglu d_gate");
    check_gradient([&](const Values& u) { return gated(x, u); }, up, d_up, "swiglu d_up");

    Values cos(3, 3), sin(3, 3), turned = d_y;
    for (int p = 0; p < 3; ++p)
        for (int i = 0; i < 3; ++i) cos(p, i) = std::cos(p + 0.3 * i), sin(p, i) = std::sin(p + 0.3 * i);
    reference::rotary(turned, cos, sin, 6, 0, true);
    check_gradient(
        [&](const Values& at) {
            Values z = at;
            reference::rotary(z, cos, sin, 6, 0, false);
            return dot(d_y, z);
        },
        x, turned, "rotary");
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
