// Rotary scaling of published models: what each covers, the factor that twice that context needs, and the context that
// other programs compute from the config.json that we write.
#include "config_testing.h"

using namespace longlora;
using namespace config_testing;

namespace {

/// The rotary part of a published config.json (model_type and sizes are those of good()).
struct Published {
    const char* name;
    std::int64_t max_positions;
    Json scaling;
    std::int64_t original;  ///< --rope-original; 0: the config has one reading
    std::int64_t covers;
    double factor, factor_for_twice;
};

Json llama3(double factor) {
    return {{"rope_type", "llama3"},
            {"factor", factor},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", 4.0},
            {"original_max_position_embeddings", 8192}};
}

const Published kPublished[] = {
    {"Llama-2-7b", 4096, nullptr, 0, 4096, 1, 2},
    {"Meta-Llama-3-8B", 8192, nullptr, 0, 8192, 1, 2},
    {"Llama-3.1-8B", 131072, llama3(8), 0, 131072, 8, 16},
    {"Llama-3.2-1B", 131072, llama3(32), 0, 131072, 32, 64},
    {"vicuna-7b-v1.5-16k", 4096, {{"type", "linear"}, {"factor", 4.0}}, 4096, 16384, 4, 8},
    {"LongAlpaca-7B", 4096, {{"type", "linear"}, {"factor", 8.0}}, 4096, 32768, 8, 16},
    {"deepseek-coder-6.7b-base", 16384, {{"type", "linear"}, {"factor", 4.0}}, 4096, 16384, 4, 8},
    {"Qwen2.5-7B-Instruct with YaRN",
     32768,
     {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}},
     0,
     131072,
     4,
     8},
    {"Yi-6B-200K", 200000, nullptr, 0, 200000, 1, 2},
};

ModelConfig config_of(const Published& p) {
    return parse(with({{"max_position_embeddings", p.max_positions}, {"rope_scaling", p.scaling}}));
}

RopeRequest request_for(const Published& p, const std::string& kind = "auto") {
    RopeRequest request;
    request.kind = kind;
    request.original = p.original;
    return request;
}

/// The context length that vLLM gives a config (vllm/config/model.py, _get_and_verify_max_len). Versions before the
/// end of 2026 take the original length of yarn times its factor, later ones max_position_embeddings.
std::int64_t served_by_vllm(const Json& config, bool later) {
    const Json& rope = config["rope_parameters"];
    const std::string type = rope["rope_type"];
    double length = config["max_position_embeddings"].get<double>();
    if (type == "llama3" || (type == "yarn" && later)) return static_cast<std::int64_t>(length);
    if (type == "yarn") length = rope["original_max_position_embeddings"].get<double>();
    return static_cast<std::int64_t>(length * rope.value("factor", 1.0));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(real_rope)

BOOST_AUTO_TEST_CASE(twice_the_context_doubles_the_factor) {
    for (const Published& p : kPublished) {
        BOOST_TEST_CONTEXT(p.name) {
            const ModelConfig config = config_of(p);
            const ModelConfig same = extend_rope(config, request_for(p), p.covers);
            BOOST_TEST(same.rope.factor == p.factor);
            BOOST_TEST(same.covered_positions() == p.covers);
            const ModelConfig twice = extend_rope(config, request_for(p), 2 * p.covers);
            BOOST_TEST(twice.rope.factor == p.factor_for_twice);
            BOOST_TEST(twice.covered_positions() == 2 * p.covers);
            BOOST_TEST(parse(twice.raw).covered_positions() == 2 * p.covers);
            const ModelConfig again = extend_rope(parse(twice.raw), {}, 4 * p.covers);
            BOOST_TEST(again.rope.factor == 2 * p.factor_for_twice);
            if (p.original != 0) refuses([&] { extend_rope(config, {}, 2 * p.covers); }, {"--rope-original"});
        }
    }
}

BOOST_AUTO_TEST_CASE(others_serve_the_context_that_was_trained) {
    for (const Published& p : kPublished) {
        const ModelConfig config = config_of(p);
        const bool unscaled = config.rope.kind == RopeKind::none;
        for (const char* kind : {"auto", "linear", "ntk", "yarn", "llama3"}) {
            if (!unscaled && std::string(kind) != "auto") continue;
            BOOST_TEST_CONTEXT(p.name << " " << kind) {
                const Json written = extend_rope(config, request_for(p, kind), 8 * p.covers).raw;
                for (const bool later : {false, true}) BOOST_TEST(served_by_vllm(written, later) == 8 * p.covers);
                BOOST_TEST(!written["rope_scaling"].contains("rope_theta"));
            }
        }
        if (unscaled) {  // a larger base instead of scaling
            RopeRequest theta = request_for(p, "keep");
            theta.theta = 1e7;
            BOOST_TEST(extend_rope(config, theta, 8 * p.covers).raw["max_position_embeddings"] == 8 * p.covers);
        }
    }
}

/// Where max_position_embeddings is the original length and where it is the context: the table in model/config.h.
BOOST_AUTO_TEST_CASE(max_position_embeddings_by_kind) {
    const std::pair<const char*, std::int64_t> table[] = {
        {"linear", 4096}, {"ntk", 4096}, {"yarn", 32768}, {"llama3", 32768}};
    for (const auto& [kind, positions] : table) {
        const Json written = extend_rope(config_of(kPublished[0]), request_for(kPublished[0], kind), 32768).raw;
        BOOST_TEST(written["max_position_embeddings"] == positions, kind);
    }
}

BOOST_AUTO_TEST_SUITE_END()
