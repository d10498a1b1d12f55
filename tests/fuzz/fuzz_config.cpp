// fuzz_config SECONDS: damages the golden configs, by bytes and by values, and reads them. Every input must give a
// model or an Error. A model must also survive being extended, written and read again. The inputs and their order are
// the same in every run. The files of io/ are tested by fuzz_io.cpp.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "core/error.h"
#include "model/config.h"
#include "model/rotary.h"

using namespace longlora;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

struct Dice {
    std::mt19937_64 engine{20240607};
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine() % n); }
    template <class List> const auto& of(const List& list) { return list[below(std::size(list))]; }
};

const char* const kKeys[] = {"model_type",
                             "hidden_size",
                             "intermediate_size",
                             "num_hidden_layers",
                             "num_attention_heads",
                             "num_key_value_heads",
                             "head_dim",
                             "vocab_size",
                             "max_position_embeddings",
                             "original_max_position_embeddings",
                             "rope_theta",
                             "rope_scaling",
                             "rope_parameters",
                             "rope_type",
                             "type",
                             "factor",
                             "low_freq_factor",
                             "high_freq_factor",
                             "beta_fast",
                             "beta_slow",
                             "attention_factor",
                             "mscale",
                             "mscale_all_dim",
                             "truncate",
                             "partial_rotary_factor",
                             "bos_token_id",
                             "eos_token_id",
                             "tie_word_embeddings",
                             "rms_norm_eps",
                             "initializer_range",
                             "hidden_act",
                             "attention_bias",
                             "mlp_bias",
                             "sliding_window",
                             "use_sliding_window",
                             "layer_types",
                             "num_experts",
                             "num_local_experts",
                             "quantization_config",
                             "attention_dropout"};

Json nested(int depth) {
    Json value = 1;
    for (int i = 0; i < depth; ++i) value = Json::array({std::move(value)});
    return value;
}

Json random_value(Dice& dice) {
    static const std::vector<Json> kValues = {nullptr,
                                              true,
                                              false,
                                              0,
                                              1,
                                              2,
                                              3,
                                              4,
                                              64,
                                              127,
                                              4096,
                                              -1,
                                              2147483647,
                                              2147483648,
                                              2147483649,
                                              0x7fffffffffffffffLL,
                                              -0x7fffffffffffffffLL - 1,
                                              0xffffffffffffffffULL,
                                              0.0,
                                              -0.0,
                                              0.5,
                                              1.0,
                                              1.0000001,
                                              2.5,
                                              64.0,
                                              1e9,
                                              1e10,
                                              1e30,
                                              1e308,
                                              -1e308,
                                              1e-308,
                                              5e-324,
                                              std::nan(""),
                                              INFINITY,
                                              "",
                                              "llama",
                                              "mistral",
                                              "silu",
                                              "linear",
                                              "dynamic",
                                              "yarn",
                                              "llama3",
                                              "default",
                                              "longrope",
                                              "4096",
                                              "\xff\xfe",
                                              std::string(300, 'x'),
                                              std::string("a\0b\n", 4),
                                              Json::array(),
                                              Json::object(),
                                              Json::array({1, 2}),
                                              Json::array({"x"}),
                                              Json::object({{"factor", 2.0}}),
                                              Json::object({{"rope_type", "yarn"}, {"factor", 8.0}}),
                                              nested(31),
                                              nested(300)};
    return dice.of(kValues);
}

/// The objects of a config: the config itself and the objects directly inside it.
std::vector<Json*> objects(Json& json) {
    std::vector<Json*> found{&json};
    for (auto& value : json)
        if (value.is_object()) found.push_back(&value);
    return found;
}

void spoil_values(Json& json, Dice& dice) {
    for (std::size_t changes = 1 + dice.below(4); changes > 0; --changes) {
        const auto places = objects(json);
        Json& object = *places[dice.below(places.size())];
        const std::size_t what = dice.below(10);
        if (what < 3 && !object.empty()) {
            auto at = object.begin();
            std::advance(at, static_cast<std::ptrdiff_t>(dice.below(object.size())));
            if (what == 0) object.erase(at);
            else at.value() = random_value(dice);
        } else {
            object[dice.of(kKeys)] = random_value(dice);
        }
    }
}

void spoil_bytes(std::string& bytes, Dice& dice) {
    for (std::size_t changes = 1 + dice.below(6); changes > 0 && !bytes.empty(); --changes) {
        const std::size_t at = dice.below(bytes.size());
        switch (dice.below(5)) {
            case 0:
                bytes[at] = static_cast<char>(dice.below(256));
                break;
            case 1:
                bytes.erase(at, 1 + dice.below(20));
                break;
            case 2:
                bytes.insert(at, 1, "0123456789{}[]\",:-+eE.\\u\0"[dice.below(25)]);
                break;
            case 3:
                bytes.insert(at, bytes.substr(dice.below(bytes.size()), dice.below(40)));
                break;
            case 4:
                bytes[at] = static_cast<char>(bytes[at] ^ (1 << dice.below(8)));
                break;
        }
    }
    if (dice.below(50) == 0) bytes.resize(dice.below(bytes.size() + 1));
}

void check(bool holds, const char* what) {
    if (!holds) throw std::logic_error(what);
}

/// Checks what must hold for every config that was read.
void use(const ModelConfig& config, Dice& dice) {
    static const std::int64_t kContexts[] = {1, 100, 128, 129, 8192, 100000, std::int64_t{1} << 31};
    static const char* const kKinds[] = {"auto", "auto", "keep", "linear", "ntk", "yarn", "llama3", "what"};
    static const double kFactors[] = {0, 0, 0, 1, 2, 3.5, 1e9, 0x1p31, 1e300, -1, std::nan("")};
    check(config.covered_positions() >= config.max_positions && config.original_positions() > 0, "lengths");
    RopeRequest request{.kind = dice.of(kKinds), .factor = dice.of(kFactors)};
    if (dice.below(4) == 0)
        request.theta = dice.of(kFactors), request.beta_fast = dice.of(kFactors),
        request.high_freq_factor = dice.of(kFactors);
    if (dice.below(4) == 0) request.original = dice.below(2) ? config.max_positions : dice.of(kContexts);
    const std::int64_t context = dice.of(kContexts);
    const ModelConfig extended = dice.below(4) ? extend_rope(config, request, context) : override_rope(config, request);
    ModelConfig again;
    try {
        again = parse_config(extended.raw, "written");
    } catch (const Error& error) {
        throw std::logic_error(
            text("the config that was written is refused: ", error.what(), "\n", extended.raw.dump()));
    }
    check(again.rope == extended.rope && again.max_positions == extended.max_positions,
          "the config that was written reads differently");
    if (config.head_dim > 512) return;
    for (const double frequency : rotary_frequencies(extended.rope, extended.head_dim, extended.max_positions,
                                                     extended.original_positions(), context))
        check(std::isfinite(frequency) && frequency >= 0, "a frequency is not finite");
    check(std::isfinite(rotary_attention_factor(extended.rope)), "the attention factor is not finite");
}

/// Reads a config, mostly without a file, since writing one takes a thousand times as long as reading.
ModelConfig read_bytes(const std::string& bytes, const std::string& file, bool through_file) {
    if (through_file) {
        std::ofstream(file, std::ios::binary) << bytes;
        return read_config(file);
    }
    const Json json = Json::parse(bytes, nullptr, false);
    require(!json.is_discarded(), "not valid JSON");
    return parse_config(json, "config.json");
}

std::string read_all(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(fs::path(SOURCE_FOLDER) / "tests/golden/configs"))
        paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    std::vector<std::string> golden;
    for (const fs::path& path : paths) golden.push_back(read_all(path));
    std::string name = (fs::temp_directory_path() / "fuzz-config-XXXXXX").string();
    const int handle = mkstemp(name.data());
    if (golden.empty() || handle < 0) return std::cerr << "no golden configs, or no temporary file\n", 1;

    Dice dice;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    std::uint64_t runs = 0, models = 0, refusals = 0;
    int code = 0;
    std::string input;
    try {
        for (; std::chrono::steady_clock::now() < end; ++runs) {
            input = dice.of(golden);
            try {
                ModelConfig config;
                if (dice.below(2)) {
                    Json json = Json::parse(input);
                    spoil_values(json, dice);
                    input = json.dump(-1, ' ', true, Json::error_handler_t::replace);
                    config = parse_config(json, "config.json");
                } else {
                    spoil_bytes(input, dice);
                    config = read_bytes(input, name, runs % 256 == 0);
                }
                ++models;
                use(config, dice);
            } catch (const Error& error) {
                ++refusals;
                check(std::string(error.what()).size() < 400, error.what());
            }
        }
    } catch (const std::exception& failure) {
        std::cerr << "run " << runs << ": " << failure.what() << "\ninput:\n" << input << "\n";
        code = 1;
    }
    fs::remove(name);
    std::cout << runs << " inputs, " << models << " read as models, " << refusals << " refused\n";
    return code;
}
