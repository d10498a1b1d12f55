// Files that are not those of their config.json: a tensor too few, one that would be dropped, and a tied model with
// another head.
#include "model/model_files.h"

#include <cstring>

#include "config_testing.h"
#include "model/parameters.h"
#include "tests/unit/io/io_testing.h"

using namespace longlora;
using namespace config_testing;
using io_testing::Scratch;

namespace {

const std::string kHead = "lm_head.weight";

ModelConfig small(bool tied) { return parse(with({{"vocab_size", 40}, {"tie_word_embeddings", tied}})); }

float element(std::int64_t i, float scale) { return scale * static_cast<float>(i % 251); }

/// A tensor that is the embedding times `scale`, in its own type and with `rows` rows.
struct Extra {
    std::string name = kHead;
    std::int64_t rows = 40;
    float scale = 1;
    DType dtype = DType::float32;
};

TensorToWrite tensor(const std::string& name, DType dtype, Shape shape, float scale) {
    return {name, dtype, shape, [=](std::byte* out) {
                for (std::int64_t i = 0; i < shape.count(); ++i)
                    if (dtype == DType::float32) reinterpret_cast<float*>(out)[i] = element(i, scale);
                    else reinterpret_cast<bf16*>(out)[i] = bf16(element(i, scale));
            }};
}

void check(const ModelConfig& config, const std::vector<Extra>& extras, const std::string& without = "") {
    const Scratch folder;
    std::vector<TensorToWrite> tensors;
    for (const Parameter& p : list_parameters(config, nothing_trainable()).parameters)
        if (p.name != without) tensors.push_back(tensor(p.name, DType::float32, p.shape, 1));
    for (const Extra& e : extras) tensors.push_back(tensor(e.name, e.dtype, {e.rows, config.hidden}, e.scale));
    write_safetensors(folder / "model.safetensors", tensors);
    check_model_files(SafetensorsFolder(folder.folder), config);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_files)

BOOST_AUTO_TEST_CASE(complete_files_are_accepted) {
    for (const bool tied : {false, true}) check(small(tied), {});
}

BOOST_AUTO_TEST_CASE(a_missing_tensor_is_named) {
    for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"})
        refuses([&] { check(small(false), {}, name); }, {"lacks the tensor", name});
    refuses([&] { check(small(true), {}, "model.embed_tokens.weight"); }, {"lacks", "model.embed_tokens.weight"});
}

BOOST_AUTO_TEST_CASE(a_tied_model_may_repeat_its_embedding) {
    check(small(true), {Extra{}});
    check(small(true), {Extra{.dtype = DType::bfloat16}});  // multiples of 1 below 251 are exact
}

BOOST_AUTO_TEST_CASE(a_tied_model_with_another_head_is_refused) {
    const auto words = {"lm_head.weight", "model.embed_tokens.weight", "tie_word_embeddings"};
    refuses([&] { check(small(true), {Extra{.scale = 1.5f}}); }, words);
    refuses([&] { check(small(true), {Extra{.scale = 1.5f, .dtype = DType::bfloat16}}); }, words);
    refuses([&] { check(small(true), {Extra{.rows = 44}}); }, {"lm_head.weight", "(44, 64)", "(40, 64)"});
    refuses([&] { check(small(true), {Extra{.rows = 36}}); }, {"lm_head.weight", "(36, 64)"});
}

/// Rotary frequencies follow from config.json. Anything else that the model does not use would be dropped.
BOOST_AUTO_TEST_CASE(only_known_buffers_are_ignored) {
    for (const char* name : {"model.rotary_emb.inv_freq", "model.layers.0.self_attn.rotary_emb.inv_freq",
                             "model.layers.2.self_attn.rotary_emb.inv_freq"})
        check(small(false), {Extra{.name = name}});
    for (const char* name : {"model.layers.3.self_attn.rotary_emb.inv_freq", "vision.rotary_emb.inv_freq",
                             "model.layers.0.self_attn.q_proj.bias", "lm_head.bias", "score.weight"})
        refuses([&] { check(small(false), {Extra{.name = name}}); }, {name});
}

BOOST_AUTO_TEST_SUITE_END()
