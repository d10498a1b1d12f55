// The option tables are an interface: names, classes and defaults are frozen in tests/golden/options.txt, and every
// option is recorded in manifest.json. After an intended change run
//   LONGLORA_FREEZE_OPTIONS=1 build/release/tests/test_jobs --run_test=options
// and review the difference of tests/golden/options.txt.
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <set>

#include "jobs/evaluate/options.h"
#include "jobs/export/export.h"
#include "jobs/inspect/inspect.h"
#include "jobs/plan/options.h"
#include "jobs/prepare/prepare.h"
#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

/// Lists the options, each as a line "command name class default".
struct Lister {
    std::string command;
    std::ostringstream& out;
    template <class Field>
    void operator()(const char* name, const Field& field, OptionClass option_class, const char*) const {
        const char* classes[] = {"identity", "schedule", "free"};
        Json value;
        if constexpr (std::is_same_v<Field, Flag>) value = field.on;
        else value = field;
        out << command << " --" << name << " " << classes[static_cast<int>(option_class)] << " " << to_line(value)
            << "\n";
    }
    template <class Field> void positional(const char* name, const Field&, const char*) const {
        out << command << " " << name << "\n";
    }
};

template <class Options> void list(const char* command, std::ostringstream& out) {
    Options().visit(Lister{command, out});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(options)

BOOST_AUTO_TEST_CASE(tables_are_frozen) {
    std::ostringstream out;
    list<PrepareOptions>("prepare", out);
    list<TrainOptions>("train", out);
    list<EvaluateOptions>("evaluate", out);
    list<ExportOptions>("export", out);
    list<InspectOptions>("inspect", out);
    std::ostringstream of_plan, of_train;  // plan has all options of train
    list<PlanOptions>("plan", of_plan);
    list<TrainOptions>("plan", of_train);
    std::istringstream plan_lines(of_plan.str());
    for (std::string line; std::getline(plan_lines, line);)
        if (of_train.str().find(line + "\n") == std::string::npos) out << line << "\n";
    const std::string path = std::string(SOURCE_FOLDER) + "/tests/golden/options.txt";
    if (std::getenv("LONGLORA_FREEZE_OPTIONS")) io_testing::spill(path, out.str());
    std::istringstream expected_lines(io_testing::slurp(path)), lines(out.str());
    std::set<std::string> expected, now;
    for (std::string line; std::getline(expected_lines, line);) expected.insert(line);
    for (std::string line; std::getline(lines, line);) now.insert(line);
    for (const auto& line : expected) BOOST_TEST(now.count(line), "this option is missing or has changed: " << line);
    for (const auto& line : now) BOOST_TEST(expected.count(line), "this option is new or has changed: " << line);
}

/// Options that job scripts depend on.
BOOST_AUTO_TEST_CASE(promised_options_exist) {
    const std::pair<const char*, const char*> promised[] = {
        {"prepare", "tokenizer vocabulary bos eos bin-type"},
        {"train",
         "model init data run context group attention method adapter lora-rank lora-alpha lora-targets train rope "
         "rope-factor rope-original rope-theta steps global-batch micro-batch lr lr-embed "
         "lr-norm warmup schedule weight-decay beta1 beta2 eps clip order document-mask seed dtype device pipeline "
         "sequence zero recompute offload memory checkpoint-every "
         "checkpoint-minutes keep resume stop-after timeout lock-timeout allow-change config"},
        {"evaluate",
         "model adapter checkpoint data context stride score per-document attention windows dtype rope rope-factor "
         "json config"},
        {"export", "format dtype config"},
        {"plan",
         "ranks rank machine find max-context json model context pipeline sequence zero memory recompute config"}};
    const Workshop shop;
    for (const auto& [command, names] : promised) {
        const std::string help = shop.done({command, "--help"}).out;
        std::istringstream list(names);
        for (std::string name; list >> name;)
            BOOST_TEST(help.find("--" + name) != std::string::npos, command << " --help does not have --" << name);
    }
}

/// Every option that is set to another value appears with this value in manifest.json.
BOOST_AUTO_TEST_CASE(every_option_is_recorded) {
    const Workshop shop;
    shop.make_data("other.h5", 256, 20, 2);
    std::filesystem::copy(shop / "model", shop / "model2", std::filesystem::copy_options::recursive);
    io_testing::spill(shop / "c.toml", "lora-rank = 4\nlora-alpha = 8\n");
    const std::map<std::string, std::string> values = {{"model", "model2"},
                                                       {"adapter", "model/adapter"},
                                                       {"data", "other.h5"},
                                                       {"run", "base"},
                                                       {"context", "32"},
                                                       {"group", "8"},
                                                       {"attention", "plain"},
                                                       {"method", "lora"},
                                                       {"train", "embed"},
                                                       {"lora-rank", "2"},
                                                       {"lora-alpha", "4"},
                                                       {"lora-targets", "q"},
                                                       {"rope", "keep"},
                                                       {"rope-factor", "2"},
                                                       {"rope-original", "128"},
                                                       {"rope-theta", "777"},
                                                       {"rope-low-freq-factor", "2"},
                                                       {"rope-high-freq-factor", "5"},
                                                       {"rope-beta-fast", "31"},
                                                       {"rope-beta-slow", "2"},
                                                       {"steps", "2"},
                                                       {"global-batch", "2"},
                                                       {"micro-batch", "2"},
                                                       {"lr", "0.5"},
                                                       {"lr-embed", "0.5"},
                                                       {"lr-norm", "0.5"},
                                                       {"warmup", "0"},
                                                       {"schedule", "cosine"},
                                                       {"weight-decay", "0.5"},
                                                       {"beta1", "0.5"},
                                                       {"beta2", "0.5"},
                                                       {"eps", "0.5"},
                                                       {"clip", "0.5"},
                                                       {"order", "sequential"},
                                                       {"seed", "5"},
                                                       {"dtype", "bfloat16"},
                                                       {"device", "cpu"},
                                                       {"recompute", "all"},
                                                       {"offload", "activations"},
                                                       {"memory", "1GB"},
                                                       {"checkpoint-every", "5"},
                                                       {"checkpoint-minutes", "5"},
                                                       {"keep", "5"},
                                                       {"resume", "never"},
                                                       {"allow-change", "lr"},
                                                       {"stop-after", "5h"},
                                                       {"timeout", "55"},
                                                       {"lock-timeout", "66"},
                                                       {"document-mask", ""},
                                                       {"verify-checkpoints", "all"},
                                                       {"profile", ""},
                                                       {"pipeline", "1"},
                                                       {"sequence", "1"},
                                                       {"zero", "0"},
                                                       {"init", "model/config.json"}};
    const Json classes = to_json(classes_of(TrainOptions()));
    for (const auto& [class_name, options] : classes.items())
        for (const auto& [name, standard] : options.items()) {
            BOOST_REQUIRE_MESSAGE(values.count(name), "this test does not know --" << name);
            const std::string value = values.at(name);
            Words arguments =
                value.empty() ? training("run", 1) + Words{"--" + name} : with(training("run", 1), name, value);
            if (name == "init") arguments = with(with(arguments, "model", "-"), "method", "full");
            if (name == "schedule") arguments = with(arguments, "warmup", "0");
            if (name == "adapter") arguments = arguments + Words{"--config", "c.toml"};
            if (name == "rope-factor" || name.starts_with("rope-low") || name.starts_with("rope-high"))
                arguments = with(arguments, "rope", name == "rope-factor" ? "linear" : "llama3");
            if (name.starts_with("rope-beta")) arguments = with(arguments, "rope", "yarn");
            if (name.starts_with("rope-low") || name.starts_with("rope-high") || name.starts_with("rope-beta"))
                arguments = with(arguments, "rope-factor", "2");
            const std::string run = name == "run" ? "base" : "run";
            if (shop.done(arguments).code == 0) {
                const Json recorded =
                    Json::parse(io_testing::slurp(shop / (run + "/manifest.json")))["options"][class_name][name];
                const std::string said = recorded.is_string()                          ? recorded.get<std::string>()
                                         : recorded.is_array() && recorded.size() == 1 ? recorded[0].get<std::string>()
                                                                                       : to_line(recorded);
                const bool same_number = recorded.is_number() && double(recorded) == std::atof(value.c_str());
                BOOST_TEST((same_number || said == (value.empty() ? "true" : value)),
                           "--" << name << " " << value << " is recorded as " << said);
            }
            std::filesystem::remove_all(shop / run);
        }
}

BOOST_AUTO_TEST_SUITE_END()
