// Options that have no effect are refused: every row of the table in jobs/command_line/without_effect.cpp, on the
// command line and in a --config file; and what only the model's files decide.
#include "jobs/command_line/without_effect.h"

#include <boost/test/unit_test.hpp>

#include "jobs/evaluate/options.h"
#include "jobs/plan/options.h"
#include "jobs/prepare/prepare.h"
#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

template <class Options> void parse_as(const char* command, const Words& words) {
    Options options;
    BOOST_TEST(parse_options(command, "", words, options).run);
}

void parse(const std::string& command, const Words& words) {
    if (command == "train") parse_as<TrainOptions>("train", words);
    else if (command == "plan") parse_as<PlanOptions>("plan", words);
    else if (command == "evaluate") parse_as<EvaluateOptions>("evaluate", words);
    else if (command == "prepare") parse_as<PrepareOptions>("prepare", words);
    else BOOST_ERROR("this test does not know the command " << command);
}

std::string refusal(const std::string& command, const Words& words) {
    try {
        parse(command, words);
    } catch (const Error& e) {
        BOOST_CHECK(e.code == ExitCode::bad_input);
        return e.what();
    }
    return "";
}

Words words_of(const std::string& line) {
    std::istringstream in(line);
    Words words;
    for (std::string word; in >> word;) words.push_back(word);
    return words;
}

/// For each row: a value of the option, other options that fulfil the condition, and others that do not.
struct Example {
    std::string option, when;
    const char *value, *fulfilled, *not_fulfilled;
};

const std::vector<Example> kExamples = {
    {"train", "with --method lora", "embed", "--method lora", "--method longlora"},
    {"train", "with --method full", "embed", "--method full", ""},
    {"lora-rank", "with --method full", "4", "--method full", "--method lora"},
    {"lora-alpha", "with --method full", "4", "--method full", ""},
    {"lora-targets", "with --method full", "q,k", "--method full", ""},
    {"adapter", "with --method full", "folder", "--method full", "--method lora"},
    {"adapter", "with --init", "folder", "--init config.json", "--model folder"},
    {"lr-embed", "with --method lora", "0.5", "--method lora", "--method full"},
    {"lr-embed", "unless --train names embed", "0.5", "--train norm,lm_head", "--train norm,embed"},
    {"lr-norm", "with --method lora", "0.5", "--method lora", "--method full"},
    {"lr-norm", "unless --train names norm", "0.5", "--train none", "--train norm"},
    {"warmup", "beyond --steps", "50", "--steps 49", "--steps 50"},
    {"schedule", "unless --steps is above --warmup", "cosine", "--steps 20", "--steps 21"},
    {"seed", "with --order sequential and --method full", "5", "--order sequential --method full",
     "--order sequential --method full --init config.json"},
    {"seed", "with --order sequential and --adapter", "5", "--order sequential --adapter folder", "--adapter folder"},
    {"allow-change", "with --resume never", "lr", "--resume never", "--resume FILE"},
    {"group", "with --attention dense", "77", "--attention dense", "--attention sliding"},
    {"rope-factor", "with --rope keep", "2", "--rope keep", "--rope yarn"},
    {"rope-low-freq-factor", "unless --rope is llama3", "2", "--rope yarn", "--rope llama3"},
    {"rope-high-freq-factor", "unless --rope is llama3", "2", "--rope linear", "--rope auto"},
    {"rope-beta-fast", "unless --rope is yarn", "20", "--rope llama3", "--rope yarn"},
    {"rope-beta-slow", "unless --rope is yarn", "2", "--rope ntk", "--rope keep"},
    {"rank", "with --find", "0", "--find", ""},
    {"rank", "with --max-context", "0", "--max-context", "--no-max-context"},
    {"bos", "with --vocabulary", "false", "out.h5 in.jsonl --vocabulary 300", "out.h5 in.jsonl --tokenizer folder"},
    {"eos", "with --vocabulary", "false", "out.h5 in.jsonl --vocabulary 300", "out.h5 in.jsonl --tokenizer folder"},
    {"bin-type", "without .bin files", "uint32", "out.h5 a.txt b.jsonl.gz --vocabulary 300",
     "out.h5 a.txt folder --vocabulary 300"},
};

const Example* example_of(const WithoutEffect& row) {
    for (const Example& e : kExamples)
        if (e.option == row.option && e.when == row.when) return &e;
    return nullptr;
}

/// What the command needs in any case.
Words with_files(const std::string& command, const Words& words) {
    return command == "prepare" && words.empty() ? Words{"out.h5", "in.bin"} : words;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(without_effect)

BOOST_AUTO_TEST_CASE(every_row_of_the_table) {
    const io_testing::Scratch folder;
    BOOST_TEST(options_without_effect().size() == kExamples.size());
    for (const WithoutEffect& row : options_without_effect()) {
        const Example* example = example_of(row);
        BOOST_REQUIRE_MESSAGE(example, "no example of --" << row.option << " " << row.when);
        const std::string name = row.option, path = folder / "c.toml";
        const Words option{"--" + name, example->value}, fulfilled = words_of(example->fulfilled),
                                                         not_fulfilled = words_of(example->not_fulfilled);
        for (const std::string& command : words_of(row.commands))
            BOOST_TEST_CONTEXT("longlora " << command << " " << line_of(fulfilled + option)) {
                const std::string expected = "--" + name + " " + example->value + " has no effect " + row.when + ": ";
                BOOST_TEST(refusal(command, fulfilled + option).find(expected + row.reason) == 0u,
                           refusal(command, fulfilled + option));
                BOOST_TEST(refusal(command, option + fulfilled).find(expected) == 0u);
                BOOST_TEST(refusal(command, fulfilled) == "");  // the default is never refused
                BOOST_TEST(refusal(command, with_files(command, not_fulfilled) + option) == "");
                io_testing::spill(path, name + " = \"" + example->value + "\"\n");
                BOOST_TEST(refusal(command, fulfilled + Words{"--config", path}).find(expected) == 0u);
                BOOST_TEST(refusal(command, with_files(command, not_fulfilled) + Words{"--config", path}) == "");
            }
    }
}

/// A file may state defaults, as the presets do, whatever else is asked for; the command line may not.
BOOST_AUTO_TEST_CASE(defaults_in_a_file) {
    const io_testing::Scratch folder;
    const std::string path = folder / "c.toml";
    io_testing::spill(path, "train = \"embed,norm\"\nlora-rank = 8\nlora-alpha = 16\nwarmup = 20\ngroup = 0\n");
    for (const char* others : {"--method full", "--method lora", "--steps 3", "--attention dense"})
        BOOST_TEST(refusal("train", words_of(others) + Words{"--config", path}) == "", others);
    BOOST_TEST(refusal("train", {"--method", "full", "--lora-rank", "8", "--config", path}) != "");
    io_testing::spill(path, "method = \"full\"\nlora-rank = 4\n");
    BOOST_TEST(refusal("train", {"--config", path}) != "");
    BOOST_TEST(refusal("train", {"--config", path, "--method", "lora"}) == "");  // the command line wins
    for (const auto& entry : std::filesystem::directory_iterator(std::string(SOURCE_FOLDER) + "/jobs/presets"))
        if (entry.path().extension() == ".toml")
            for (const char* others :
                 {"", "--method full", "--method lora", "--attention dense", "--steps 5", "--find"})
                BOOST_TEST(refusal("plan", words_of(others) + Words{"--config", entry.path()}) == "",
                           entry.path().string() << " " << others);
}

/// The model's config.json decides what the context needs.
BOOST_AUTO_TEST_CASE(rope_that_does_not_cover_the_context) {
    const Workshop shop;  // the model has 128 positions
    const Words longer = with(training(), "context", "256");
    const Words plan{"plan", "--model", "model", "--context", "256"};
    for (const Words& words : {longer, plan}) {
        shop.refused(with(words, "rope-factor", "1.5"),
                     {"--rope-factor 1.5", "context of 192 tokens", "--context 256", "--rope-factor 2 or more"});
        for (const char* kind : {"ntk", "yarn", "llama3", "linear"})
            shop.refused(with(with(words, "rope", kind), "rope-factor", "1.9"), {"--rope-factor 1.9", "--context 256"});
    }
    shop.refused(with(training(), "rope", "yarn") + Words{"--rope-beta-fast", "16"},
                 {"--rope yarn", "covers the context of 64 tokens"});
    shop.done(with(longer, "rope-factor", "2"));
    shop.done(with(with(with(longer, "rope", "ntk"), "rope-factor", "3"), "run", "ntk"));
    shop.done({"plan", "--model", "model", "--rope-factor", "2", "--max-context", "--memory", "40MB"});
}

BOOST_AUTO_TEST_CASE(the_program_says_it_once) {
    const Workshop shop;
    const Words lora = with(training(), "method", "lora");
    shop.refused(lora + Words{"--train", "embed"}, {"--train embed has no effect with --method lora"}, 2);
    shop.refused({"prepare", "x.h5", "model", "--vocabulary", "300", "--bos", "true"}, {"--bos true has no effect"});
}

BOOST_AUTO_TEST_SUITE_END()
