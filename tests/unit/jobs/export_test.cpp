// Tests exports of checkpoints that the test writes: merged tensors against double loops and against peft's merge,
// adapters against those that peft wrote, the bytes of PyTorch's container that torch.load depends on, and no files
// left behind after an error.
#include <cmath>
#include <cstring>
#include <set>

#include "jobs/export/export.h"
#include "jobs/export/output_folder.h"
#include "jobs/export/source.h"
#include "model/adapter.h"
#include "tests/unit/jobs/export_testing.h"

using namespace longlora;
using namespace longlora::io_testing;
using namespace longlora::export_testing;

namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(exporting)

/// A run folder with one checkpoint, made from a golden case.
struct Run : Scratch {
    std::string folder_of_case, checkpoint, out;
    explicit Run(const std::string& name) : folder_of_case(golden(name)), out(*this / "out") {
        fs::create_directories(*this / "run/checkpoints");
        checkpoint = *this / ("run/checkpoints/" + checkpoint_name(10));
        write_golden_checkpoint(checkpoint, folder_of_case);
    }
    std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const auto& entry : fs::directory_iterator(out)) names.push_back(entry.path().filename().string());
        std::sort(names.begin(), names.end());
        return names;
    }
};

/// W + (alpha/r) B A in double precision by three plain loops.
static std::vector<double> merged_by_loops(const Run& run, const std::string& projection,
                                           const std::map<std::string, std::vector<float>>& values,
                                           const TrainableSet& set) {
    const std::vector<float> w = floats_of(run.folder_of_case + "/model.safetensors", projection + ".weight");
    const std::vector<float>&a = values.at(projection + ".lora_A.weight"),
          &b = values.at(projection + ".lora_B.weight");
    const auto rank = static_cast<std::size_t>(set.lora_rank), in = a.size() / rank, out = b.size() / rank;
    BOOST_REQUIRE_EQUAL(w.size(), in * out);
    std::vector<double> sums(w.begin(), w.end());
    for (std::size_t o = 0; o < out; ++o)
        for (std::size_t i = 0; i < in; ++i)
            for (std::size_t k = 0; k < rank; ++k)
                sums[o * in + i] += set.lora_alpha / static_cast<double>(set.lora_rank) *
                                    static_cast<double>(b[o * rank + k]) * static_cast<double>(a[k * in + i]);
    return sums;
}

BOOST_AUTO_TEST_CASE(merged_model) {
    for (const std::string name : {"mha", "gqa-odd-tied"}) {
        Run run(name);
        BOOST_TEST(run_export({.from = run / "run", .to = run.out, .format = "hf", .dtype = "float32"}) == 0);
        const SafetensorsFolder merged(run.out), base(run.folder_of_case);
        const SafetensorsFile arrays(run.folder_of_case + "/golden.safetensors");
        BOOST_TEST(merged.names() == base.names());
        const auto values = golden_values(run.folder_of_case);
        const TrainableSet set = golden_trainables(run.folder_of_case);
        for (const std::string& tensor : merged.names()) {
            const std::vector<float> ours = floats_of(merged.get(tensor));
            const std::string stem = tensor.substr(0, tensor.size() - 7);
            if (values.count(tensor))
                BOOST_TEST(ours == values.at(tensor), tensor);  // embedding and norms: the bits of the masters
            else if (!values.count(stem + ".lora_A.weight"))
                BOOST_TEST(ours == floats_of(base.get(tensor)), tensor);  // frozen: the bits of the base model
            else {
                const std::vector<double> want = merged_by_loops(run, stem, values, set);
                double worst = 0;
                for (std::size_t i = 0; i < want.size(); ++i)
                    worst = std::max(
                        worst, std::abs(static_cast<double>(ours[i]) - want[i]) / std::max(1e-3, std::abs(want[i])));
                BOOST_TEST(worst < 1.2e-7, tensor << ": " << worst);  // one rounding to float32
            }
            if (const auto theirs = arrays.find("merged." + tensor)) {  // peft merged in float64
                const std::vector<float> want = floats_of(*theirs);
                double worst = 0;
                for (std::size_t i = 0; i < want.size(); ++i)
                    worst = std::max(worst, std::abs(static_cast<double>(ours[i]) - static_cast<double>(want[i])));
                BOOST_TEST(worst < 1e-6, tensor << ": " << worst);
            }
        }
    }
}

BOOST_AUTO_TEST_CASE(bfloat16_is_rounded_once) {
    Run run("mha");
    run_export({.from = run.checkpoint, .to = run.out, .format = "hf", .dtype = "bfloat16"});
    const SafetensorsFolder merged(run.out);
    const std::string projection = "model.layers.1.self_attn.v_proj";
    const std::vector<double> want =
        merged_by_loops(run, projection, golden_values(run.folder_of_case), golden_trainables(run.folder_of_case));
    const HostTensor t = merged.get(projection + ".weight");
    BOOST_REQUIRE((t.dtype == DType::bfloat16));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < want.size(); ++i)
        wrong += std::abs(static_cast<double>(static_cast<float>(reinterpret_cast<const bf16*>(t.bytes)[i])) -
                          want[i]) > std::abs(want[i]) * 0x1p-8 * 1.001;
    BOOST_TEST(wrong == 0u);
    const auto config = nlohmann::json::parse(slurp(run.out + "/config.json"));
    BOOST_TEST(config["dtype"] == "bfloat16");
    BOOST_TEST(config["torch_dtype"] == "bfloat16");
}

BOOST_AUTO_TEST_CASE(configuration_and_tokenizer_files) {
    Run run("mha");
    const std::string base = run / "base";
    fs::create_directories(base);
    for (const char* file : {"model.safetensors", "config.json"})
        fs::copy(run.folder_of_case + "/" + file, base + "/" + file);
    spill(base + "/tokenizer.model", std::string("\0\1binary", 8));
    spill(base + "/tokenizer_config.json", R"({"z_first": 1, "model_max_length": 128, "a": "b"})");
    spill(base + "/generation_config.json", "{\"bos_token_id\": 1}");
    ModelConfig config = read_config(base);
    config = extend_rope(config, {}, 1024);
    write_checkpoint(run.checkpoint, config, golden_trainables(run.folder_of_case), golden_values(run.folder_of_case),
                     base);
    run_export({.from = run / "run", .to = run.out + "/", .format = "hf", .dtype = "float32"});
    BOOST_TEST(run.files() == (std::vector<std::string>{"config.json", "generation_config.json", "model.safetensors",
                                                        "tokenizer.model", "tokenizer_config.json"}));
    BOOST_TEST(slurp(run.out + "/tokenizer.model") == std::string("\0\1binary", 8));
    BOOST_TEST(slurp(run.out + "/generation_config.json") == "{\"bos_token_id\": 1}");
    BOOST_TEST(slurp(run.out + "/tokenizer_config.json") ==
               "{\n  \"z_first\": 1,\n  \"model_max_length\": 1024,\n  \"a\": \"b\"\n}\n");
    const ModelConfig written = read_config(run.out);
    BOOST_TEST((written.rope == config.rope));
    BOOST_TEST(written.covered_positions() == 1024);
    const auto json = nlohmann::json::parse(slurp(run.out + "/config.json"));
    BOOST_TEST(json["rope_scaling"]["factor"] == 8.0);
    BOOST_TEST(json["rope_parameters"]["factor"] == 8.0);
    BOOST_TEST(json["rope_parameters"]["rope_type"] == "linear");
    BOOST_TEST(json["max_position_embeddings"] == 128);  // others multiply it by the factor
    BOOST_TEST(json["original_max_position_embeddings"] == 128);
    BOOST_TEST(json["architectures"] == nlohmann::json::array({"LlamaForCausalLM"}));
}

/// Lengths of the old context do not travel into the export, wherever the base model has them.
BOOST_AUTO_TEST_CASE(old_lengths) {
    Run run("mha");  // 128 positions
    const std::string base = run / "base";
    fs::create_directories(base);
    fs::copy(run.folder_of_case + "/model.safetensors", base + "/model.safetensors");
    auto json = nlohmann::ordered_json::parse(slurp(run.folder_of_case + "/config.json"));
    const char* const keys[] = {"max_length", "max_sequence_length", "max_seq_len", "seq_length",
                                "n_ctx",      "model_max_length"};
    for (const char* key : keys) json[key] = 128;
    spill(base + "/config.json", json.dump());
    const ModelConfig old = read_config(base), extended = extend_rope(old, {}, 1024);
    RopeRequest theta;
    theta.kind = "keep", theta.theta = 1e6;
    const ModelConfig larger_base = extend_rope(old, theta, 1024);
    const std::pair<int, int> lengths[] = {{128, 1024}, {500, 1024}, {1024, 1024}, {4096, 4096}, {20, 20}};
    for (const ModelConfig* config : {&extended, &larger_base})
        for (const auto& [before, after] : lengths) {
            spill(base + "/generation_config.json", text("{\"max_length\": ", before, ", \"bos_token_id\": 1}"));
            write_checkpoint(run.checkpoint, *config, golden_trainables(run.folder_of_case),
                             golden_values(run.folder_of_case), base);
            for (const char* format : {"hf", "peft", "longlora"}) {
                fs::remove_all(run.out);
                run_export({.from = run / "run", .to = run.out, .format = format});
                const auto written = nlohmann::json::parse(slurp(run.out + "/config.json"));
                for (const char* key : keys) BOOST_TEST(!written.contains(key), key);
                if (std::string(format) != "hf") continue;
                const auto generation = nlohmann::json::parse(slurp(run.out + "/generation_config.json"));
                BOOST_TEST(generation["max_length"] == after);
                BOOST_TEST(generation["bos_token_id"] == 1);
            }
        }
}

/// Every tensor has the bits that peft wrote. Our own reader reads the adapter back.
BOOST_AUTO_TEST_CASE(peft_adapter) {
    for (const std::string name : {"mha", "gqa-odd-tied"}) {
        Run run(name);
        run_export({.from = run / "run", .to = run.out, .format = "peft"});
        BOOST_TEST(run.files() ==
                   (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors", "config.json"}));
        const SafetensorsFile ours(run.out + "/adapter_model.safetensors"),
            theirs(run.folder_of_case + "/trained-adapter/adapter_model.safetensors");
        BOOST_TEST(ours.names() == theirs.names());
        for (const std::string& tensor : theirs.names())
            BOOST_TEST(floats_of(*ours.find(tensor)) == floats_of(*theirs.find(tensor)), tensor);
        const auto a = nlohmann::json::parse(slurp(run.out + "/adapter_config.json")),
                   b = nlohmann::json::parse(slurp(run.folder_of_case + "/trained-adapter/adapter_config.json"));
        for (const auto& [key, value] : a.items()) {
            if (key == "base_model_name_or_path") continue;
            auto x = value, y = b.at(key);
            if (key == "target_modules")
                std::sort(x.begin(), x.end()), std::sort(y.begin(), y.end());  // peft's order is arbitrary
            BOOST_TEST(x == y, key << ": " << x << " " << y);
        }
        // PEFT 0.6 knows these keys and no other; a tied head needs one more, which PEFT has since 0.18.
        std::set<std::string> known = {"auto_mapping",
                                       "base_model_name_or_path",
                                       "bias",
                                       "fan_in_fan_out",
                                       "inference_mode",
                                       "init_lora_weights",
                                       "layers_pattern",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "layers_to_transform",
                                       "modules_to_save",
                                       "peft_type",
                                       "r",
                                       "revision",
                                       "target_modules",
                                       "task_type",
                                       "alpha_pattern",
                                       "rank_pattern"};
        if (name == "gqa-odd-tied") known.insert("ensure_weight_tying");
        for (const auto& [key, value] : a.items()) BOOST_TEST(known.count(key) == 1u, key);
        BOOST_TEST(a.contains("ensure_weight_tying") == (name == "gqa-odd-tied"));
        const Adapter back = open_adapter(run.out, read_config(run.folder_of_case));
        BOOST_TEST(back.values.size() == golden_values(run.folder_of_case).size());
        BOOST_TEST(back.config.covered_positions() > 0);
    }
}

BOOST_AUTO_TEST_CASE(plain_lora_has_no_modules_to_save) {
    Run run("mha");
    TrainableSet set = golden_trainables(run.folder_of_case);
    set.method = Method::lora;
    write_checkpoint(run.checkpoint, read_config(run.folder_of_case), set, golden_values(run.folder_of_case),
                     run.folder_of_case);
    run_export({.from = run / "run", .to = run.out, .format = "peft"});
    const auto config = nlohmann::json::parse(slurp(run.out + "/adapter_config.json"));
    BOOST_TEST(config["modules_to_save"].is_null());
    BOOST_TEST((open_adapter(run.out, read_config(run.folder_of_case)).trainables.method == Method::lora));
    run_export({.from = run / "run", .to = run / "split", .format = "longlora"});
    BOOST_TEST(!fs::exists(run / "split/trainable_params.bin"));
}

/// The container has zip entries, uncompressed, whose names and bytes are where torch.load looks for them.
BOOST_AUTO_TEST_CASE(longlora_files) {
    Run run("gqa-odd-tied");
    run_export({.from = run / "run", .to = run.out, .format = "longlora"});
    BOOST_TEST(run.files() == (std::vector<std::string>{"adapter_config.json", "adapter_model.bin", "config.json",
                                                        "trainable_params.bin"}));
    const std::string lora = slurp(run.out + "/adapter_model.bin"), others = slurp(run.out + "/trainable_params.bin");
    for (const std::string& bytes : {lora, others}) {
        BOOST_TEST(bytes.substr(0, 4) == "PK\3\4");
        BOOST_TEST(bytes.substr(bytes.size() - 22, 4) == "PK\5\6");
        for (const char* part :
             {"archive/data.pkl", "archive/version", "archive/data/0", "_rebuild_tensor_v2", "FloatStorage"})
            BOOST_TEST(has(bytes, part), part);
    }
    BOOST_TEST(has(lora, "base_model.model.model.layers.2.self_attn.o_proj.lora_B.weight"));
    BOOST_TEST(!has(lora, "norm.weight"));
    BOOST_TEST(has(others, "model.embed_tokens.weight"));
    BOOST_TEST(!has(others, "base_model."));
    BOOST_TEST(!has(others, "lm_head"));
    const std::vector<float> embedding = golden_values(run.folder_of_case).at("model.embed_tokens.weight");
    const std::size_t at =
        others.find(std::string(reinterpret_cast<const char*>(embedding.data()), 4 * embedding.size()));
    BOOST_REQUIRE(at != std::string::npos);
    BOOST_TEST(at % 64 == 0u);
}

BOOST_AUTO_TEST_CASE(full_fine_tuning_and_from_scratch) {
    Run run("mha");
    const ModelConfig config = read_config(run.folder_of_case);
    TrainableSet set;
    set.method = Method::full;
    std::map<std::string, std::vector<float>> values;
    float next = 0;
    for (const Parameter& p : list_parameters(config, set).parameters) {
        values[p.name].resize(static_cast<std::size_t>(p.shape.count()));
        for (float& x : values[p.name]) x = std::sin(next += 1.0f);
    }
    for (const bool scratch : {false, true}) {
        write_checkpoint(run.checkpoint, config, set, values, scratch ? "" : run.folder_of_case);
        for (const char* format : {"peft", "longlora"}) {
            REFUSED("full fine-tuning, which no adapter can hold",
                    run_export({.from = run / "run", .to = run / "a", .format = format}));
            BOOST_TEST(!fs::exists(run / "a"));
        }
        const std::string out = run / (scratch ? "scratch" : "full");
        run_export({.from = run / "run", .to = out, .format = "hf"});
        const SafetensorsFolder merged(out);
        BOOST_TEST(merged.names().size() == values.size());
        for (const auto& [tensor, value] : values) BOOST_TEST(floats_of(merged.get(tensor)) == value, tensor);
    }
}

BOOST_AUTO_TEST_CASE(a_moved_base_model) {
    Run run("mha");
    const std::string moved = run / "moved", other = run / "other";
    fs::create_directories(moved);
    for (const char* file : {"model.safetensors", "config.json"})
        fs::copy(run.folder_of_case + "/" + file, moved + "/" + file);
    fs::copy(moved, other);
    std::string weights = slurp(other + "/model.safetensors");
    weights.back() ^= 1;
    spill(other + "/model.safetensors", weights);
    write_checkpoint(run.checkpoint, read_config(moved), golden_trainables(run.folder_of_case),
                     golden_values(run.folder_of_case), moved);
    fs::rename(moved, run / "here");
    REFUSED("say where it is with --model DIR", run_export({.from = run / "run", .to = run.out}));
    REFUSED("differ from the weights that", run_export({.from = run / "run", .to = run.out, .model = other}));
    BOOST_TEST(!fs::exists(run.out));
    BOOST_TEST(!fs::exists(run.out + ".partial"));
    BOOST_TEST(run_export({.from = run / "run", .to = run.out, .model = run / "here"}) == 0);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_behind) {
    Run run("mha");
    REFUSED("--format gguf", run_export({.from = run / "run", .to = run.out, .format = "gguf"}));
    REFUSED("--dtype float8", run_export({.from = run / "run", .to = run.out, .dtype = "float8"}));
    REFUSED("there is no checkpoint or run folder", run_export({.from = run / "nowhere", .to = run.out}));
    REFUSED("exists already", run_export({.from = run / "run", .to = run / "run"}));
    // A damaged block of the checkpoint is noticed while writing; the output folder and its new parents are removed.
    std::string bytes = slurp(run.checkpoint);
    const std::vector<float> embedding = golden_values(run.folder_of_case).at("model.embed_tokens.weight");
    const std::size_t at = bytes.find(std::string(reinterpret_cast<const char*>(embedding.data()), 64));
    BOOST_REQUIRE(at != std::string::npos);
    bytes[at + 3] ^= 1;
    spill(run.checkpoint, bytes);
    REFUSED("model.embed_tokens.weight", run_export({.from = run / "run", .to = run / "new/parents/out"}));
    BOOST_TEST(!fs::exists(run / "new"));
    spill(run.checkpoint, "garbage");
    REFUSED(run.checkpoint, run_export({.from = run / "run", .to = run.out}));
    BOOST_TEST(!fs::exists(run.out + ".partial"));
}

BOOST_AUTO_TEST_CASE(output_folders) {
    Scratch scratch;
    const std::string killed = scratch / "a.0123456789abcdef.partial", foreign = scratch / "a.partial";
    for (const std::string& folder : {killed, foreign}) fs::create_directories(folder + "/old");
    {
        OutputFolder out(scratch / "a/");
        BOOST_TEST(fs::exists(scratch / "a.lock"));
        BOOST_TEST(!fs::exists(killed));
        BOOST_TEST(fs::exists(foreign + "/old"));
        spill(out.partial() + "/x", "1");
        REFUSED("is in use by process", OutputFolder(scratch / "a"));
        out.commit();
    }
    BOOST_TEST(slurp(scratch / "a/x") == "1");
    BOOST_TEST(std::distance(fs::directory_iterator(scratch.folder), fs::directory_iterator()) == 2);
    { OutputFolder out(scratch / "b/c/d"); }
    BOOST_TEST(!fs::exists(scratch / "b"));
    {
        OutputFolder out(scratch / "b/c/d");
        spill(scratch / "b/another", "");  // what another job writes into a new parent folder stays
    }
    BOOST_TEST(fs::exists(scratch / "b/another"));
    BOOST_TEST(!fs::exists(scratch / "b/c"));
    REFUSED("exists already", OutputFolder(scratch / "a"));
    spill(scratch / "file", "");
    REFUSED("cannot create the folder", OutputFolder(scratch / "file/out"));
    BOOST_TEST(slurp(scratch / "file").empty());
    BOOST_TEST(fs::exists(scratch / "file"));
}

BOOST_AUTO_TEST_SUITE_END()
