// What the tests of configs and patterns share: a good config that they change, the golden configs, and a check of
// refusals. No tests here.
#pragma once

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "model/config.h"

namespace config_testing {

using Json = nlohmann::ordered_json;

inline Json good() {
    return Json::parse(
        R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
            "num_attention_heads": 4, "vocab_size": 256, "max_position_embeddings": 4096})");
}

inline Json with(const Json& changes, Json base = good()) {
    for (const auto& [key, value] : changes.items()) base[key] = value;
    return base;
}

inline longlora::ModelConfig parse(const Json& json) { return longlora::parse_config(json, "here/config.json"); }

inline Json golden(const std::string& name) {
    std::ifstream in(std::filesystem::path(SOURCE_FOLDER) / "tests/golden/configs" / (name + ".json"));
    BOOST_REQUIRE(in);
    return Json::parse(in);
}

/// Checks that call() throws a bad_input Error whose message is one short sentence with all of the words.
template <class Call> void refuses(Call&& call, std::initializer_list<const char*> words) {
    try {
        call();
        BOOST_ERROR("not refused: " + std::string(*words.begin()));
    } catch (const longlora::Error& error) {
        const std::string sentence = error.what();
        for (const char* one : words)
            BOOST_CHECK_MESSAGE(sentence.find(one) != std::string::npos, "\"" << one << "\" is not in: " << sentence);
        BOOST_CHECK_MESSAGE(sentence.find('\n') == std::string::npos && sentence.size() < 300,
                            "not one short sentence: " << sentence);
        BOOST_CHECK(error.code == longlora::ExitCode::bad_input);
    }
}

}  // namespace config_testing
