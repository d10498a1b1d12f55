// The list of parameters by pipeline stage: every stage lists its own units, at the same offsets as in the whole
// list, and all stages together list every parameter.
#include "model/parameters.h"

#include <boost/test/unit_test.hpp>
#include <set>

using namespace longlora;

namespace {

ModelConfig config_of(bool tied) {
    ModelConfig c;
    c.model_type = "llama";
    c.hidden = 24, c.intermediate = 40, c.num_layers = 5, c.num_heads = 3, c.num_kv_heads = 1, c.head_dim = 8,
    c.vocabulary = 67;
    c.tied = tied;
    return c;
}

TrainableSet trainables_of(Method method) {
    TrainableSet set;
    set.method = method;
    set.lora_rank = 3;
    set.lm_head = method == Method::longlora;
    return set;
}

bool same(const Parameter& a, const Parameter& b) {
    return a.name == b.name && a.shape == b.shape && a.group == b.group && a.trainable == b.trainable &&
           a.unit == b.unit && a.offset == b.offset;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(parameters)

BOOST_AUTO_TEST_CASE(each_stage_lists_its_units_of_the_whole_list) {
    const std::vector<Stage> stages = {{0, 1, true, false}, {1, 3, false, false}, {4, 1, false, true}};
    for (const Method method : {Method::longlora, Method::lora, Method::full})
        for (const bool tied : {false, true}) BOOST_TEST_CONTEXT(name_of(method) << (tied ? ", tied" : "")) {
                const ModelConfig c = config_of(tied);
                const ParameterList whole = list_parameters(c, trainables_of(method));
                std::map<std::string, int> times;
                for (std::size_t s = 0; s < stages.size(); ++s) {
                    const ParameterList list = list_parameters(c, trainables_of(method), stages[s]);
                    BOOST_REQUIRE_EQUAL(list.units.size(), 7u);
                    for (const Parameter& p : list.parameters) {
                        BOOST_TEST(same(p, whole.find(p.name)), p.name);
                        ++times[p.name];
                    }
                    for (std::int64_t unit = 0; unit < 7; ++unit) {
                        const bool table = unit == 0 && (s == 0 || (s == 2 && tied));
                        const bool held = table ||
                                          (unit >= 1 && unit <= 5 && unit - 1 >= stages[s].first_layer &&
                                           unit - 1 < stages[s].first_layer + stages[s].num_layers) ||
                                          (unit == 6 && s == 2);
                        const UnitLayout &ours = list.units[static_cast<std::size_t>(unit)],
                                         &all = whole.units[static_cast<std::size_t>(unit)];
                        BOOST_TEST(ours.trainable_count == (held ? all.trainable_count : 0));
                        BOOST_TEST(ours.frozen_count == (held ? all.frozen_count : 0));
                    }
                }
                BOOST_TEST(times.size() == whole.parameters.size());
                for (const auto& [name, count] : times)
                    BOOST_TEST(count == (tied && name == "model.embed_tokens.weight" ? 2 : 1), name);
            }
}

BOOST_AUTO_TEST_CASE(names_are_found_in_any_list) {
    const ModelConfig c = config_of(true);
    const ParameterList whole = list_parameters(c, trainables_of(Method::longlora)),
                        middle = list_parameters(c, trainables_of(Method::longlora), {1, 2, false, false});
    const ParameterList copied = whole;  // a copy must refer to its own parameters, not to those of the original
    for (const Parameter& p : copied.parameters) BOOST_TEST(&copied.find(p.name) == &p);
    BOOST_TEST(middle.look_up("model.layers.0.input_layernorm.weight") == nullptr);
    BOOST_TEST(middle.look_up("model.layers.2.input_layernorm.weight") != nullptr);
    BOOST_TEST(middle.look_up("model.embed_tokens.weight") == nullptr);
    BOOST_CHECK_THROW(whole.find("lm_head.weight"), std::logic_error);
}

BOOST_AUTO_TEST_SUITE_END()
