// Long rows, many rows and many tokens: sizes for which devices take another path than in the other tests. Rows are
// longer than threads hold in registers, or do not fit into fast memory; there are more tokens than are sorted at
// once; a sum has more pieces than blocks; a product needs more than one panel. There are few cases of each, since
// they take long on a simulated GPU.
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(layer_ops)

/// Half of the tokens have one id, the others have any id. On a GPU 5,001 tokens are merged five times from sorted
/// runs of 256, and one row of the table adds about 2,500 tokens.
BOOST_AUTO_TEST_CASE(embedding_backward_of_many_tokens) {
    for_devices([](Device& device) {
        for (const std::int64_t tokens : {255, 256, 257, 511, 512, 513, 768, 1025, 5001}) {
            constexpr std::int64_t kVocabulary = 700, kWidth = 20;
            Ids ids(static_cast<std::size_t>(tokens));
            for (std::size_t i = 0; i < ids.size(); ++i)
                ids[i] =
                    random_below(2, 3, 1, i)
                        ? 433
                        : static_cast<std::int32_t>(random_below(static_cast<std::uint64_t>(kVocabulary), 3, 2, i));
            const IdBuffer id_buffer(device, ids);
            for (const DType type : {kFloat, kBfloat}) {
                const Values d_out = random_values(tokens, kWidth, 3, type),
                             was = random_values(kVocabulary, kWidth, 4, kFloat);
                Buffer d_table(device, kFloat, was);
                const Buffer gradient(device, type, d_out);
                device.ops().embedding_backward(d_table, gradient, id_buffer);
                PlainValues plain(was);
                reference::embedding_backward(plain, PlainValues(d_out), ids);
                // Equal bits, since the operation adds in the order of the tokens.
                BOOST_TEST(distance(d_table.read(), Values(plain)) == 0, tokens);
            }
        }
    });
}

BOOST_AUTO_TEST_CASE(rmsnorm_of_long_rows_and_many_chunks) {
    for_devices([](Device& device) {
        const std::int64_t sizes[][2] = {{3, 8200}, {18, 8203}, {1100, 8}};
        for (const auto& [tokens, width] : sizes)
            for (const DType type : {kFloat, kBfloat}) {
                const std::string what = text("rmsnorm (", tokens, ",", width, ") ", name_of(type));
                const Values x = random_values(tokens, width, 1, type), weight = random_values(1, width, 2, type),
                             d_y = random_values(tokens, width, 3, type);
                const Values d_x_was = random_values(tokens, width, 4, type),
                             d_weight_was = random_values(1, width, 5, kFloat);
                const Buffer in(device, type, x), w(device, type, weight), gradient(device, type, d_y);
                Buffer y(device, type, Values(tokens, width, NAN)), rrms(device, kFloat, Values(tokens, 1, NAN));
                Buffer d_x(device, type, d_x_was), d_weight(device, kFloat, d_weight_was);
                device.ops().rmsnorm_forward(y, rrms.vector(), in, w.vector(), 1e-5f);
                device.ops().rmsnorm_backward({.d_x = d_x, .d_weight = d_weight.vector()},
                                              {.d_y = gradient, .x = in, .weight = w.vector(), .rrms = rrms.vector()});
                Values ref_y(tokens, width), ref_rrms(tokens, 1), ref_d_x = d_x_was, ref_d_weight = d_weight_was;
                PlainValues plain_y(tokens, width), plain_rrms(tokens, 1), plain_d_x(d_x_was),
                    plain_d_weight(d_weight_was);
                reference::rmsnorm_forward<double>(ref_y, ref_rrms, x, weight, 1e-5);
                reference::rmsnorm_forward<float>(plain_y, plain_rrms, PlainValues(x), PlainValues(weight), 1e-5f);
                reference::rmsnorm_backward<double>(ref_d_x, ref_d_weight, d_y, x, weight, ref_rrms);
                reference::rmsnorm_backward<float>(plain_d_x, plain_d_weight, PlainValues(d_y), PlainValues(x),
                                                   PlainValues(weight), plain_rrms);
                check_close(y.read(), ref_y, plain_y, type, what);
                check_close(d_x.read(), ref_d_x, plain_d_x, type, what + " d_x");
                check_close(d_weight.read(), ref_d_weight, plain_d_weight, kFloat, what + " d_weight");
            }
    });
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(loss_and_optimizer)

/// A row is larger than the shared memory of a block: in float32 on every GPU, in bfloat16 on some. The largest logit
/// is far above the others. Its places belong to different threads, the last ones included.
BOOST_AUTO_TEST_CASE(cross_entropy_of_long_rows) {
    for_devices([](Device& device) {
        constexpr std::int64_t kTokens = 4, kVocabulary = 64'001;
        const Ids labels = {63'999, -1, 7, 9};
        const IdBuffer label_buffer(device, labels);
        for (const DType type : {kFloat, kBfloat})
            for (const std::int64_t padding : {7, 8}) {  // rows that do and do not begin at multiples of 16 bytes
                Values logits = random_values(kTokens, kVocabulary, 1, type, 4);
                logits(0, 50'000) = logits(2, 4'093) = logits(3, 8'185) = 150;
                Values ref = logits;
                PlainValues plain(logits);
                double ref_loss = 0, plain_loss = 0;
                reference::cross_entropy<double>(ref_loss, ref, labels, 0.5, true);
                reference::cross_entropy<float>(plain_loss, plain, labels, 0.5f, true);
                Buffer x(device, type, logits, padding), loss(device, DType::float64, Values(1, 1));
                device.ops().cross_entropy(Tensor(loss.tensor().bytes, DType::float64, Shape{}), x, label_buffer, 0.5f,
                                           true);
                BOOST_TEST(std::abs(loss.read()(0, 0) - ref_loss) <=
                           2 * std::abs(plain_loss - ref_loss) + 4 * 0x1p-24 * std::abs(ref_loss));
                check_close(x.read(), ref, plain, type, "cross entropy of a long row");
            }
    });
}

/// 1,100,000 rows of one element have more pieces than a GPU launches blocks (one sum each), so each block adds
/// several.
BOOST_AUTO_TEST_CASE(sum_squares_of_many_rows) {
    for_devices([](Device& device) {
        const Values x = random_values(1'100'000, 1, 1, kBfloat);
        for (const DType type : {kFloat, kBfloat}) {
            const Buffer in(device, type, x, 1);
            Buffer sum(device, DType::float64, Values(1, 1, 3));
            device.ops().sum_squares(Tensor(sum.tensor().bytes, DType::float64, Shape{}), in);
            const double expected = 3 + dot(x, x);
            BOOST_TEST(std::abs(sum.read()(0, 0) - expected) <= 1e-12 * expected);
        }
    });
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(matmul)

/// A panel of a GPU holds 8 Mi float32 elements, or half as many when a bfloat16 result needs a panel of its own.
/// 1200 columns of 8200 elements need several panels.
BOOST_AUTO_TEST_CASE(matmul_in_several_panels) {
    for_devices([](Device& device) {
        constexpr std::int64_t kRows = 2, kColumns = 1200, kDepth = 8200;
        for (const DType out_type : {kFloat, kBfloat})
            for (const bool wide_left : {false, true}) {
                const Values a = random_values(wide_left ? kDepth : kRows, wide_left ? kColumns : kDepth, 1,
                                               wide_left ? kBfloat : kFloat),
                             b = random_values(wide_left ? kRows : kColumns, kDepth, 2, wide_left ? kFloat : kBfloat);
                const std::int64_t m = wide_left ? kColumns : kRows, n = wide_left ? kRows : kColumns;
                Values expected = random_values(m, n, 3, out_type);
                PlainValues plain(expected);
                const Buffer left(device, wide_left ? kBfloat : kFloat, a),
                    right(device, wide_left ? kFloat : kBfloat, b);
                Buffer out(device, out_type, expected, 1);
                device.ops().matmul(out, left, right, Transpose{wide_left}, Transpose::yes, 0.5f, 0.25f);
                reference::matmul<double>(expected, a, b, wide_left, true, 0.5, 0.25);
                reference::matmul<float>(plain, PlainValues(a), PlainValues(b), wide_left, true, 0.5f, 0.25f);
                check_close(out.read(), expected, plain, out_type,
                            text("panels of ", wide_left ? "a" : "b", " into ", name_of(out_type)));
            }
    });
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
