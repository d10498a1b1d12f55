// Reading config.json: sizes, defaults and every refusal. config_rope_test.cpp tests the rotary keys.
#include <cstdlib>

#include "config_testing.h"

using namespace longlora;
using namespace config_testing;
namespace fs = std::filesystem;

namespace {

struct Folder {
    fs::path path;
    Folder() {
        std::string name = (fs::temp_directory_path() / "config-test-XXXXXX").string();
        BOOST_REQUIRE(mkdtemp(name.data()));
        path = name;
    }
    ~Folder() { fs::remove_all(path); }
    fs::path write(const std::string& name, const std::string& content) const {
        std::ofstream(path / name, std::ios::binary) << content;
        return path / name;
    }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(config)

BOOST_AUTO_TEST_CASE(defaults_are_those_of_transformers) {
    const ModelConfig c = parse(good());
    BOOST_TEST(c.model_type == "llama");
    BOOST_TEST(c.hidden == 64);
    BOOST_TEST(c.intermediate == 160);
    BOOST_TEST(c.num_layers == 3);
    BOOST_TEST(c.num_heads == 4);
    BOOST_TEST(c.num_kv_heads == 4);
    BOOST_TEST(c.head_dim == 16);
    BOOST_TEST(c.vocabulary == 256);
    BOOST_TEST(c.max_positions == 4096);
    BOOST_TEST(!c.tied);
    BOOST_TEST(c.rms_norm_eps == 1e-6);
    BOOST_TEST(c.initializer_range == 0.02);
    BOOST_TEST(c.bos == 1);
    BOOST_TEST(c.eos == 2);
    BOOST_TEST((c.rope == RopeScaling{}));
    BOOST_TEST(c.raw == good());
    const Json mistral = with({{"model_type", "mistral"}, {"num_attention_heads", 16}, {"sliding_window", nullptr}});
    BOOST_TEST(parse(mistral).num_kv_heads == 8);
    BOOST_TEST(parse(with({{"num_key_value_heads", nullptr}}, mistral)).num_kv_heads == 16);
}

BOOST_AUTO_TEST_CASE(given_values_are_read) {
    const ModelConfig c = parse(with({{"num_key_value_heads", 2},
                                      {"head_dim", 34},
                                      {"tie_word_embeddings", true},
                                      {"rms_norm_eps", 1e-5},
                                      {"initializer_range", 0.5},
                                      {"bos_token_id", nullptr},
                                      {"eos_token_id", Json::array({7, 9})},
                                      {"use_sliding_window", false},
                                      {"attention_bias", false},
                                      {"hidden_act", "silu"},
                                      {"quantization_config", nullptr},
                                      {"num_experts", 0},
                                      {"partial_rotary_factor", 1.0}}));
    BOOST_TEST(c.num_kv_heads == 2);
    BOOST_TEST(c.head_dim == 34);
    BOOST_TEST(c.tied);
    BOOST_TEST(c.rms_norm_eps == 1e-5);
    BOOST_TEST(c.initializer_range == 0.5);
    BOOST_TEST(c.bos == -1);
    BOOST_TEST(c.eos == 7);
    BOOST_TEST(parse(with({{"bos_token_id", 256}, {"eos_token_id", -1}})).bos == -1);
    BOOST_TEST(parse(with({{"bos_token_id", 255}})).bos == 255);
    BOOST_TEST(parse(with({{"eos_token_id", Json::array()}})).eos == -1);
    // A given head_dim may have any even value; null stands for hidden_size / num_attention_heads.
    BOOST_TEST(parse(with({{"hidden_size", 50}, {"head_dim", 8}})).head_dim == 8);
    BOOST_TEST(parse(with({{"head_dim", nullptr}})).head_dim == 16);
    BOOST_TEST(parse(with({{"num_attention_heads", 9}, {"num_key_value_heads", 3}, {"hidden_size", 72}})).head_dim ==
               8);
}

BOOST_AUTO_TEST_CASE(golden_models) {
    struct Expected {
        const char* name;
        std::int64_t hidden, intermediate, layers, heads, kv, head_dim, positions;
        bool tied;
        RopeKind kind;
        double factor, theta;
        std::int64_t original, covered;
    };
    const Expected table[] = {{"all-targets", 64, 160, 3, 4, 2, 16, 128, false, RopeKind::none, 1, 1e4, 0, 128},
                              {"documents", 64, 160, 3, 4, 2, 16, 128, false, RopeKind::none, 1, 1e4, 0, 128},
                              {"dynamic-ntk", 64, 160, 3, 4, 1, 16, 32, false, RopeKind::dynamic, 4, 1e4, 0, 128},
                              {"gqa-odd-tied", 72, 144, 3, 9, 3, 8, 128, true, RopeKind::none, 1, 1e4, 0, 128},
                              {"interpolated", 64, 160, 3, 4, 2, 16, 32, false, RopeKind::linear, 4, 1e4, 0, 128},
                              {"llama3", 64, 160, 3, 4, 2, 16, 128, true, RopeKind::llama3, 4, 5e5, 32, 128},
                              {"mha", 64, 160, 3, 4, 4, 16, 128, false, RopeKind::none, 1, 1e4, 0, 128},
                              {"mistral", 64, 160, 3, 4, 2, 16, 128, false, RopeKind::none, 1, 1e4, 0, 128},
                              {"ragged", 64, 160, 3, 4, 2, 16, 128, false, RopeKind::none, 1, 1e4, 0, 128},
                              {"wide-heads", 48, 96, 2, 4, 2, 32, 128, false, RopeKind::none, 1, 1e4, 0, 128},
                              {"yarn", 64, 160, 3, 4, 2, 16, 32, false, RopeKind::yarn, 4, 1e4, 32, 128}};
    for (const Expected& e : table) {
        BOOST_TEST_CONTEXT(e.name) {
            const ModelConfig c = parse(golden(e.name));
            BOOST_TEST(c.model_type == (std::string(e.name) == "mistral" ? "mistral" : "llama"));
            BOOST_TEST(c.hidden == e.hidden);
            BOOST_TEST(c.intermediate == e.intermediate);
            BOOST_TEST(c.num_layers == e.layers);
            BOOST_TEST(c.num_heads == e.heads);
            BOOST_TEST(c.num_kv_heads == e.kv);
            BOOST_TEST(c.head_dim == e.head_dim);
            BOOST_TEST(c.max_positions == e.positions);
            BOOST_TEST(c.vocabulary == 256);
            BOOST_TEST(c.tied == e.tied);
            BOOST_TEST(c.rms_norm_eps == 1e-5);
            BOOST_TEST((c.rope.kind == e.kind));
            BOOST_TEST(c.rope.factor == e.factor);
            BOOST_TEST(c.rope.theta == e.theta);
            BOOST_TEST(c.rope.original == e.original);
            BOOST_TEST(c.covered_positions() == e.covered);
        }
    }
}

BOOST_AUTO_TEST_CASE(unsupported_values_are_refused_by_key) {
    const std::pair<Json, const char*> table[] = {
        {{{"model_type", "qwen2"}}, "model_type"},
        {{{"model_type", nullptr}}, "model_type"},
        {{{"model_type", 3}}, "model_type"},
        {{{"attention_bias", true}}, "attention_bias"},
        {{{"attention_bias", "no"}}, "attention_bias"},
        {{{"mlp_bias", true}}, "mlp_bias"},
        {{{"hidden_act", "gelu"}}, "hidden_act"},
        {{{"hidden_act", 1}}, "hidden_act"},
        {{{"sliding_window", 4096}}, "sliding_window"},
        {{{"use_sliding_window", true}}, "use_sliding_window"},
        {{{"model_type", "mistral"}}, "sliding_window"},
        {{{"model_type", "mistral"}, {"sliding_window", 4096}}, "sliding_window"},
        {{{"model_type", "mistral"}, {"sliding_window", 4096}, {"use_sliding_window", false}}, "sliding_window"},
        {{{"layer_types", Json::array({"full_attention", "sliding_attention"})}}, "layer_types"},
        {{{"layer_types", "full_attention"}}, "layer_types"},
        {{{"num_local_experts", 8}}, "num_local_experts"},
        {{{"num_experts", 2}}, "num_experts"},
        {{{"num_experts", "two"}}, "num_experts"},
        {{{"quantization_config", Json::object()}}, "quantization_config"},
        {{{"attention_dropout", 0.1}}, "attention_dropout"},
        {{{"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
        {{{"tie_word_embeddings", 1}}, "tie_word_embeddings"},
        {{{"rms_norm_eps", 0}}, "rms_norm_eps"},
        {{{"rms_norm_eps", "small"}}, "rms_norm_eps"},
        {{{"rms_norm_eps", 2}}, "rms_norm_eps"},
        {{{"initializer_range", -0.1}}, "initializer_range"},
        {{{"bos_token_id", "<s>"}}, "bos_token_id"},
        {{{"eos_token_id", Json::array({2, "x"})}}, "eos_token_id"},
        {{{"eos_token_id", 2.5}}, "eos_token_id"},
        {{{"num_key_value_heads", 3}}, "num_key_value_heads"},
        {{{"num_attention_heads", 5}}, "num_attention_heads"},
        {{{"head_dim", 15}}, "head_dim"},
        {{{"head_dim", 0}}, "head_dim"},
    };
    for (const auto& [changes, key] : table) refuses([&] { parse(with(changes)); }, {key, "here/config.json"});
    // A Llama model has no sliding window, and this file says that none is used.
    BOOST_CHECK_NO_THROW(parse(with({{"sliding_window", 4096}, {"use_sliding_window", false}})));
    BOOST_CHECK_NO_THROW(parse(with({{"layer_types", Json::array({"full_attention"})}})));
}

BOOST_AUTO_TEST_CASE(sizes_must_be_positive_whole_numbers) {
    for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                            "vocab_size", "max_position_embeddings"}) {
        const Json bad[] = {0,
                            -1,
                            1.5,
                            64.0,
                            "64",
                            true,
                            nullptr,
                            Json::array({64}),
                            Json::object(),
                            (1LL << 31) + 1,
                            0xffffffffffffffffull,
                            -0x7fffffffffffffffLL};
        for (const Json& value : bad) refuses([&] { parse(with({{key, value}})); }, {key, "here/config.json"});
        Json without = good();
        without.erase(key);
        refuses([&] { parse(without); }, {key, "missing"});
    }
    const std::int64_t most = std::int64_t{1} << 31;
    BOOST_CHECK_NO_THROW(parse(with({{"max_position_embeddings", most}})));
    refuses(
        [&] {
            parse(with({{"hidden_size", most},
                        {"intermediate_size", most},
                        {"num_hidden_layers", most},
                        {"vocab_size", most}}));
        },
        {"hidden_size", "parameters"});
    refuses(
        [&] {
            parse(with({{"head_dim", most}, {"num_attention_heads", most}, {"hidden_size", most}}));
        },
        {"head_dim"});
}

BOOST_AUTO_TEST_CASE(files) {
    const Folder folder;
    const fs::path file = folder.write("config.json", good().dump());
    BOOST_TEST(read_config(folder.path).hidden == 64);
    BOOST_TEST(read_config(file).hidden == 64);
    refuses([&] { read_config(folder.path / "none"); }, {"none", "does not exist"});
    refuses([&] { read_config("/dev/null"); }, {"/dev/null", "not a regular file"});
    for (const char* content :
         {"", "{", "{\"hidden_size\": ", "\x01\x02\xff\xfe", "{\"a\": 1e999}", "nul", "{\"a\": \"\xff\"}"})
        refuses([&, bad = folder.write("bad.json", content)] { read_config(bad); }, {"bad.json", "not valid JSON"});
    for (const char* content : {"[]", "3", "null", "\"llama\"", "true"})
        refuses([&, bad = folder.write("bad.json", content)] { read_config(bad); }, {"bad.json", "object"});
    for (const int depth : {40, 100000}) {
        const std::string nested = "{\"model_type\": " + std::string(depth, '[') + std::string(depth, ']') + "}";
        refuses([&, bad = folder.write("bad.json", nested)] { read_config(bad); }, {"bad.json", "deep"});
    }
    refuses([&, bad = folder.write("bad.json", std::string(2 << 20, ' '))] { read_config(bad); },
            {"bad.json", "bytes"});
    fs::create_directory(folder.path / "empty");
    refuses([&] { read_config(folder.path / "empty"); }, {"empty/config.json", "does not exist"});
}

BOOST_AUTO_TEST_SUITE_END()
