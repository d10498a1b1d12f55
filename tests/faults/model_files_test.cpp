// Changes every byte of a model's headers: the safetensors header and config.json. A header with one changed byte
// must be refused by an Error that names the file, or give the same model. The weights in these files have no
// checksums; a run compares them with its manifest (tests/faults/disk.sh).
#include "core/random.h"
#include "io/content_hash.h"
#include "io/json.h"
#include "jobs/train/resume_check.h"
#include "tests/faults/damage_testing.h"
#include "tests/support/model_fixture.h"

using namespace longlora;
using namespace longlora::damage_testing;

namespace {

constexpr std::int64_t kContext = 64;

/// The configuration of a model so small that it can be loaded thousands of times.
ModelConfig small_config() {
    nlohmann::ordered_json json = read_config(SOURCE_FOLDER "/tests/golden/mha").raw;
    for (const auto& [key, value] : {std::pair{"hidden_size", 16},
                                     {"intermediate_size", 24},
                                     {"num_attention_heads", 2},
                                     {"num_key_value_heads", 2},
                                     {"head_dim", 8},
                                     {"num_hidden_layers", 2},
                                     {"vocab_size", 32}})
        json[key] = value;
    return parse_config(json, "the test's config");
}

void write_model(const std::string& folder) {
    const ModelConfig config = small_config();
    write_text_file(folder + "/config.json", config.raw.dump(2));
    std::vector<TensorToWrite> tensors;
    for (const Parameter& p : list_parameters(config, nothing_trainable()).parameters)
        tensors.push_back({p.name, DType::float32, p.shape, [p](std::byte* out) {
                               for (std::int64_t i = 0; i < p.shape.count(); ++i) {
                                   const auto value = static_cast<float>(
                                       random_normal(9, stream_of(p.name), static_cast<std::uint64_t>(i)));
                                   std::memcpy(out + 4 * i, &value, 4);
                               }
                           }});
    write_safetensors(folder + "/model.safetensors", tensors);
}

/// The model in the folder as training sees it: its computation and every weight. Fields of the config that only
/// exports and --init read are left out.
std::string computed_model(const std::string& folder, Device& device) {
    const ModelConfig config = extend_rope(read_config(folder), {}, kContext);
    const SafetensorsFolder files(folder);
    const TrainableSet nothing = nothing_trainable();
    Weights weights(device, config, nothing, {DType::float32, DType::float32, false});
    load_model(weights, files, 1);
    std::string all = to_line(computation_of(config));
    for (const Parameter& p : weights.list().parameters) {
        const std::vector<float> values = weights.get(p);
        all += p.name;
        all.append(reinterpret_cast<const char*>(values.data()), 4 * values.size());
    }
    return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_files)

BOOST_AUTO_TEST_CASE(safetensors_header) {
    const MemoryFolder folder;
    write_model(folder.folder);
    const auto device =
        make_cpu_device({.memory_bytes = std::int64_t{1} << 26, .num_threads = 1, .instruction_set = ""});
    const std::string path = folder / "model.safetensors";
    std::uint64_t header = 0;
    std::memcpy(&header, io_testing::slurp(path).data(), 8);
    Damage damage(
        path, [&](const std::string&) { return computed_model(folder.folder, *device); }, folder.folder);
    for (std::size_t at = 0; at < 8 + header; ++at)
        for (const std::uint64_t draw : {1u, 2u})
            damage.flip(at,
                        static_cast<unsigned char>(draw == 1 ? 1u << random_below(8, draw, 0, at)
                                                             : 1 + random_below(255, draw, 0, at)),
                        "");
    damage.report("bytes of the header");
}

BOOST_AUTO_TEST_CASE(safetensors_cuts) {
    const MemoryFolder folder;
    write_model(folder.folder);
    const auto device =
        make_cpu_device({.memory_bytes = std::int64_t{1} << 26, .num_threads = 1, .instruction_set = ""});
    const std::string path = folder / "model.safetensors";
    Damage damage(
        path, [&](const std::string&) { return computed_model(folder.folder, *device); }, folder.folder);
    for (std::uint64_t i = 0; i < 200; ++i) damage.cut(random_below(std::filesystem::file_size(path), 5, 0, i));
    damage.report("cuts");
}

/// A changed digit still makes a valid config. If it changes the computation, a resume refuses it by the key's name
/// (jobs/train/resume_check.h). So this test judges a config by its shapes, its weights and the values that a resume
/// compares.
BOOST_AUTO_TEST_CASE(config_json) {
    const MemoryFolder folder;
    write_model(folder.folder);
    const auto device =
        make_cpu_device({.memory_bytes = std::int64_t{1} << 26, .num_threads = 1, .instruction_set = ""});
    const Json original = computation_of(extend_rope(read_config(folder.folder), {}, kContext));
    const std::string said = computed_model(folder.folder, *device);
    Damage damage(
        folder / "config.json",
        [&](const std::string&) {
            const std::string all = computed_model(folder.folder, *device);
            const Json now = computation_of(extend_rope(read_config(folder.folder), {}, kContext));
            if (now != original)
                fail(text("a resume compares with the checkpoint: ", folder.folder, " has ", now.dump()));
            return all;
        },
        folder.folder);
    BOOST_TEST(!said.empty());
    for (std::size_t at = 0; at < std::filesystem::file_size(folder / "config.json"); ++at)
        for (const std::uint64_t draw : {1u, 2u})
            damage.flip(at,
                        static_cast<unsigned char>(draw == 1 ? 1u << random_below(8, draw, 0, at)
                                                             : 1 + random_below(255, draw, 0, at)),
                        "");
    damage.report("bytes of config.json");
}

BOOST_AUTO_TEST_SUITE_END()
