// Rotary frequencies against transformers and rotary tables against many-digit arithmetic;
// tests/golden/rotary/make_rotary.py made both references.
#include <cmath>

#include "config_testing.h"
#include "model/rotary.h"

using namespace longlora;
using namespace config_testing;

namespace {

Json expected() {
    std::ifstream in(std::filesystem::path(SOURCE_FOLDER) / "tests/golden/rotary/expected.json");
    BOOST_REQUIRE(in);
    return Json::parse(in);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rotary)

BOOST_AUTO_TEST_CASE(frequencies_as_transformers) {
    const Json cases = expected()["frequencies"];
    BOOST_TEST(cases.size() == 16u);
    for (const Json& one : cases) {
        BOOST_TEST_CONTEXT(one["name"]) {
            const ModelConfig c = parse(one["config"]);
            const std::int64_t tokens = one["tokens"].get<std::int64_t>();
            const auto ours = rotary_frequencies(c.rope, c.head_dim, c.max_positions, c.original_positions(),
                                                 tokens ? tokens : c.max_positions);
            const auto theirs = one["frequencies"].get<std::vector<double>>();
            BOOST_REQUIRE(ours.size() == theirs.size());
            // transformers computes in float32: pow, a division and a few products with a relative error of 2^-24
            // each, and its ramps subtract numbers near 1.
            for (std::size_t i = 0; i < ours.size(); ++i)
                BOOST_TEST(std::abs(ours[i] - theirs[i]) <= 1e-6 * theirs[i],
                           i << ": " << ours[i] << " against " << theirs[i]);
            BOOST_TEST(std::abs(rotary_attention_factor(c.rope) - one["attention_factor"].get<double>()) < 1e-12);
        }
    }
}

BOOST_AUTO_TEST_CASE(tables_at_far_positions) {
    const Json cases = expected()["far"];
    BOOST_TEST(cases.size() == 10u);
    for (const Json& far : cases) {
        ModelConfig c = parse(with({{"head_dim", 8}, {"rope_theta", far["theta"]}}));
        if (far["factor"] != 1) c = override_rope(c, RopeRequest{.kind = "linear", .factor = far["factor"]});
        const std::int64_t position = far["position"].get<std::int64_t>();
        const RotaryTables tables = rotary_tables(c, position + 1);
        BOOST_TEST(tables.positions == position + 1);
        BOOST_TEST(tables.half == 4);
        BOOST_REQUIRE(tables.cos.size() == static_cast<std::size_t>((position + 1) * 4) &&
                      tables.sin.size() == tables.cos.size());
        // Budget: half a unit in the last place of a float, and 1e-9 for the angle.
        for (std::size_t i = 0; i < 4; ++i) {
            BOOST_TEST(std::abs(tables.cos[position * 4 + i] - far["cos"][i].get<double>()) < 3.1e-8,
                       "cos " << position << " " << i);
            BOOST_TEST(std::abs(tables.sin[position * 4 + i] - far["sin"][i].get<double>()) < 3.1e-8,
                       "sin " << position << " " << i);
        }
    }
}

BOOST_AUTO_TEST_CASE(the_attention_factor_is_in_the_tables) {
    const ModelConfig c = parse(
        with({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}}}}));
    const RotaryTables tables = rotary_tables(c, 3);
    const double factor = 0.1 * std::log(4.0) + 1;
    for (std::size_t i = 0; i < 8; ++i) {
        BOOST_TEST(tables.cos[i] == static_cast<float>(factor));
        BOOST_TEST(tables.sin[i] == 0.0f);
        const double c1 = tables.cos[8 + i], s1 = tables.sin[8 + i];
        BOOST_TEST(std::abs(c1 * c1 + s1 * s1 - factor * factor) < 1e-6);
    }
}

BOOST_AUTO_TEST_CASE(dynamic_ntk_stretches_only_beyond_the_models_own_context) {
    const ModelConfig plain = parse(good());
    const ModelConfig dynamic = parse(with({{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}));
    BOOST_TEST((rotary_tables(plain, 4096).cos == rotary_tables(dynamic, 4096).cos));
    BOOST_TEST((rotary_tables(plain, 4097).cos != rotary_tables(dynamic, 4097).cos));
    // With one pair there is nothing to stretch, and no division by head_dim - 2.
    const ModelConfig narrow = parse(with({{"head_dim", 2}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}));
    BOOST_TEST(rotary_frequencies(narrow.rope, 2, 4096, 4096, 9000).at(0) == 1.0);
}

BOOST_AUTO_TEST_SUITE_END()
