// The output of `longlora inspect` for each kind of file and folder. inspect recognises files by their content, and
// --verify finds one wrong bit.
#include "jobs/inspect/inspect.h"
#include "io/token_file.h"
#include "jobs/command_line/describe.h"
#include "tests/unit/jobs/export_testing.h"

using namespace longlora;
using namespace longlora::io_testing;
using namespace longlora::export_testing;

namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(inspecting)

static std::string seen(const std::string& path, bool verify = false) { return inspect_text({path, {verify}}); }

/// Checks that the output of inspect contains every part and has at most 50 lines.
static void says(const std::string& screen, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) BOOST_TEST(has(screen, part), "no '" << part << "' in\n" << screen);
    std::size_t lines = 0;
    for (const char c : screen) lines += c == '\n';
    BOOST_TEST(lines <= 50u);
}

BOOST_AUTO_TEST_CASE(numbers) {
    BOOST_TEST(grouped(0) == "0");
    BOOST_TEST(grouped(999) == "999");
    BOOST_TEST(grouped(1000) == "1,000");
    BOOST_TEST(grouped(1234567) == "1,234,567");
    BOOST_TEST(grouped(-123456) == "-123,456");
}

BOOST_AUTO_TEST_CASE(token_files) {
    Scratch scratch;
    const std::string path = scratch / "named.anything";
    write_token_file(path, {"sentencepiece", "abcdef", 300, 1, -1, R"([{"name": "a.txt", "bytes": 2048}])"},
                     {std::vector<std::int32_t>(5000, 7), std::vector<std::int32_t>(1000, 299), {}},
                     {"long book", "short book", "empty"});
    says(seen(path), {"token file " + path, "6,000 (uint16, 11.7 KiB)", "3, on average 2,000 tokens",
                      "1 of at least 4,096 tokens, 83 % of all", "5,000 tokens  long book",
                      "vocabulary    300, bos 1, eos none", "sentencepiece, sha256 abcdef", "1 file, 2.0 KiB"});
    says(seen(path, true), {"verified"});
    std::string bytes = slurp(path);
    const std::size_t at = bytes.find(std::string("\7\0\7\0\7\0\7\0", 8));
    BOOST_REQUIRE(at != std::string::npos);
    bytes[at + 100] ^= 1;
    spill(path, bytes);
    says(seen(path), {"6,000"});
    REFUSED("tokens", seen(path, true));
    write_token_file(scratch / "none.h5", {"none", "", 10, -1, -1, "[]"}, {});
    says(seen(scratch / "none.h5", true), {"the inputs were token ids"});
}

BOOST_AUTO_TEST_CASE(checkpoints_and_runs) {
    Scratch scratch;
    fs::create_directories(scratch / "run/checkpoints");
    const std::string path = scratch / "run/checkpoints/step-00000010.h5";
    write_golden_checkpoint(path, golden("gqa-odd-tied"));
    const std::vector<std::string> parts = {"checkpoint " + path,
                                            "10, 1,920 tokens seen",
                                            "9 query / 3 key-value heads of 8",
                                            "tied embeddings",
                                            golden("gqa-odd-tied"),
                                            "longlora: LoRA on q,k,v,o with rank 4 and alpha 8, embedding, norms",
                                            "18,432 in 1 tensor: embedding",
                                            "504 in 7 tensors: norms"};
    says(seen(path), parts);
    says(seen(scratch / "run", true), parts);
    says(seen(scratch / "run"), {"1 checkpoint\n"});
    std::string bytes = slurp(path);
    const std::vector<float> norm = golden_values(golden("gqa-odd-tied")).at("model.norm.weight");
    const std::size_t at = bytes.find(std::string(reinterpret_cast<const char*>(norm.data()), 4 * norm.size()));
    BOOST_REQUIRE(at != std::string::npos);
    bytes[at + 17] ^= 4;
    spill(path, bytes);
    REFUSED("model.norm.weight", seen(path, true));
    auto values = golden_values(golden("gqa-odd-tied"));
    values["model.norm.weight"][5] = std::numeric_limits<float>::quiet_NaN();
    write_checkpoint(path, read_config(golden("gqa-odd-tied")), golden_trainables(golden("gqa-odd-tied")), values, "");
    says(seen(path), {"none, trained from scratch"});
    REFUSED("element 5 of master/model.norm.weight is not finite", seen(path, true));
}

BOOST_AUTO_TEST_CASE(models) {
    says(seen(golden("mha"), true),
         {"model " + golden("mha"),
          "llama, 3 layers, 64 wide (160 inside), 4 query / 4 key-value heads of 16, vocabulary 256",
          "128 tokens, theta 10000", "other files   no tokenizer, generation_config.json",
          "3 x float32 (160, 64)  model.layers.*.mlp.up_proj.weight", "every value is finite"});
    says(seen(golden("mha") + "/config.json"), {"llama, 3 layers", "174,528", "parameters"});
    says(seen(golden("mha") + "/model.safetensors"), {"tensors ", "in 30 tensors"});
    Scratch scratch;
    fs::copy(golden("mha/model.safetensors"), scratch / "model.safetensors");
    auto config = nlohmann::json::parse(slurp(golden("mha/config.json")));
    config["attention_bias"] = true;
    spill(scratch / "config.json", config.dump());
    says(seen(scratch.folder), {"unusable", "attention_bias", "3 x float32"});
    config["attention_bias"] = false;
    config["num_hidden_layers"] = 4;
    spill(scratch / "config.json", config.dump());
    says(seen(scratch.folder),
         {"9 tensors of the configuration are missing", "such as model.layers.3.input_layernorm.weight"});
    std::string bytes = slurp(scratch / "model.safetensors");
    bytes.replace(bytes.size() - 4, 4, "\xff\xff\xff\xff");
    spill(scratch / "model.safetensors", bytes);
    says(seen(scratch.folder), {"3 x float32"});
    REFUSED("is not finite", seen(scratch.folder, true));
}

BOOST_AUTO_TEST_CASE(adapters) {
    Scratch scratch;
    const std::string folder = scratch / "adapter";
    fs::copy(golden("mha/trained-adapter"), folder);
    says(seen(folder), {"adapter " + folder, "base model", "./mha", "not found"});
    fs::copy(golden("mha/config.json"), folder + "/config.json");
    says(seen(folder, true), {"longlora: LoRA on q,k,v,o with rank 4 and alpha 8, embedding, norms", "128 tokens",
                              "3 x float32 (4, 64)  base_model.model.model.layers.*.self_attn.q_proj.lora_A.weight",
                              "every value is finite"});
    fs::copy(golden("gqa-odd-tied/config.json"), folder + "/config.json", fs::copy_options::overwrite_existing);
    says(seen(folder), {"unusable", "ensure_weight_tying"});
}

BOOST_AUTO_TEST_CASE(unknown_files_are_refused) {
    Scratch scratch;
    REFUSED("does not exist", seen(scratch / "nowhere"));
    REFUSED("cannot be inspected", seen(scratch.folder));
    spill(scratch / "text.txt", "hello");
    REFUSED("cannot be inspected", seen(scratch / "text.txt"));
    spill(scratch / "empty", "");
    REFUSED("cannot be inspected", seen(scratch / "empty"));
    spill(scratch / "broken.safetensors", "hello");
    REFUSED("broken.safetensors", seen(scratch / "broken.safetensors"));
    spill(scratch / "broken.h5", std::string("\x89HDF\r\n\x1a\n", 8) + "rest");
    REFUSED("broken.h5", seen(scratch / "broken.h5"));
    spill(scratch / "broken.json", "{");
    REFUSED("broken.json", seen(scratch / "broken.json"));
}

BOOST_AUTO_TEST_SUITE_END()
