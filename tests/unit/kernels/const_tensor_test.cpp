// An input cannot be given where an operation writes: what the compiler has to refuse, as static assertions. And a
// ConstTensor is the same view as the Tensor that it was made from.
#include <boost/test/unit_test.hpp>
#include <type_traits>
#include <vector>

#include "kernels/device.h"

namespace longlora {

static_assert(std::is_convertible_v<Tensor, ConstTensor> && std::is_convertible_v<const ArenaTensor&, ConstTensor>);
static_assert(!std::is_convertible_v<ConstTensor, Tensor> && !std::is_constructible_v<Tensor, ConstTensor>);
static_assert(!std::is_assignable_v<Tensor&, ConstTensor>);
static_assert(std::is_same_v<decltype(ConstTensor().data<float>()), const float*> &&
              std::is_same_v<decltype(Tensor().data<float>()), float*>);
static_assert(std::is_same_v<decltype(ConstTensor().rows(0, 0).columns(0, 0).slice(0, 0)), ConstTensor>);

template <auto operation, class... Arguments>
constexpr bool takes = std::is_invocable_v<decltype(operation), Ops, Arguments...>;

static_assert(takes<&Ops::copy, Tensor, ConstTensor> && !takes<&Ops::copy, ConstTensor, Tensor>);
static_assert(takes<&Ops::add, Tensor, ConstTensor, float> && !takes<&Ops::add, ConstTensor, Tensor, float>);
static_assert(takes<&Ops::sum_squares, Tensor, ConstTensor> && !takes<&Ops::sum_squares, ConstTensor, Tensor>);
static_assert(takes<&Ops::embedding_forward, Tensor, ConstTensor, ConstTensor> &&
              !takes<&Ops::embedding_forward, ConstTensor, Tensor, ConstTensor>);
static_assert(takes<&Ops::embedding_backward, Tensor, ConstTensor, ConstTensor> &&
              !takes<&Ops::embedding_backward, ConstTensor, Tensor, ConstTensor>);
static_assert(takes<&Ops::rmsnorm_forward, Tensor, Tensor, ConstTensor, ConstTensor, float> &&
              !takes<&Ops::rmsnorm_forward, ConstTensor, Tensor, Tensor, ConstTensor, float> &&
              !takes<&Ops::rmsnorm_forward, Tensor, ConstTensor, ConstTensor, Tensor, float>);
static_assert(takes<&Ops::cross_entropy, Tensor, Tensor, ConstTensor, float, bool> &&
              !takes<&Ops::cross_entropy, Tensor, ConstTensor, Tensor, float, bool>);
static_assert(takes<&Ops::clip_scale, Tensor, ClipInputs, double> &&
              !takes<&Ops::clip_scale, ConstTensor, ClipInputs, double>);
static_assert(takes<&Ops::matmul, Tensor, ConstTensor, ConstTensor, Transpose, Transpose, float, float> &&
              !takes<&Ops::matmul, ConstTensor, Tensor, ConstTensor, Transpose, Transpose, float, float>);

/// Whether an operation takes what it writes, then what it reads, and refuses them the other way round.
template <auto operation, class Written, class Read, class... Others>
constexpr bool tells_apart = takes<operation, Written, Read, Others...> && !takes<operation, Read, Written, Others...>;

static_assert(tells_apart<&Ops::attention_forward, AttentionResult, AttentionInputs, Windows, AttentionPlace, bool>);
static_assert(
    tells_apart<&Ops::attention_backward, AttentionGradients, AttentionBackwardInputs, Windows, AttentionPlace>);
static_assert(tells_apart<&Ops::merge_attention, AttentionResult, ConstAttentionResult>);
static_assert(tells_apart<&Ops::rmsnorm_backward, RmsnormGradients, RmsnormBackwardInputs>);
static_assert(tells_apart<&Ops::swiglu_forward, Tensor, SwigluInputs>);
static_assert(tells_apart<&Ops::swiglu_backward, SwigluGradients, SwigluBackwardInputs>);
static_assert(tells_apart<&Ops::adamw, AdamwState, AdamwInputs, AdamwOptions>);
static_assert(tells_apart<&Ops::rotary, Tensor, RotaryAngles, std::int64_t, std::int64_t, bool>);

/// Whether Fields are accepted as the fields of a struct.
template <class Struct, class... Fields> constexpr bool holds = std::is_constructible_v<Struct, Fields...>;

static_assert(holds<AttentionResult, Tensor, Tensor> && !holds<AttentionResult, ConstTensor, Tensor> &&
              !holds<AttentionResult, Tensor, ConstTensor>);
static_assert(holds<AttentionGradients, Tensor, Tensor, Tensor> &&
              !holds<AttentionGradients, Tensor, Tensor, ConstTensor>);
static_assert(holds<RmsnormGradients, Tensor, Tensor> && !holds<RmsnormGradients, ConstTensor, Tensor>);
static_assert(holds<SwigluGradients, Tensor, Tensor> && !holds<SwigluGradients, Tensor, ConstTensor>);
static_assert(holds<AdamwState, Tensor, Tensor, Tensor, Tensor> &&
              !holds<AdamwState, ConstTensor, Tensor, Tensor, Tensor>);
static_assert(holds<AttentionInputs, Tensor, ConstTensor, Tensor>);

BOOST_AUTO_TEST_SUITE(const_tensor)

BOOST_AUTO_TEST_CASE(shows_the_same_elements) {
    std::vector<float> memory(12);
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
    const Tensor whole(memory.data(), DType::float32, {3, 4}), part = whole.rows(1, 2).columns(1, 2);
    const ConstTensor read = whole, part_read = read.rows(1, 2).columns(1, 2);
    BOOST_CHECK(part_read.bytes == part.bytes && part_read.end() == part.end() && part_read.shape == part.shape);
    BOOST_CHECK(part_read.row_stride == 4 && !part_read.contiguous() && part_read.data<float>()[4] == 9);
    BOOST_CHECK_EQUAL(read.slice(5, 2).data<float>()[1], 6);
    BOOST_CHECK_EQUAL(read.reshaped({2, 6}).rows(1, 1).data<float>()[0], 6);
    BOOST_CHECK_EQUAL(read.size_bytes(), 48);
    BOOST_CHECK_THROW(read.data<double>(), std::logic_error);
    BOOST_CHECK_THROW(read.rows(2, 2), std::logic_error);
    BOOST_CHECK(overlap(part, read) && overlap(part_read, whole) && !overlap(read.rows(0, 1), part));
    whole.data<float>()[0] = 7;
    BOOST_CHECK_EQUAL(read.data<float>()[0], 7);
    BOOST_CHECK(!ConstTensor() && ConstTensor(memory.data(), DType::float32, {12}));
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
