// What kernels/ops.cpp does before any backend: it refuses wrong shapes, types and aliases, and it records the calls.
// The records of the plan device are those of the device under test.
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(ops_contract)

/// Tensors for every operation: 10 tokens, hidden 16, 2 heads of 8, 1 key/value head, 20 ids.
struct World {
    explicit World(Device& d) : device(d) {
        for (const Tensor& t : {a, b, c, k, v, d_q, d_k, d_v, row, d_row, cos, sin}) ops().fill(t, 0.5f);
        ops().fill(table, 0.25f), ops().fill(ids, 3), ops().fill(first_key, 0);
        for (const Tensor& t : {sum, loss}) ops().fill(t, 0);
        device.recorder().clear();
    }
    Ops ops() const { return device.ops(); }
    Tensor make(DType dtype, Shape shape) {
        owned.push_back(device.memory().tensor(dtype, shape, Use::workspace));
        return owned.back();
    }
    Windows windows() const { return {first_key, {zeros, zeros}, 1}; }

    Device& device;
    std::vector<ArenaTensor> owned;
    std::vector<std::int32_t> zeros = std::vector<std::int32_t>(10, 0);
    AttentionPlace place{.head_dim = 8, .scale = 0.3f};
    Tensor a = make(kFloat, {10, 16}), b = make(kFloat, {10, 16}), c = make(kFloat, {10, 16}),
           d_q = make(kFloat, {10, 16});
    Tensor k = make(kFloat, {10, 8}), v = make(kFloat, {10, 8}), d_k = make(kFloat, {10, 8}),
           d_v = make(kFloat, {10, 8});
    Tensor row = make(kFloat, {16}), d_row = make(kFloat, {16}), per_token = make(kFloat, {10}),
           lse = make(kFloat, {2, 10}), cos = make(kFloat, {10, 4}), sin = make(kFloat, {10, 4});
    Tensor table = make(kBfloat, {20, 16}), d_table = make(kFloat, {20, 16}), ids = make(DType::int32, {10}),
           first_key = make(DType::int32, {2, 10}), square = make(kFloat, {16, 16});
    Tensor sum = make(DType::float64, {}), loss = make(DType::float64, {}), scale = make(kFloat, {});
};

static void call_all(World& w) {
    Ops ops = w.ops();
    ops.fill(w.d_table, 0), ops.fill(w.square, 1);
    ops.matmul(w.c, w.a, w.square, Transpose::no, Transpose::yes);
    ops.embedding_forward(w.c, w.table, w.ids);
    ops.embedding_backward(w.d_table, w.c, w.ids);
    ops.rmsnorm_forward(w.c, w.per_token, w.a, w.row, 1e-5f);
    ops.rmsnorm_backward({.d_x = w.b, .d_weight = w.d_row},
                         {.d_y = w.c, .x = w.a, .weight = w.row, .rrms = w.per_token});
    ops.rmsnorm_backward({.d_x = w.b, .d_weight = {}}, {.d_y = w.c, .x = w.a, .weight = w.row, .rrms = w.per_token});
    ops.rotary(w.a, {.cos = w.cos, .sin = w.sin}, 8, 0, false);
    ops.attention_forward({.out = w.c, .lse = w.lse}, {.q = w.a, .k = w.k, .v = w.v}, w.windows(), w.place, false);
    ops.attention_backward({.d_q = w.d_q, .d_k = w.d_k, .d_v = w.d_v},
                           {.q = w.a, .k = w.k, .v = w.v, .d_out = w.b, .out = w.c, .lse = w.lse}, w.windows(),
                           w.place);
    ops.swiglu_forward(w.c, {.gate = w.a, .up = w.b});
    ops.swiglu_backward({.d_gate = w.a, .d_up = w.b}, {.d_out = w.c, .gate = w.a, .up = w.b});
    ops.cross_entropy(w.loss, w.c, w.ids, 1, true);
    ops.sum_squares(w.sum, w.c);
    ops.clip_scale(w.scale, {.sum_squares = w.sum, .loss_sum = w.loss}, 1);
    ops.adamw({.master = w.row, .m = w.d_row, .v = w.cos.rows(0, 4).reshaped({16}), .weight = {}},
              {.grad = w.sin.rows(0, 4).reshaped({16}), .scale = w.scale}, {.lr = 1e-3});
    ops.add(w.a, w.b, 2);
    ops.copy(w.table.rows(0, 10), w.a);
}

BOOST_AUTO_TEST_CASE(plan_records_what_a_device_records) {
    const auto plan = make_test_plan();
    World planned(*plan);
    call_all(planned);
    BOOST_TEST(plan->recorder().by_operation.size() == 17);
    for_devices([&](Device& device) {
        World world(device);
        call_all(world);
        BOOST_REQUIRE(device.recorder().by_operation.size() == plan->recorder().by_operation.size());
        for (const auto& [name, record] : plan->recorder().by_operation) {
            const OpRecord& same = device.recorder().by_operation.at(name);
            BOOST_TEST((record.calls == same.calls && record.flops == same.flops && record.bytes == same.bytes),
                       name << " differs");
            BOOST_TEST(same.seconds == 0);
        }
        BOOST_TEST(device.memory().high_water_bytes() == plan->memory().high_water_bytes());
        device.recorder().time = true;
        call_all(world);
        BOOST_TEST(device.recorder().by_operation.at("matmul").seconds > 0);
    });
    const auto& records = plan->recorder().by_operation;
    BOOST_TEST(records.at("matmul").flops == 2 * 10 * 16 * 16);
    BOOST_TEST(records.at("matmul").bytes == 4 * (160 + 160 + 256));
    BOOST_TEST(records.at("attention_forward").flops ==
               2 * 4 * 8 * 55);  // heads * two products of two FLOPs * head_dim * visible pairs
    BOOST_TEST(records.at("attention_backward").flops == 2 * 10 * 8 * 55);
    BOOST_TEST(records.at("rmsnorm_backward").calls == 2);
}

#define REFUSED(call) BOOST_CHECK_THROW(w.ops().call, std::logic_error)

BOOST_AUTO_TEST_CASE(wrong_shapes_and_types) {
    const auto plan = make_plan_device();
    World w(*plan);
    const Transpose no = Transpose::no, yes = Transpose::yes;
    REFUSED(matmul(w.c, w.a, w.table, no, yes));  // 20 columns, not 16
    REFUSED(matmul(w.c, w.a, w.square, yes, no));
    REFUSED(matmul(w.c, w.ids, w.square, no, no));
    REFUSED(matmul(w.c, Tensor(nullptr, kFloat, {10, 16}), w.square, no, no));
    REFUSED(embedding_forward(w.c, w.table, w.per_token));
    REFUSED(embedding_forward(w.k, w.table, w.ids));
    REFUSED(embedding_backward(w.table, w.c, w.ids));  // d_table must be float32
    REFUSED(rmsnorm_forward(w.c, w.row, w.a, w.row, 1e-5f));
    REFUSED(rmsnorm_forward(w.c, w.per_token, w.a, w.per_token, 1e-5f));
    REFUSED(rmsnorm_backward({.d_x = w.b, .d_weight = w.per_token},
                             {.d_y = w.c, .x = w.a, .weight = w.row, .rrms = w.per_token}));
    REFUSED(rotary(w.a, {.cos = w.cos, .sin = w.sin}, 16, 0, false));
    REFUSED(rotary(w.a, {.cos = w.cos, .sin = w.sin}, 8, 1, false));  // row 9 would be position 10 of 10
    REFUSED(rotary(w.a, {.cos = w.cos, .sin = w.sin}, 5, 0, false));
    REFUSED(swiglu_forward(w.c, {.gate = w.a, .up = w.k}));
    REFUSED(cross_entropy(w.scale, w.c, w.ids, 1, true));
    REFUSED(sum_squares(w.scale, w.a));
    REFUSED(clip_scale(w.sum, {.sum_squares = w.sum, .loss_sum = w.loss}, 1));
    REFUSED(
        adamw({.master = w.row, .m = w.d_row, .v = w.per_token, .weight = {}}, {.grad = w.cos, .scale = w.scale}, {}));
    REFUSED(add(w.sum, w.scale));
    REFUSED(copy(w.ids, w.per_token));
    REFUSED(fill(Tensor(w.a.bytes, DType::int64, {1}), 1));
    BOOST_TEST(plan->recorder().by_operation.empty());  // what is refused is not recorded
}

BOOST_AUTO_TEST_CASE(wrong_attention) {
    const auto plan = make_plan_device();
    World w(*plan);
    const auto refused = [&](Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, Windows windows,
                             AttentionPlace place, bool accumulate = false) {
        BOOST_CHECK_THROW(
            w.ops().attention_forward({.out = out, .lse = lse}, {.q = q, .k = k, .v = v}, windows, place, accumulate),
            std::logic_error);
    };
    refused(w.c, w.lse, w.a, w.k, w.d_q, w.windows(), w.place);
    refused(w.c, w.per_token, w.a, w.k, w.v, w.windows(), w.place);
    refused(w.c, w.lse, w.a, w.k, w.v, w.windows(), {.head_dim = 16});
    refused(w.c, w.lse, w.a, w.k, w.v, w.windows(), {.head_dim = 8, .query_begin = 1});  // query 10 of 10
    refused(w.c, w.lse, w.a, w.k, w.v, w.windows(), {.head_dim = 8, .key_begin = 1});
    refused(w.a, w.lse, w.a, w.k, w.v, w.windows(), w.place);
    Windows windows = w.windows();
    windows.num_plain_heads = 3;
    refused(w.c, w.lse, w.a, w.k, w.v, windows, w.place);
    windows = w.windows();
    windows.host[1] = std::span<const std::int32_t>(w.zeros).first(9);
    refused(w.c, w.lse, w.a, w.k, w.v, windows, w.place);
    const Tensor half = w.make(kBfloat, {10, 16}), half_k = w.make(kBfloat, {10, 8}), half_v = w.make(kBfloat, {10, 8}),
                 half_out = w.make(kBfloat, {10, 16});
    refused(half_out, w.lse, half, half_k, half_v, w.windows(), w.place, true);  // pieces need float32
    w.ops().attention_forward({.out = half_out, .lse = w.lse}, {.q = half, .k = half_k, .v = half_v}, w.windows(),
                              w.place, false);
    BOOST_CHECK_THROW(w.ops().attention_backward({.d_q = w.d_q, .d_k = w.d_k, .d_v = w.d_k},
                                                 {.q = w.a, .k = w.k, .v = w.v, .d_out = w.b, .out = w.c, .lse = w.lse},
                                                 w.windows(), w.place),
                      std::logic_error);
    BOOST_CHECK_THROW(w.ops().attention_backward({.d_q = w.b, .d_k = w.d_k, .d_v = w.d_v},
                                                 {.q = w.a, .k = w.k, .v = w.v, .d_out = w.b, .out = w.c, .lse = w.lse},
                                                 w.windows(), w.place),
                      std::logic_error);
}

BOOST_AUTO_TEST_CASE(aliases) {
    const auto plan = make_plan_device();
    World w(*plan);
    const Transpose no = Transpose::no;
    REFUSED(matmul(w.a, w.a, w.square, no, no));
    REFUSED(matmul(w.square, w.square.rows(0, 16), w.square, no, no));
    REFUSED(embedding_backward(w.d_table, w.d_table.rows(0, 10), w.ids));
    REFUSED(rmsnorm_backward({.d_x = w.c, .d_weight = w.d_row},
                             {.d_y = w.c, .x = w.a, .weight = w.row, .rrms = w.per_token}));  // d_x may not be d_y
    REFUSED(rmsnorm_backward({.d_x = w.b, .d_weight = w.row},
                             {.d_y = w.c, .x = w.a, .weight = w.row, .rrms = w.per_token}));
    REFUSED(rmsnorm_forward(w.d_table.rows(1, 10), w.per_token, w.d_table.rows(0, 10), w.row,
                            1e-5f));  // overlaps without being it
    REFUSED(swiglu_backward({.d_gate = w.a, .d_up = w.a}, {.d_out = w.c, .gate = w.a, .up = w.b}));
    REFUSED(swiglu_backward({.d_gate = w.c, .d_up = w.b},
                            {.d_out = w.c, .gate = w.a, .up = w.b}));  // d_gate may not be d_out
    REFUSED(swiglu_backward({.d_gate = w.b, .d_up = w.c}, {.d_out = w.c, .gate = w.a, .up = w.b}));  // nor up
    REFUSED(swiglu_backward({.d_gate = w.c, .d_up = w.a},
                            {.d_out = w.d_q, .gate = w.a, .up = w.b}));  // d_up may not be gate
    REFUSED(adamw({.master = w.row, .m = w.row, .v = w.d_row, .weight = {}},
                  {.grad = w.cos.rows(0, 4).reshaped({16}), .scale = w.scale}, {}));
    REFUSED(add(w.a, w.a));
    REFUSED(copy(w.d_table.rows(0, 10), w.d_table.rows(5, 10)));
    Tensor folded = w.square;
    folded.row_stride = 8;  // rows run into each other
    REFUSED(fill(folded, 1));

    w.ops().rmsnorm_forward(w.a, w.per_token, w.a, w.row, 1e-5f);
    w.ops().swiglu_backward({.d_gate = w.a, .d_up = w.c}, {.d_out = w.c, .gate = w.a, .up = w.b});
    w.ops().swiglu_backward({.d_gate = w.a, .d_up = w.b}, {.d_out = w.c, .gate = w.a, .up = w.b});
    // Column ranges of one matrix lie between each other's rows but share nothing.
    w.ops().copy(w.a.columns(0, 8), w.a.columns(8, 8));
    w.ops().matmul(w.c.columns(0, 8), w.c.columns(8, 8), w.square.rows(0, 8).columns(0, 8), no, no);
    REFUSED(copy(w.a.columns(0, 9), w.a.columns(7, 9)));
}

BOOST_AUTO_TEST_CASE(a_refusal_names_operation_and_shapes) {
    const auto plan = make_plan_device();
    World w(*plan);
    BOOST_CHECK_EXCEPTION(w.ops().matmul(w.c, w.a.columns(0, 8), w.table, Transpose::no, Transpose::yes),
                          std::logic_error, [](const std::logic_error& error) {
                              return std::string(error.what())
                                         .find(
                                             "internal: matmul: shapes do not fit together: float32(10, 16) "
                                             "float32(10, 8)/16 bfloat16(20, 16)") == 0;
                          });
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
