// Tests `longlora evaluate` from its arguments to its JSON: compares the losses of a model, an adapter and checkpoints
// with the losses of transformers and peft, and tests refusals before anything is computed or created. Windows are
// tested by tests/unit/eval.
#include <algorithm>
#include <cmath>
#include <set>

#include "io/token_file.h"
#include "jobs/command_line/commands.h"
#include "jobs/evaluate/report.h"
#include "tests/unit/jobs/export_testing.h"

using namespace longlora;
using namespace longlora::io_testing;
using namespace longlora::export_testing;

namespace {

/// The first sequence of a golden case as a token file, and the evaluate command on this file.
struct Case : Scratch {
    std::string folder_of_case, json;
    Json gold;
    std::int64_t context;
    explicit Case(const std::string& name)
        : folder_of_case(golden(name)),
          json(*this / "out.json"),
          gold(read_json_file(folder_of_case + "/golden.json")),
          context(gold["context"]) {
        const SafetensorsFile arrays(folder_of_case + "/golden.safetensors");
        const HostTensor ids = *arrays.find("input_ids");
        std::vector<std::int32_t> tokens;
        for (std::int64_t t = 0; t < context; ++t)
            tokens.push_back(static_cast<std::int32_t>(reinterpret_cast<const std::int64_t*>(ids.bytes)[t]));
        TokenFileInfo info;
        info.tokenizer_kind = "none";
        info.vocabulary = gold["options"]["vocab"];
        write_token_file(*this / "data.h5", info, {tokens});
    }
    void run(Arguments arguments) const {
        const parallel::HostGroup alone(MPI_COMM_SELF);
        const Arguments common{
            "--data", *this / "data.h5", "--context", std::to_string(context), "--dtype", "float32", "--memory",
            "64MiB",  "--json",          json};
        for (const auto& one : common)
            if (one.starts_with("--") && std::find(arguments.begin(), arguments.end(), one) == arguments.end())
                arguments.insert(arguments.end(), {one, *(&one + 1)});
        BOOST_CHECK_EQUAL(evaluate_command(arguments, alone), 0);
    }
    Json result(const Arguments& arguments) const {
        run(arguments);
        return read_json_file(json);
    }
    double nll(const Arguments& arguments) const { return result(arguments)["results"][0]["nll"]; }
    std::set<std::string> files() const {
        std::set<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(folder))
            names.insert(entry.path().filename().string());
        return names;
    }
};

void close(double ours, double theirs) {
    BOOST_CHECK_MESSAGE(std::abs(ours - theirs) <= 1e-5 * theirs, ours << " is not " << theirs);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(evaluating)

BOOST_AUTO_TEST_CASE(every_source_of_a_model) {
    for (const char* name : {"mha", "gqa-odd-tied"}) {
        const Case c(name);
        close(c.nll({"--model", c.folder_of_case}), c.gold["dense.loss"]);
        close(c.nll({"--model", c.folder_of_case, "--adapter", c.folder_of_case + "/trained-adapter"}),
              c.gold["merged.loss"]);
        const std::string checkpoint = c / "step-00000010.h5";
        write_golden_checkpoint(checkpoint, c.folder_of_case);
        close(c.nll({"--checkpoint", checkpoint}), c.gold["merged.loss"]);
        close(c.nll({"--checkpoint", checkpoint, "--model", c.folder_of_case}), c.gold["merged.loss"]);
    }
}

// Full fine-tuning: the checkpoint is the whole model, whether or not training started from a base model.
BOOST_AUTO_TEST_CASE(a_checkpoint_that_holds_everything) {
    const Case c("mha");
    const ModelConfig config = read_config(c.folder_of_case);
    TrainableSet set;
    set.method = Method::full;
    std::map<std::string, std::vector<float>> values;
    for (const Parameter& p : list_parameters(config, set).parameters)
        values[p.name] = floats_of(c.folder_of_case + "/model.safetensors", p.name);
    for (const std::string& base : {std::string(), c.folder_of_case}) {
        const std::string checkpoint = c / "step-00000010.h5";
        write_checkpoint(checkpoint, config, set, values, base);
        close(c.nll({"--checkpoint", checkpoint}), c.gold["dense.loss"]);
        REFUSED("leave it out", c.run({"--checkpoint", checkpoint, "--model", c.folder_of_case}));
    }
}

BOOST_AUTO_TEST_CASE(json_states_the_protocol) {
    const Case c("mha");
    const Json out = c.result({"--model", c.folder_of_case, "--context", "32,16", "--stride", "8", "--score",
                               "last,all", "--attention", "shifted"});
    BOOST_REQUIRE_EQUAL(out["results"].size(), 4u);
    const std::int64_t contexts[] = {32, 32, 16, 16}, windows[] = {9, 9, 11, 11},
                       tokens[] = {31 + 8 * 8, 9 * 31, 15 + 10 * 8, 11 * 15};
    for (std::size_t i = 0; i < 4; ++i) {
        const Json& row = out["results"][i];
        BOOST_CHECK_EQUAL(row["context"].get<std::int64_t>(), contexts[i]);
        BOOST_CHECK_EQUAL(row["stride"].get<std::int64_t>(), 8);
        BOOST_CHECK_EQUAL(row["score"].get<std::string>(), i % 2 ? "all" : "last");
        BOOST_CHECK_EQUAL(row["windows"].get<std::int64_t>(), windows[i]);
        BOOST_CHECK_EQUAL(row["tokens"].get<std::int64_t>(), tokens[i]);
        BOOST_CHECK_CLOSE(row["perplexity"].get<double>(), std::exp(row["nll"].get<double>()), 1e-10);
        BOOST_CHECK_EQUAL(row.size(), 7u);
    }
    const Json& protocol = out["protocol"];
    BOOST_CHECK_EQUAL(protocol["attention"].get<std::string>(), "shifted");
    BOOST_CHECK_EQUAL(protocol["group_by_context"]["32"].get<std::int64_t>(), 8);
    BOOST_CHECK_EQUAL(protocol["dtype"].get<std::string>(), "float32");
    BOOST_CHECK_EQUAL(protocol["model"]["hash"].get<std::string>(), content_hash(SafetensorsFolder(c.folder_of_case)));
    BOOST_CHECK_EQUAL(protocol["data"][0]["hash"].get<std::string>(), TokenFile(c / "data.h5").content_hash());
    const std::string words = protocol["words"];
    for (const char* said : {"every 8 tokens", "cross from one document", "shifted, group 8 of 32, 4 of 16",
                             "no scaling", "float32", "1 rank(s)"})
        BOOST_TEST(has(words, said), words);
}

// evaluate never raises the rope factor by itself; --rope-factor sets it.
BOOST_AUTO_TEST_CASE(rope) {
    const Case c("mha");
    const double plain = c.nll({"--model", c.folder_of_case});
    BOOST_CHECK_EQUAL(plain, c.nll({"--model", c.folder_of_case, "--rope", "keep"}));
    const Json out = c.result({"--model", c.folder_of_case, "--rope", "linear", "--rope-factor", "4"});
    BOOST_CHECK_GT(std::abs(plain - out["results"][0]["nll"].get<double>()), 1e-4);
    BOOST_CHECK_EQUAL(out["protocol"]["rope"]["kind"].get<std::string>(), "linear");
    BOOST_CHECK_EQUAL(out["protocol"]["rope"]["factor"].get<double>(), 4);
    const ModelConfig config = read_config(c.folder_of_case);
    BOOST_CHECK(context_warning(config, 128).empty());
    BOOST_TEST(has(context_warning(config, 129), "more than the 128"));
}

/// One --group serves several contexts. Beyond twice the context the groups are those of dense attention.
BOOST_AUTO_TEST_CASE(groups_beyond_the_context) {
    const Case c("mha");
    for (const char* attention : {"shifted", "plain", "shifted-only", "layers", "sliding"}) {
        const auto with_group = [&](const std::string& context, const std::string& group) {
            return c.nll(
                {"--model", c.folder_of_case, "--context", context, "--attention", attention, "--group", group});
        };
        const double dense = c.nll({"--model", c.folder_of_case, "--context", "24"});
        for (const char* group : {"48", "1000", "1073741824"}) BOOST_CHECK_EQUAL(with_group("24", group), dense);
    }
    const Json out =
        c.result({"--model", c.folder_of_case, "--context", "16,96", "--group", "32", "--attention", "shifted"});
    BOOST_CHECK_EQUAL(out["protocol"]["group_by_context"]["16"].get<std::int64_t>(), 32);
    BOOST_CHECK_EQUAL(out["results"].size(), 2u);
}

BOOST_AUTO_TEST_CASE(refusals) {
    const Case c("mha");
    const std::string model = c.folder_of_case;
    const auto before = c.files();
    REFUSED("no model", c.run({}));
    REFUSED("needs its base model", c.run({"--adapter", model + "/adapter"}));
    REFUSED("leave one out", c.run({"--checkpoint", "x", "--adapter", "y"}));
    REFUSED("there is no checkpoint", c.run({"--checkpoint", c / "none"}));
    REFUSED("none.h5", c.run({"--model", model, "--data", c / "none.h5"}));
    for (const char* context : {"0", "1", "-4", "12k", "", "99999999999999999999"})
        REFUSED("--context", c.run({"--model", model, "--context", context}));
    REFUSED("twice", c.run({"--model", model, "--context", "16,16"}));
    REFUSED("which has 96 tokens", c.run({"--model", model, "--context", "97"}));
    REFUSED("--stride", c.run({"--model", model, "--stride", "-1"}));
    REFUSED("would be left out", c.run({"--model", model, "--stride", "1000000"}));
    REFUSED("--windows", c.run({"--model", model, "--windows", "-1"}));
    REFUSED("--score some", c.run({"--model", model, "--score", "some"}));
    REFUSED("has no effect", c.run({"--model", model, "--group", "8"}));
    REFUSED("--group is -1", c.run({"--model", model, "--group", "-1", "--attention", "shifted"}));
    REFUSED("--group is 9", c.run({"--model", model, "--group", "9223372036854775807", "--attention", "plain"}));
    REFUSED("--device gpu", c.run({"--model", model, "--device", "gpu"}));
    REFUSED("--dtype", c.run({"--model", model, "--dtype", "int8"}));
    REFUSED("--rope-factor", c.run({"--model", model, "--rope", "linear"}));
    REFUSED("is a folder", c.run({"--model", model, "--json", c.folder}));
    REFUSED("No such file", c.run({"--model", model, "--json", c / "missing/out.json"}));
    REFUSED("--nonsense", c.run({"--model", model, "--nonsense", "1"}));
    BOOST_TEST(c.files() == before, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_refused_before_computing) {
    const Case c("mha");
    TokenFileInfo info;
    info.tokenizer_kind = "none";
    info.vocabulary = 256;
    write_token_file(c / "long.h5", info, {std::vector<std::int32_t>(1000, 5)});
    const Arguments arguments{"--model",   c.folder_of_case, "--data",   c / "long.h5",
                              "--context", "16,1000",        "--memory", "1MiB"};
    try {
        c.run(arguments);
        BOOST_ERROR("1000 tokens fit into 1 MiB");
    } catch (const Error& e) {
        BOOST_CHECK(e.code == ExitCode::does_not_fit);
        BOOST_TEST(has(e.what(), "--memory"), e.what());
    }
    BOOST_CHECK(!std::filesystem::exists(c.json));
}

BOOST_AUTO_TEST_CASE(a_larger_vocabulary_than_that_of_the_model) {
    const Case c("mha");
    TokenFileInfo info;
    info.tokenizer_kind = "none";
    info.vocabulary = 257;
    write_token_file(c / "large.h5", info, {std::vector<std::int32_t>(200, 5)});
    REFUSED("257", c.run({"--model", c.folder_of_case, "--data", c / "large.h5"}));
}

BOOST_AUTO_TEST_SUITE_END()
