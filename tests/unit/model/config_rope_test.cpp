// Rotary scaling in config.json: both spellings, refusals, and the factor that a context needs.
#include <cmath>

#include "config_testing.h"
#include "model/rotary.h"

using namespace longlora;
using namespace config_testing;

namespace {

Json linear(double factor) { return {{"rope_type", "linear"}, {"factor", factor}}; }
Json yarn() { return {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 1024}}; }
Json llama3() {
    return {{"rope_type", "llama3"},
            {"factor", 8.0},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", 4.0},
            {"original_max_position_embeddings", 1024}};
}

/// A scaled model of 4096 positions.
ModelConfig scaled(const Json& scaling) { return parse(with({{"rope_scaling", scaling}})); }

void check_same(const ModelConfig& a, const ModelConfig& b) {
    BOOST_TEST((a.rope == b.rope));
    BOOST_TEST(a.max_positions == b.max_positions);
    BOOST_TEST(a.covered_positions() == b.covered_positions());
}

void check_round_trip(const ModelConfig& c) { check_same(parse(c.raw), c); }

RopeRequest request(const std::string& kind, double factor = 0, double theta = 0) {
    RopeRequest r;
    r.kind = kind;
    r.factor = factor;
    r.theta = theta;
    return r;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(config_rope)

BOOST_AUTO_TEST_CASE(all_spellings_give_the_same_scaling) {
    const Json newer = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}};
    const Json variants[] = {
        with({{"rope_parameters", newer}}),
        with({{"rope_parameters", newer}, {"rope_theta", 5e5}}),
        with({{"rope_theta", 5e5}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}),
        with({{"rope_theta", 500000}, {"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}}}),
        with({{"rope_theta", 5e5}, {"rope_scaling", {{"rope_type", "linear"}, {"type", "linear"}, {"factor", 2.0}}}}),
        with(
            {{"rope_parameters", newer}, {"rope_theta", 5e5}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}),
        with({{"rope_parameters", nullptr}, {"rope_scaling", newer}})};
    for (const Json& json : variants) {
        const ModelConfig c = parse(json);
        BOOST_TEST((c.rope.kind == RopeKind::linear));
        BOOST_TEST(c.rope.factor == 2);
        BOOST_TEST(c.rope.theta == 5e5);
        BOOST_TEST(c.covered_positions() == 8192);
    }
    BOOST_TEST(parse(with({{"rope_parameters", {{"rope_theta", 2e4}}}, {"rope_scaling", nullptr}})).rope.theta == 2e4);
    BOOST_TEST((parse(with({{"rope_scaling", Json::object()}})).rope == RopeScaling{}));
}

BOOST_AUTO_TEST_CASE(yarn_and_llama3_parameters) {
    Json full = yarn();
    full.update({{"beta_fast", 16},
                 {"beta_slow", 2.0},
                 {"attention_factor", 1.5},
                 {"mscale", 0.7},
                 {"mscale_all_dim", 0.5},
                 {"truncate", false}});
    const RopeScaling y = scaled(full).rope;
    BOOST_TEST(y.beta_fast == 16);
    BOOST_TEST(y.beta_slow == 2);
    BOOST_TEST(y.attention_factor == 1.5);
    BOOST_TEST(y.mscale == 0.7);
    BOOST_TEST(y.mscale_all_dim == 0.5);
    BOOST_TEST(!y.truncate);
    BOOST_TEST(y.original == 1024);
    BOOST_TEST(
        scaled({{"rope_type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 512}}).rope.factor ==
        8);
    BOOST_TEST(scaled({{"rope_type", "yarn"}, {"factor", 2.0}}).original_positions() == 4096);
    BOOST_TEST(scaled({{"rope_type", "yarn"}, {"factor", 2.0}, {"beta_fast", 0}}).rope.beta_fast == 32);
    BOOST_TEST(scaled(llama3()).rope.original == 1024);
    // A top-level original_max_position_embeddings overrides the one among the parameters, as in transformers.
    BOOST_TEST(parse(with({{"rope_scaling", llama3()}, {"original_max_position_embeddings", 2048}})).rope.original ==
               2048);
}

BOOST_AUTO_TEST_CASE(bad_scalings_are_refused) {
    const auto changed = [](Json base, const Json& changes) {
        base.update(changes);
        return base;
    };
    const std::pair<Json, const char*> table[] = {
        {{{"rope_type", "longrope"}, {"factor", 2.0}}, "longrope"},
        {{{"type", "su"}}, "su"},
        {{{"rope_type", 3}}, "rope_type"},
        {{{"factor", 2.0}}, "rope_type"},
        {{{"rope_type", "linear"}}, "factor"},
        {{{"rope_type", "dynamic"}, {"factor", nullptr}}, "factor"},
        {linear(0.5), "factor"},
        {linear(0), "factor"},
        {linear(1e10), "factor"},
        {{{"rope_type", "linear"}, {"factor", "2"}}, "factor"},
        {{{"rope_type", "linear"}, {"factor", 2.0}, {"original_max_position_embeddings", 0}},
         "original_max_position_embeddings"},
        {{{"rope_type", "linear"}, {"factor", 2.0}, {"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
        {{{"full_attention", linear(2)}}, "full_attention"},
        {changed(yarn(), {{"beta_fast", 0.5}}), "beta_fast"},
        {changed(yarn(), {{"beta_slow", -1}}), "beta_slow"},
        {changed(yarn(), {{"attention_factor", 0}}), "attention_factor"},
        {changed(yarn(), {{"truncate", 1}}), "truncate"},
        {changed(yarn(), {{"factor", nullptr}, {"original_max_position_embeddings", 8192}}),
         "original_max_position_embeddings"},
        {changed(llama3(), {{"low_freq_factor", nullptr}}), "low_freq_factor"},
        {changed(llama3(), {{"high_freq_factor", 1.0}}), "high_freq_factor"},
    };
    for (const auto& [scaling, word] : table) {
        refuses([&] { parse(with({{"rope_scaling", scaling}})); }, {word, "rope_scaling"});
        refuses([&] { parse(with({{"rope_parameters", scaling}})); }, {word, "rope_parameters"});
    }
    refuses([] { parse(with({{"rope_scaling", "linear"}})); }, {"rope_scaling", "object"});
    refuses([] { parse(with({{"rope_theta", 0}})); }, {"rope_theta"});
    refuses([] { parse(with({{"rope_theta", "10000"}})); }, {"rope_theta"});
    refuses(
        [] {
            parse(with({{"rope_theta", 1e4}, {"rope_parameters", {{"rope_theta", 2e4}}}}));
        },
        {"rope_theta", "twice"});
    refuses(
        [] {
            parse(with({{"rope_scaling", linear(2)}, {"rope_parameters", linear(4)}}));
        },
        {"rope_scaling", "rope_parameters", "disagree"});
    refuses(
        [] {
            parse(with({{"rope_scaling", linear(2)}, {"rope_parameters", {{"rope_type", "default"}}}}));
        },
        {"disagree"});
}

BOOST_AUTO_TEST_CASE(a_context_raises_the_factor_and_factors_compose) {
    const ModelConfig base = parse(good());
    const ModelConfig same = extend_rope(base, {}, 4096);
    BOOST_TEST(same.raw == base.raw);
    const ModelConfig once = extend_rope(base, {}, 8192);
    BOOST_TEST((once.rope.kind == RopeKind::linear));
    BOOST_TEST(once.rope.factor == 2);
    BOOST_TEST(once.covered_positions() == 8192);
    BOOST_TEST(once.original_positions() == 4096);
    check_round_trip(once);
    const ModelConfig twice = extend_rope(parse(once.raw), {}, 16384);
    BOOST_TEST(twice.rope.factor == 4);
    BOOST_TEST(twice.covered_positions() == 16384);
    check_round_trip(twice);
    // As earlier versions of this program wrote it, with the extended length.
    const ModelConfig earlier = parse(with({{"max_position_embeddings", 8192},
                                            {"original_max_position_embeddings", 4096},
                                            {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}));
    BOOST_TEST(earlier.covered_positions() == 8192);
    check_same(extend_rope(earlier, {}, 16384), twice);
    BOOST_TEST(extend_rope(twice, {}, 100).raw == twice.raw);  // a shorter context keeps the model's scaling
    // Context lengths that are not multiples: the factor is the exact quotient and covers every token.
    for (const std::int64_t context : {4097, 10000, 100000, 1234567}) {
        const ModelConfig c = extend_rope(base, {}, context);
        BOOST_TEST(c.rope.factor == context / 4096.0);
        BOOST_TEST(c.covered_positions() == context);
        check_round_trip(c);
    }
    // Other programs compute original * factor and drop the fraction.
    for (std::int64_t context = 3001; context < 20000; context += 7)
        for (const char* kind : {"linear", "yarn"}) {
            const ModelConfig c = extend_rope(parse(with({{"max_position_embeddings", 3000}})), request(kind), context);
            BOOST_TEST(static_cast<std::int64_t>(3000 * c.rope.factor) == context);
            BOOST_TEST(c.covered_positions() == context);
        }
    const ModelConfig odd = parse(with({{"max_position_embeddings", 3000}, {"rope_scaling", linear(10000.0 / 3000)}}));
    BOOST_TEST(odd.covered_positions() == 10000);
}

BOOST_AUTO_TEST_CASE(a_linear_model_without_an_original_has_two_readings) {
    const ModelConfig c = scaled(linear(2));
    BOOST_TEST(c.covered_positions() == 8192);
    BOOST_TEST(extend_rope(c, {}, 4096).raw == c.raw);  // both readings cover it
    for (const std::int64_t context : {4097, 8192, 16384})
        refuses([&] { extend_rope(c, {}, context); }, {"--rope-original 4096", "8192", "--rope-original 2048", "4096"});
    refuses([&] { extend_rope(c, request("linear", 8), 4096); }, {"--rope-original 4096"});
    BOOST_TEST(extend_rope(c, request("keep"), 4096).raw == c.raw);
    BOOST_TEST(extend_rope(c, request("keep"), 16384).covered_positions() == 16384);  // beyond both readings
    BOOST_TEST(extend_rope(c, request("auto", 2), 16384).raw == c.raw);  // the factor that it has
    for (const std::int64_t original : {4096, 2048}) {
        RopeRequest r;
        r.original = original;
        const ModelConfig known = extend_rope(c, r, 4096);
        BOOST_TEST(known.rope.factor == 2);
        BOOST_TEST(known.covered_positions() == 2 * original);
        check_round_trip(known);
        const ModelConfig longer = extend_rope(c, r, 16384);
        BOOST_TEST(longer.rope.factor == 16384.0 / static_cast<double>(original));
        BOOST_TEST(longer.rope.original == original);
        BOOST_TEST(longer.max_positions == original);
        BOOST_TEST(longer.covered_positions() == 16384);
        check_same(extend_rope(known, {}, 16384), longer);
        check_round_trip(longer);
        r.factor = 8;
        BOOST_TEST(extend_rope(c, r, 4096).covered_positions() == 8 * original);
    }
    RopeRequest wrong;
    for (const std::int64_t original : {1, 2047, 4097}) {
        wrong.original = original;
        refuses([&] { extend_rope(c, wrong, 4096); }, {"--rope-original", "between 2048 and 4096"});
    }
    refuses([&] { extend_rope(parse(good()), wrong, 8192); }, {"--rope-original is 4097", "4096"});
    wrong.original = 4096;
    refuses([&] { extend_rope(scaled(llama3()), wrong, 8192); }, {"--rope-original is 4096", "1024"});
    BOOST_TEST(extend_rope(parse(good()), wrong, 8192).raw == extend_rope(parse(good()), {}, 8192).raw);
}

BOOST_AUTO_TEST_CASE(an_extended_model_keeps_its_kind) {
    const ModelConfig y = extend_rope(scaled(yarn()), {}, 8192);  // original 1024
    BOOST_TEST((y.rope.kind == RopeKind::yarn));
    BOOST_TEST(y.rope.factor == 8);
    BOOST_TEST(y.max_positions == 8192);
    BOOST_TEST(y.rope.original == 1024);
    check_round_trip(y);
    const ModelConfig l = extend_rope(scaled(llama3()), {}, 16384);
    BOOST_TEST((l.rope.kind == RopeKind::llama3));
    BOOST_TEST(l.rope.factor == 32);  // four times the context
    BOOST_TEST(l.max_positions == 16384);
    check_round_trip(l);
    const ModelConfig d = extend_rope(scaled({{"type", "dynamic"}, {"factor", 2.0}}), {}, 32768);
    BOOST_TEST((d.rope.kind == RopeKind::dynamic));
    BOOST_TEST(d.rope.factor == 8);
    BOOST_TEST(d.max_positions == 4096);
    check_round_trip(d);
    // What is covered counts, not the quotient of the context and the original length.
    BOOST_TEST(extend_rope(scaled(llama3()), {}, 4097).rope.factor == 8 * (4097 / 4096.0));
    BOOST_TEST(extend_rope(scaled(llama3()), request("auto", 16), 8192).max_positions == 8192);
    BOOST_TEST(extend_rope(scaled({{"type", "dynamic"}, {"factor", 4.0}}), {}, 8192).rope.factor == 4);
}

BOOST_AUTO_TEST_CASE(an_attention_factor_belongs_to_its_factor) {
    const auto with_attention = [](double attention_factor, const Json& more = Json::object()) {
        Json block = yarn();
        block["attention_factor"] = attention_factor;
        block.update(more);
        return scaled(block);
    };
    const double of_4 = 0.1 * std::log(4) + 1, of_8 = 0.1 * std::log(8) + 1;
    const ModelConfig formula = with_attention(of_4);
    BOOST_TEST(extend_rope(formula, {}, 4096).raw == formula.raw);
    for (const ModelConfig& c : {extend_rope(formula, {}, 8192), override_rope(formula, request("yarn", 8))}) {
        BOOST_TEST(rotary_attention_factor(c.rope) == of_8);
        BOOST_TEST(!c.raw["rope_parameters"].contains("attention_factor"));
        check_round_trip(c);
    }
    const Json mscales = {{"mscale", 0.7}, {"mscale_all_dim", 0.5}};
    const double by_mscales = (0.07 * std::log(4) + 1) / (0.05 * std::log(4) + 1);
    BOOST_TEST(rotary_attention_factor(extend_rope(with_attention(by_mscales, mscales), {}, 8192).rope) ==
               (0.1 * 0.7 * std::log(8) + 1) / (0.1 * 0.5 * std::log(8) + 1));
    const ModelConfig own = with_attention(1);
    refuses([&] { extend_rope(own, {}, 8192); }, {"attention_factor is 1,", "config.json", "--rope keep"});
    BOOST_TEST(extend_rope(own, request("keep"), 8192).rope.attention_factor == 1);
}

BOOST_AUTO_TEST_CASE(requests) {
    const ModelConfig base = parse(good());
    for (const auto& [name, expected] : {std::pair("linear", RopeKind::linear), std::pair("ntk", RopeKind::dynamic),
                                         std::pair("yarn", RopeKind::yarn), std::pair("llama3", RopeKind::llama3)}) {
        const char* kind = name;  // a structured binding cannot be captured
        const ModelConfig c = extend_rope(base, request(kind), 16384);
        BOOST_TEST((c.rope.kind == expected));
        BOOST_TEST(c.rope.factor == 4);
        BOOST_TEST(c.original_positions() == 4096);
        check_round_trip(c);
        BOOST_TEST(extend_rope(base, request(kind), 4096).raw == base.raw);  // nothing to extend
        BOOST_TEST(override_rope(base, request(kind, 4)).rope.factor == 4);
        refuses([&] { override_rope(base, request(kind)); }, {"--rope-factor"});
        refuses([&] { extend_rope(scaled(std::string(kind) == "yarn" ? linear(2) : yarn()), request(kind), 65536); },
                {kind, "already"});
    }
    BOOST_TEST(extend_rope(base, request("keep"), 4096).raw == base.raw);
    refuses([&] { extend_rope(base, request("keep", 2), 65536); }, {"keep", "--rope-factor"});
    refuses([&] { extend_rope(base, request("cubic"), 65536); }, {"cubic", "yarn"});
    refuses([&] { extend_rope(base, request("auto", 0.5), 65536); }, {"--rope-factor"});
    refuses([&] { extend_rope(base, request("auto", 0, 1), 65536); }, {"--rope-theta"});
    refuses([&] { extend_rope(base, {}, 0); }, {"context"});
    refuses([&] { extend_rope(base, request("auto", 1e9), 8192); }, {"factor"});
    const ModelConfig wins = extend_rope(base, request("auto", 25), 100000);  // as in LongLoRA's published weights
    BOOST_TEST(wins.rope.factor == 25);
    BOOST_TEST(wins.covered_positions() == 102400);
    check_round_trip(wins);
    const ModelConfig theta = extend_rope(base, request("keep", 0, 1e6), 65536);  // a larger base instead of scaling
    BOOST_TEST((theta.rope.kind == RopeKind::none));
    BOOST_TEST(theta.rope.theta == 1e6);
    BOOST_TEST(theta.max_positions == 65536);
    check_round_trip(theta);
}

/// No frequency changes; the config says how long the model is now.
BOOST_AUTO_TEST_CASE(a_context_that_the_scaling_does_not_follow) {
    const auto check = [](const ModelConfig& from, const ModelConfig& to, std::int64_t positions, std::int64_t original,
                          std::int64_t covered) {
        BOOST_TEST((to.rope.kind == from.rope.kind));
        BOOST_TEST(to.rope.factor == from.rope.factor);
        BOOST_TEST(to.max_positions == positions);
        BOOST_TEST(to.original_positions() == original);
        BOOST_TEST(to.covered_positions() == covered);
        BOOST_TEST((rotary_tables(to, 20000, 0, 9).cos == rotary_tables(from, 20000, 0, 9).cos));
        check_round_trip(to);
    };
    const ModelConfig plain = parse(good()), l = scaled(llama3()), y = scaled(yarn()), fours = scaled(linear(4)),
                      ntk = scaled({{"type", "dynamic"}, {"factor", 2.0}});
    check(plain, extend_rope(plain, request("keep"), 10000), 10000, 10000, 10000);
    check(l, extend_rope(l, request("keep"), 10000), 10000, 1024, 10000);
    check(y, extend_rope(y, request("keep"), 10000), 10000, 1024, 10000);
    check(fours, extend_rope(fours, request("keep"), 16387), 4097, 4097, 16388);
    check(ntk, extend_rope(ntk, request("keep"), 10000), 4096, 4096, 8192);
    // A config with the original length in max_position_embeddings, as some models with YaRN have it.
    const ModelConfig short_yarn = parse(with({{"max_position_embeddings", 1024}, {"rope_scaling", yarn()}}));
    check(short_yarn, extend_rope(short_yarn, {}, 4000), 4096, 1024, 4096);
    BOOST_TEST(extend_rope(short_yarn, {}, 1000).raw == short_yarn.raw);
}

BOOST_AUTO_TEST_CASE(parameters_of_kinds) {
    RopeRequest r = request("llama3");
    r.low_freq_factor = 0.5, r.high_freq_factor = 8;
    const ModelConfig c = extend_rope(parse(good()), r, 16384);
    BOOST_TEST(c.rope.low_freq_factor == 0.5);
    BOOST_TEST(c.rope.high_freq_factor == 8);
    check_round_trip(c);
    r.high_freq_factor = 0.25;
    refuses([&] { extend_rope(parse(good()), r, 16384); }, {"high_freq_factor"});
    r = request("auto");
    r.beta_fast = 16;
    refuses([&] { extend_rope(parse(good()), r, 16384); }, {"beta_fast", "yarn", "linear"});
    const ModelConfig y = override_rope(scaled(yarn()), r);
    BOOST_TEST(y.rope.beta_fast == 16);
    check_round_trip(y);
}

BOOST_AUTO_TEST_CASE(override_never_raises_a_factor_by_itself) {
    const ModelConfig base = parse(good());
    BOOST_TEST(override_rope(base, {}).raw == base.raw);
    const ModelConfig y = scaled(yarn());
    BOOST_TEST(override_rope(y, {}).raw == y.raw);
    const ModelConfig less = override_rope(scaled(linear(8)), request("auto", 2));
    BOOST_TEST(less.rope.factor == 2);
    BOOST_TEST(less.covered_positions() == 8192);
    BOOST_TEST((override_rope(base, request("auto", 2)).rope.kind == RopeKind::linear));
}

BOOST_AUTO_TEST_CASE(written_spellings) {
    const ModelConfig c = extend_rope(
        parse(with({{"rope_theta", 2e4}, {"rope_scaling", nullptr}, {"unknown", Json::array({1})}})), {}, 16384);
    BOOST_TEST(c.raw["max_position_embeddings"] == 4096);
    BOOST_TEST(c.raw["original_max_position_embeddings"] == 4096);
    BOOST_TEST(c.raw["rope_theta"] == 2e4);
    // Two keys, as the oldest versions of transformers expect them.
    BOOST_TEST(c.raw["rope_scaling"].dump() == R"({"type":"linear","factor":4.0})");
    BOOST_TEST(c.raw["rope_parameters"].dump() == R"({"rope_type":"linear","factor":4.0,"rope_theta":20000.0})");
    BOOST_TEST(c.raw["unknown"] == Json::array({1}));
    const ModelConfig l = extend_rope(scaled(llama3()), {}, 16384);
    BOOST_TEST(l.raw["rope_scaling"].dump() == R"({"rope_type":"llama3","factor":32.0,"low_freq_factor":1.0,)"
                                               R"("high_freq_factor":4.0,"original_max_position_embeddings":1024})");
    BOOST_TEST(!l.raw.contains("original_max_position_embeddings"));
}

BOOST_AUTO_TEST_SUITE_END()
