// Bad input to the program: exit code 2, one sentence that names the wrong thing, and no file created; the same when
// only one of two ranks gets the bad input. Meshes are tested by tests/unit/jobs/bad_mesh_test.cpp.
#include <sys/mount.h>
#include <boost/test/unit_test.hpp>

#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

struct Case {
    const char *option, *value;  // "--option value" is added to a good command; without the option if value is "-"
    Words parts;                 // parts of the sentence
};

const std::string random_bytes(std::size_t count) {
    std::string bytes;
    for (std::size_t i = 0; i < count; ++i) bytes.push_back(static_cast<char>(random_below(256, 1, 2, i)));
    return bytes;
}

/// Damages `file` in the usual ways, one after another, and expects a refusal that names it each time. `missing`: also
/// removes the file.
void spoil_and_refuse(const Workshop& shop, const std::string& file, const Words& arguments, bool missing = true) {
    const std::string path = shop / file, good = io_testing::slurp(path), name = std::filesystem::path(file).filename();
    const std::size_t size = good.size();
    if (missing) {
        std::filesystem::remove(path);
        shop.refused(arguments, {std::filesystem::path(file).stem()});
    }
    for (const std::string& bytes :
         {std::string(), good.substr(0, size / 2), good.substr(0, size - 1), good.substr(0, 7), random_bytes(size)}) {
        io_testing::spill(path, bytes);
        shop.refused(arguments, {name});
    }
    io_testing::spill(path, good);
}

const Words kEvaluate{"evaluate", "--model", "model", "--data", "data.h5", "--context", "64", "--dtype", "float32"};

/// Runs `work` with a mount on `folder`; prints 'skipped' if this process cannot mount.
template <class Work>
void mounted(const std::string& folder, const char* type, unsigned long flags, const char* data, const Work& work) {
    std::filesystem::create_directories(folder);
    const bool bind = flags & MS_BIND;
    bool can = ::mount(bind ? folder.c_str() : "tmpfs", folder.c_str(), type, flags, data) == 0;
    if (can && bind) can = ::mount(nullptr, folder.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    if (!can) {
        BOOST_TEST_MESSAGE("skipped: mounts on " << folder << " (" << std::strerror(errno) << ")");
        ::umount2(folder.c_str(), MNT_DETACH);
        return;
    }
    work();
    BOOST_TEST(::umount2(folder.c_str(), MNT_DETACH) == 0);
}

/// The mpirun command that starts rank 0 and rank 1 with different arguments.
Words two(const Words& rank0, const Words& rank1) {
    Words words{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-q", "-n", "1", PROGRAM};
    return words + rank0 + Words{":", "-n", "1", PROGRAM} + rank1;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(bad_input)

BOOST_AUTO_TEST_CASE(values_of_train) {
    const Workshop shop;
    const Case cases[] = {{"steps", "0", {"--steps", "0"}},
                          {"steps", "-1", {"--steps", "-1"}},
                          {"steps", "x", {"--steps", "'x'", "whole number"}},
                          {"steps", "2.5", {"--steps", "2.5"}},
                          {"steps", "", {"--steps"}},
                          {"steps", "99999999999", {"--steps", "99999999999"}},
                          {"global-batch", "0", {"--global-batch"}},
                          {"global-batch", "-4", {"--global-batch", "-4"}},
                          {"global-batch", "99999999999", {"--global-batch"}},
                          {"micro-batch", "0", {"--micro-batch"}},
                          {"context", "-", {"--context"}},
                          {"context", "0", {"--context"}},
                          {"context", "-64", {"--context", "-64"}},
                          {"context", "100000", {"data.h5", "6000", "100000"}},
                          {"context", "99999999999999999999", {"--context"}},
                          {"group", "99999999999", {"--group is 99999999999"}},
                          {"group", "-1", {"--group"}},
                          {"lora-rank", "0", {"--lora-rank"}},
                          {"lora-rank", "99999999999999999999", {"--lora-rank"}},
                          {"lora-rank", "100000", {"--lora-rank"}},
                          {"lora-alpha", "0", {"--lora-alpha"}},
                          {"lora-targets", "q,x", {"'x'", "q,k,v,o"}},
                          {"lora-targets", "", {"LoRA targets"}},
                          {"train", "embed,foo", {"--train foo"}},
                          {"lr", "-1", {"--lr"}},
                          {"lr", "nan", {"--lr"}},
                          {"lr", "1e30", {"--lr"}},
                          {"lr", "fast", {"--lr", "'fast'"}},
                          {"clip", "-1", {"--clip"}},
                          {"beta1", "1", {"--beta1"}},
                          {"eps", "0", {"--eps"}},
                          {"warmup", "-1", {"--warmup"}},
                          {"keep", "0", {"--keep"}},
                          {"seed", "-1", {"--seed"}},
                          {"checkpoint-every", "-1", {"--checkpoint-every"}},
                          {"rope-factor", "-2", {"--rope-factor", "-2"}},
                          {"rope", "foo", {"--rope foo"}},
                          {"dtype", "float16", {"--dtype float16"}},
                          {"dtype", "fp32", {"--dtype fp32"}},
                          {"attention", "foo", {"foo", "shifted"}},
                          {"method", "foo", {"foo", "longlora"}},
                          {"schedule", "foo", {"foo", "cosine"}},
                          {"order", "foo", {"foo", "shuffle"}},
                          {"recompute", "foo", {"--recompute foo"}},
                          {"offload", "foo", {"--offload foo"}},
                          {"device", "cuda", {"--device cuda"}},
                          {"zero", "4", {"--zero 4"}},
                          {"pipeline", "2", {"--pipeline 2"}},
                          {"sequence", "2", {"--sequence 2"}},
                          {"memory", "much", {"--memory 'much'"}},
                          {"timeout", "0", {"--timeout"}},
                          {"lock-timeout", "2", {"--lock-timeout", "at least 5"}},
                          {"stop-after", "soon", {"--stop-after 'soon'"}},
                          {"model", "-", {"--model", "--init"}},
                          {"init", "model/config.json", {"both --model and --init"}},
                          {"data", "-", {"--data"}},
                          {"run", "-", {"--run"}},
                          {"data", "missing.h5", {"missing.h5"}},
                          {"data", "model", {"model"}},
                          {"data", "data.h5:x", {"data.h5:x", "weight"}},
                          {"data", "data.h5:-1", {"data.h5", "-1"}},
                          {"model", "missing", {"missing"}},
                          {"adapter", "missing", {"missing"}},
                          {"adapter", "model", {"model", "adapter_config.json"}},
                          {"nonsense", "3", {"no option --nonsense", "--help"}},
                          {"resume", "missing.h5", {"missing.h5"}},
                          {"allow-change", "foo", {"--allow-change foo"}}};
    for (const auto& c : cases) shop.refused(with(training(), c.option, c.value), c.parts);
    shop.refused(training() + Words{"word"}, {"'word' is not expected"});
    shop.refused(training() + Words{"--seed"}, {"--seed", "without a value"});
    shop.refused(training() + Words{"--seed", "1", "--seed", "2"}, {"--seed takes one value"});
    shop.refused(with(training(), "memory", "1KB"), {"1000 B", "--context"}, 1, 3);  // exit code 3: does not fit
    shop.refused({"trian"}, {"'trian' is not a command"});
}

BOOST_AUTO_TEST_CASE(config_files) {
    const Workshop shop;
    const auto says = [&](const char* toml, const Words& parts, const char* without = "steps") {
        io_testing::spill(shop / "c.toml", toml);
        shop.refused(with(training(), without, "-") + Words{"--config", "c.toml"}, parts);
    };
    says("nonsense = 3\n", {"c.toml", "'nonsense'"});
    says("steps =\n", {"--steps"});
    says("steps = \"many\"\n", {"--steps", "'many'"});
    says("steps = 1.5\n", {"--steps", "'1.5'"});
    says("steps = 2\nsteps = 3\n", {"--steps"});
    says("steps = [2, 3]\n", {"--steps"});
    says("steps = 0\n", {"--steps is 0"});
    says("just words\n", {"c.toml", "'just words'"});
    says("[[[\n", {"c.toml"});
    says("[train]\nsteps = 2\n", {"c.toml", "[train]"});
    says(random_bytes(300).c_str(), {"c.toml"});
    shop.refused(with(training(), "config", "missing.toml"), {"missing.toml"});
    shop.refused(with(training(), "config", "model"), {"model"});

    io_testing::spill(shop / "c.toml",
                      "# all of it\nmodel = \"model\"\ndata = [\"data.h5\"]\nrun = \"run\"\ncontext = 64\nsteps = "
                      "9\nglobal-batch = 4\ndocument-mask = true\nlora-targets = \"q,k\"\n");
    shop.done({"train", "--config", "c.toml", "--steps", "1"});  // the command line wins
    const Json options = Json::parse(io_testing::slurp(shop / "run/manifest.json"))["options"];
    BOOST_TEST(options["schedule"]["steps"] == 1);
    BOOST_TEST(options["identity"]["document-mask"] == true);
    BOOST_TEST(options["identity"]["lora-targets"] == "q,k");
}

BOOST_AUTO_TEST_CASE(damaged_model) {
    const Workshop shop;
    spoil_and_refuse(shop, "model/model.safetensors", training());
    spoil_and_refuse(shop, "model/config.json", training());
    std::filesystem::rename(shop / "model/model.safetensors", shop / "model/model-00001-of-00001.safetensors");
    Json index;
    for (const auto& name : {"model.embed_tokens.weight", "lm_head.weight"})
        index["weight_map"][name] = "model-00001-of-00001.safetensors";
    io_testing::spill(shop / "model/model.safetensors.index.json", index.dump());
    shop.refused(training(), {"model", "lacks the tensor"});
    io_testing::spill(shop / "model/model.safetensors.index.json",
                      R"({"weight_map": {"lm_head.weight": "missing.safetensors"}})");
    shop.refused(training(), {"missing.safetensors"});
    io_testing::spill(shop / "model/model.safetensors.index.json",
                      R"({"weight_map": {"lm_head.weight": "../model/model-00001-of-00001.safetensors"}})");
    shop.refused(training(), {"model.safetensors.index.json", "in the same folder"});
    io_testing::spill(shop / "model/model.safetensors.index.json", "{}");
    shop.refused(training(), {"model.safetensors.index.json", "weight_map"});
    io_testing::spill(shop / "model/model.safetensors.index.json", "{");
    shop.refused(training(), {"model.safetensors.index.json", "line 1"});
}

BOOST_AUTO_TEST_CASE(model_and_config_do_not_fit) {
    const Workshop shop;
    const std::string good = io_testing::slurp(shop / "model/config.json");
    const auto says = [&](const std::string& key, const std::string& value, const Words& parts) {
        nlohmann::ordered_json config = nlohmann::ordered_json::parse(good);
        config[key] = nlohmann::ordered_json::parse(value);
        io_testing::spill(shop / "model/config.json", config.dump());
        shop.refused(training(), parts);
    };
    says("hidden_size", "128", {"model.embed_tokens.weight", "(256, 64)", "(256, 128)"});
    says("num_hidden_layers", "4", {"lacks the tensor", "layers.3"});
    says("num_hidden_layers", "2", {"layers.2"});
    says("vocab_size", "300", {"model.embed_tokens.weight", "(300, 64)"});
    says("vocab_size", "200", {"256", "200"});
    says("intermediate_size", "161", {"mlp"});
    says("num_key_value_heads", "3", {"num_key_value_heads"});
    says("hidden_size", "0", {"hidden_size is 0"});
    says("hidden_size", "-64", {"hidden_size is -64"});
    says("hidden_size", "\"wide\"", {"hidden_size"});
    says("hidden_act", "\"gelu\"", {"hidden_act", "gelu"});
    says("model_type", "\"gpt2\"", {"model_type", "gpt2"});
    says("attention_bias", "true", {"attention_bias"});
    says("sliding_window", "32", {"sliding_window"});
    says("quantization_config", "{\"bits\": 4}", {"quantization_config"});
}

BOOST_AUTO_TEST_CASE(damaged_data) {
    const Workshop shop;
    spoil_and_refuse(shop, "data.h5", training());
    shop.make_data("large.h5", 300, 4, 1);
    shop.refused(with(training(), "data", "large.h5"), {"300", "256"});
    shop.refused(with(kEvaluate, "data", "large.h5"), {"large.h5", "300", "256"});
    shop.make_data("short.h5", 256, 1, 1);
    shop.refused(with(with(training(), "context", "301"), "data", "short.h5"), {"short.h5", "300", "301"});
    shop.refused(with(with(kEvaluate, "context", "301"), "data", "short.h5"), {"short.h5", "300", "301"});
}

BOOST_AUTO_TEST_CASE(damaged_or_foreign_adapter) {
    const Workshop shop;
    std::filesystem::copy(shop / "model/adapter", shop / "adapter", std::filesystem::copy_options::recursive);
    const Words arguments = with(with(with(training(), "adapter", "adapter"), "lora-rank", "4"), "lora-alpha", "8");
    spoil_and_refuse(shop, "adapter/adapter_model.safetensors", arguments);
    spoil_and_refuse(shop, "adapter/adapter_config.json", arguments);
    shop.refused(with(arguments, "lora-rank", "8"), {"adapter", "rank 4", "--lora-rank 4"});
    shop.refused(with(arguments, "lora-alpha", "16"), {"adapter", "alpha 8", "--lora-alpha 8"});
    shop.refused(with(arguments, "lora-targets", "q,k"), {"adapter", "q,k,v,o", "--lora-targets"});
    shop.refused(with(arguments, "method", "full"), {"--adapter", "--method full"});
    Json config = Json::parse(io_testing::slurp(shop / "adapter/adapter_config.json"));
    config["r"] = 2;
    io_testing::spill(shop / "adapter/adapter_config.json", config.dump());
    shop.refused(with(arguments, "lora-rank", "2"), {"adapter", "lora_A"});
    std::filesystem::remove_all(shop / "model");
    std::filesystem::copy(std::string(SOURCE_FOLDER) + "/tests/golden/gqa-odd-tied", shop / "model",
                          std::filesystem::copy_options::recursive);
    config["r"] = 4;
    io_testing::spill(shop / "adapter/adapter_config.json", config.dump());
    shop.refused(arguments, {"adapter"});
}

BOOST_AUTO_TEST_CASE(prepare_evaluate_export_inspect_plan) {
    const Workshop shop;
    io_testing::spill(shop / "ids.jsonl", "{\"tokens\": [1, 2, 300]}\n");
    io_testing::spill(shop / "text.jsonl", "{\"text\": \"words\"}\n");
    io_testing::spill(shop / "odd.bin", "abc");
    io_testing::spill(shop / "garbage.model", random_bytes(2000));
    io_testing::spill(shop / "tokenizer.json", "{}");
    std::filesystem::create_directory(shop / "empty");
    const Words prepare{"prepare", "x.h5"};
    shop.refused(prepare + Words{"ids.jsonl", "--vocabulary", "256"}, {"ids.jsonl, line 1", "300", "256"});
    shop.refused(prepare + Words{"text.jsonl", "--vocabulary", "256"}, {"text.jsonl, line 1", "--tokenizer"});
    shop.refused(prepare + Words{"odd.bin", "--vocabulary", "256"}, {"odd.bin", "3 bytes"});
    shop.refused(prepare + Words{"odd.bin", "--vocabulary", "256", "--bin-type", "int8"}, {"--bin-type"});
    shop.refused(prepare + Words{"missing", "--vocabulary", "256"}, {"missing"});
    shop.refused(prepare + Words{"empty", "--vocabulary", "256"}, {"empty"});
    shop.refused(prepare + Words{"ids.jsonl"}, {"--tokenizer", "--vocabulary"});
    shop.refused(prepare + Words{"ids.jsonl", "--vocabulary", "-1"}, {"--vocabulary"});
    shop.refused(prepare + Words{"ids.jsonl", "--tokenizer", "model", "--bos", "maybe"}, {"--bos", "is maybe"});
    shop.refused(prepare + Words{"text.jsonl", "--tokenizer", "missing"}, {"missing"});
    shop.refused(prepare + Words{"text.jsonl", "--tokenizer", "garbage.model"}, {"garbage.model"});
    shop.refused(prepare + Words{"text.jsonl", "--tokenizer", "tokenizer.json"}, {"tokenizer.json"});
    shop.refused({"prepare", "missing/x.h5", "ids.jsonl", "--vocabulary", "400"}, {"missing"});
    shop.refused({"prepare"}, {"OUT.h5"});
    shop.refused({"prepare", "x.h5"}, {"INPUT"});

    for (const Case& c : {Case{"context", "64,x", {"x"}},
                          {"context", "1", {"--context"}},
                          {"stride", "-1", {"--stride"}},
                          {"score", "foo", {"--score foo"}},
                          {"windows", "-1", {"--windows"}},
                          {"json", "missing/x.json", {"missing"}},
                          {"json", "model", {"model"}},
                          {"checkpoint", "missing", {"missing"}},
                          {"checkpoint", "data.h5", {"data.h5", "token file"}},
                          {"model", "-", {"--model"}},
                          {"data", "-", {"--data"}},
                          {"context", "-", {"--context"}},
                          {"dtype", "half", {"--dtype half"}},
                          {"windows", "99999999999999999999", {"--windows"}},
                          {"stride", "99999999999999999999", {"--stride"}}})
        shop.refused(with(kEvaluate, c.option, c.value), c.parts);

    shop.done(training("base"));
    shop.refused({"export", "missing", "x"}, {"missing"});
    shop.refused({"export", "base", "model"}, {"model exists"});
    shop.refused({"export", "base"}, {"OUT"});
    shop.refused({"export", "model", "x"}, {"model has no checkpoint"});
    shop.refused({"export", "base", "x", "--format", "foo"}, {"--format foo"});
    shop.refused({"export", "base", "x", "--dtype", "float16"}, {"--dtype float16"});
    shop.refused({"export", "base", "data.h5/x"}, {"data.h5/x"});
    shop.refused({"export", "base", "x", "--model", "missing"}, {"missing", "--model"});
    spoil_and_refuse(shop, "base/checkpoints/step-00000002.h5", {"export", "base", "x"}, false);
    shop.refused({"inspect", "missing"}, {"missing"});
    shop.refused({"inspect", "odd.bin"}, {"odd.bin"});
    shop.refused({"plan", "--model", "model"}, {"--context"});
    shop.refused({"plan", "--model", "model", "--context", "64", "--rank", "1"}, {"--rank 1"});
    shop.refused({"plan", "--model", "model", "--context", "64", "--ranks", "-1"}, {"--ranks -1"});
    shop.refused({"plan", "--model", "model", "--context", "64", "--json", "missing/x"}, {"missing"});
}

BOOST_AUTO_TEST_CASE(folders_that_cannot_be_written) {
    const Workshop shop;
    shop.done(training("base"));
    mounted(shop / "readonly", nullptr, MS_BIND, nullptr, [&] {
        shop.refused(training("readonly/run"), {"readonly/run"});
        shop.refused(training("readonly/run"), {"readonly/run"}, 2);
        shop.refused({"export", "base", "readonly/out"}, {"readonly/out"});
        shop.refused(kEvaluate + Words{"--json", "readonly/x.json"}, {"readonly/x.json"});
        io_testing::spill(shop / "ids.jsonl", "{\"tokens\": [1, 2, 3]}\n");
        shop.refused({"prepare", "readonly/x.h5", "ids.jsonl", "--vocabulary", "256"}, {"readonly/x.h5"});
    });
    mounted(shop / "small", "tmpfs", 0, "size=128k", [&] {
        shop.refused({"export", "base", "small/out"}, {"small/out", "No space left"});
        std::string ids = "{\"tokens\": [1";
        for (int i = 0; i < 100000; ++i) ids += ",7";
        io_testing::spill(shop / "ids.jsonl", ids + "]}\n");
        shop.refused({"prepare", "small/x.h5", "ids.jsonl", "--vocabulary", "256"}, {"small/x.h5", "No space left"});
        const Outcome full = shop.run(training("small/run"));  // checkpoints of 400 KiB
        BOOST_TEST(full.code == 2);
        BOOST_TEST(sentences_of(full.err).size() == 1u, full.err);
        BOOST_TEST(full.err.find("small/run") != std::string::npos, full.err);
        BOOST_TEST(!file_exists(shop / "small/run/checkpoints/latest"));
        BOOST_TEST(Json::parse(io_testing::slurp(shop / "small/run/status.json"))["state"] == "failed");
    });
}

BOOST_AUTO_TEST_CASE(on_one_rank_of_two) {
    const Workshop shop;
    std::filesystem::copy(shop / "model", shop / "bad", std::filesystem::copy_options::recursive);
    io_testing::spill(shop / "bad.h5", random_bytes(5000));
    std::filesystem::copy(shop / "model", shop / "other", std::filesystem::copy_options::recursive);
    std::string config = io_testing::slurp(shop / "other/config.json");
    config.replace(config.find("10000.0"), 7, "50000.0");
    io_testing::spill(shop / "other/config.json", config);
    shop.make_data("other.h5", 256, 20, 2);
    shop.make_data("large.h5", 300, 4, 1);
    shop.make_data("short.h5", 256, 1, 1);
    std::filesystem::copy(shop / "model/adapter", shop / "adapter", std::filesystem::copy_options::recursive);
    io_testing::spill(shop / "adapter/adapter_model.safetensors", random_bytes(5000));
    const std::string good = io_testing::slurp(shop / "bad/model.safetensors");
    io_testing::spill(shop / "bad/model.safetensors", good.substr(0, good.size() / 2));
    for (const Case& c : {Case{"model", "missing", {"missing"}},
                          {"model", "bad", {"bad/model.safetensors"}},
                          {"data", "missing.h5", {"missing.h5"}},
                          {"data", "bad.h5", {"bad.h5"}},
                          {"data", "large.h5", {"300"}},
                          {"data", "short.h5", {}},
                          {"context", "0", {"--context"}},
                          {"context", "100000", {"100000"}},
                          {"group", "-1", {"--group is -1"}},
                          {"steps", "-1", {"--steps"}},
                          {"dtype", "half", {"--dtype half"}},
                          {"nonsense", "1", {"--nonsense"}},
                          {"config", "missing.toml", {"missing.toml"}},
                          {"adapter", "adapter", {"adapter"}},
                          {"init", "model/config.json", {"--init"}},
                          {"run", "-", {"--run"}}}) {
        const Words changed =
            with(with(training(), "context", std::string(c.value) == "short.h5" ? "301" : "64"), c.option, c.value);
        const Words plain = std::string(c.value) == "short.h5" ? with(training(), "context", "301") : training();
        shop.refused_as(two(plain, changed), c.parts + Words{"(on rank 1)"});
    }
    // Each command is good by itself, but the two do not match.
    for (const Case& c : {Case{"context", "32", {"--context is 32, but 64 on rank 0"}},
                          {"lr", "0.5", {"--lr is 0.5"}},
                          {"micro-batch", "2", {"--micro-batch is 2"}},
                          {"checkpoint-every", "1", {"--checkpoint-every"}},
                          {"run", "elsewhere", {"--run is \"elsewhere\", but \"run\" on rank 0"}},
                          {"data", "other.h5", {"other.h5", "differs from that on rank 0"}},
                          {"model", "other", {"config.json"}}})
        shop.refused_as(two(training(), with(training(), c.option, c.value)), c.parts + Words{"(on rank 1)"});
    shop.refused_as(two(kEvaluate, with(kEvaluate, "context", "32")), {"--context", "(on rank 1)"});
    shop.refused_as(two(with(training(), "steps", "0"), training()), {"--steps", "(on rank 0)"});
    shop.refused_as(two(kEvaluate, with(kEvaluate, "data", "bad.h5")), {"bad.h5", "(on rank 1)"});
    shop.refused_as(two(kEvaluate, with(kEvaluate, "model", "bad")), {"bad/model.safetensors", "(on rank 1)"});
    shop.refused_as(two(training(), with(training(), "memory", "1KB")), {"1000 B"}, 3);  // the least of all ranks
    std::string weights = good;  // a wrong name, which is noticed only while loading
    weights.replace(weights.find("model.norm.weight"), 17, "model.nose.weight");
    io_testing::spill(shop / "bad/model.safetensors", weights);
    shop.refused_as(two(training(), with(training(), "model", "bad")), {"model.no", "(on rank 1)"});
    shop.refused(with(training(), "context", "0"), {"--context"}, 2);  // on both ranks: one sentence
}

BOOST_AUTO_TEST_SUITE_END()
