// Adapters that peft wrote are read with all their values; an adapter that does not fit is refused with a message
// that names what does not fit.
#include <cstring>

#include "io/torch_file.h"
#include "model/adapter.h"
#include "model/vocabulary_growth.h"
#include "tests/unit/io/io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(adapter)

static std::string golden(const std::string& name) { return std::string(SOURCE_FOLDER) + "/tests/golden/" + name; }

/// A copy of an adapter that a test may damage.
struct Copy : Scratch {
    explicit Copy(const std::string& from) { fs::copy(golden(from), folder, fs::copy_options::recursive); }
    void change(const std::string& key, const nlohmann::json& value) {
        auto config = nlohmann::json::parse(slurp(*this / "adapter_config.json"));
        config[key] = value;
        spill(*this / "adapter_config.json", config.dump());
    }
    /// A tensor of the adapter.
    struct Entry {
        DType dtype;
        Shape shape;
        std::string bytes;
    };
    /// Replaces the tensors by what edit(entries) leaves of them.
    template <class Edit> void tensors(Edit edit) {
        const std::string path = *this / "adapter_model.safetensors";
        std::map<std::string, Entry> entries;
        {
            const SafetensorsFile file(path);
            for (const std::string& name : file.names()) {
                const HostTensor t = *file.find(name);
                entries[name] = {
                    t.dtype, t.shape,
                    std::string(reinterpret_cast<const char*>(t.bytes), static_cast<std::size_t>(t.size_bytes()))};
            }
        }
        edit(entries);
        std::vector<TensorToWrite> out;
        for (const auto& [name, e] : entries) {
            const std::string& bytes = e.bytes;
            out.push_back(
                {name, e.dtype, e.shape, [&bytes](std::byte* to) { std::memcpy(to, bytes.data(), bytes.size()); }});
        }
        write_safetensors(path, out);
    }
};

const std::string kFirstA = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

BOOST_AUTO_TEST_CASE(lora_only) {
    const Adapter a = open_adapter(golden("mha/adapter"), read_config(golden("mha")));
    BOOST_TEST((a.trainables.method == Method::lora));
    BOOST_TEST(a.trainables.lora_rank == 4);
    BOOST_TEST(a.trainables.lora_alpha == 8.0);
    BOOST_TEST(a.trainables.lora_targets.size() == 4u);
    BOOST_TEST(
        (a.trainables.lora_targets.front() == Projection::q && a.trainables.lora_targets.back() == Projection::o));
    BOOST_TEST(!a.trainables.embedding);
    BOOST_TEST(!a.trainables.norm);
    BOOST_TEST(a.values.size() == 3u * 4 * 2);
    BOOST_TEST(a.config.raw == read_config(golden("mha")).raw);
}

/// LoRA, embedding and norms are read under our names, with the values that golden.safetensors has for them.
BOOST_AUTO_TEST_CASE(trained_values) {
    for (const std::string name : {"mha", "gqa-odd-tied"}) {
        const Adapter a = open_adapter(golden(name + "/trained-adapter"), read_config(golden(name)));
        const SafetensorsFile arrays(golden(name + "/golden.safetensors"));
        BOOST_TEST((a.trainables.method == Method::longlora));
        BOOST_TEST(a.trainables.embedding);
        BOOST_TEST(a.trainables.norm);
        BOOST_TEST(!a.trainables.lm_head);
        std::size_t expected = 0;
        for (const std::string& array : arrays.names()) {
            if (!array.starts_with("trained.")) continue;
            ++expected;
            const HostTensor want = *arrays.find(array);
            const auto found = a.values.find(array.substr(8));
            BOOST_REQUIRE_MESSAGE(found != a.values.end(), array);
            BOOST_TEST((found->second.dtype == want.dtype && found->second.shape == want.shape));
            BOOST_TEST(std::memcmp(found->second.bytes, want.bytes, static_cast<std::size_t>(want.size_bytes())) == 0,
                       array);
        }
        BOOST_TEST(a.values.size() == expected);
    }
}

BOOST_AUTO_TEST_CASE(the_extended_configuration_beside_an_adapter) {
    Copy copy("mha/adapter");
    fs::copy(golden("mha/config.json"), copy / "config.json");
    const ModelConfig base = read_config(golden("mha"));
    BOOST_TEST(open_adapter(copy.folder, base).config.max_positions == base.max_positions);
    fs::copy(golden("gqa-odd-tied/config.json"), copy / "config.json", fs::copy_options::overwrite_existing);
    REFUSED("hidden_size is 72, the base model has 64", open_adapter(copy.folder, base));
}

BOOST_AUTO_TEST_CASE(unsupported_options_are_refused_by_key) {
    const ModelConfig base = read_config(golden("mha"));
    using J = nlohmann::json;
    const std::vector<std::pair<std::string, J>> wrong = {{"peft_type", "IA3"},
                                                          {"bias", "all"},
                                                          {"use_dora", true},
                                                          {"use_rslora", true},
                                                          {"rank_pattern", {{"q_proj", 2}}},
                                                          {"alpha_pattern", {{"q_proj", 2}}},
                                                          {"layers_to_transform", 1},
                                                          {"layers_to_transform", {0, 1}},
                                                          {"layer_replication", J::parse("[[0, 2]]")},
                                                          {"fan_in_fan_out", true},
                                                          {"lora_bias", true},
                                                          {"trainable_token_indices", {1}},
                                                          {"target_parameters", {"x"}},
                                                          {"init_lora_weights", "pissa"},
                                                          {"something_of_tomorrow", true},
                                                          {"modules_to_save", {"classifier"}},
                                                          {"target_modules", {"q_proj", "embed_tokens"}},
                                                          {"r", 0},
                                                          {"lora_alpha", 0}};
    for (const auto& [key, value] : wrong) {
        Copy copy("mha/adapter");
        copy.change(key, value);
        REFUSED("\"" + key + "\"", open_adapter(copy.folder, base));
    }
    Copy copy("mha/adapter");
    copy.change("lora_alpha", 2.5);
    copy.change("target_modules", ".*(q|k|v|o)_proj");
    BOOST_TEST(open_adapter(copy.folder, base).trainables.lora_alpha == 2.5);
}

BOOST_AUTO_TEST_CASE(tensors_that_do_not_fit_are_named) {
    const ModelConfig base = read_config(golden("mha"));
    REFUSED("has the shape (4, 64), the base model and rank 4 need (4, 72)",
            open_adapter(golden("mha/adapter"), read_config(golden("gqa-odd-tied"))));
    Copy missing("mha/adapter"), foreign("mha/adapter"), rank("mha/adapter"), target("mha/adapter"),
        type("mha/adapter"), weight("mha/adapter");
    missing.tensors([](auto& entries) { entries.erase(kFirstA); });
    REFUSED("layers.0.self_attn.q_proj.lora_A.weight is missing", open_adapter(missing.folder, base));
    foreign.tensors([](auto& entries) {
        entries["base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"] = entries[kFirstA];
    });
    REFUSED("model.layers.3.self_attn.q_proj.lora_A.weight is neither", open_adapter(foreign.folder, base));
    weight.tensors(
        [](auto& entries) { entries["base_model.model.model.layers.0.self_attn.q_proj.weight"] = entries[kFirstA]; });
    REFUSED("model.layers.0.self_attn.q_proj.weight is neither", open_adapter(weight.folder, base));
    rank.change("r", 8);
    REFUSED("need (8, 64)", open_adapter(rank.folder, base));
    target.change("target_modules", {"q_proj", "k_proj", "v_proj", "o_proj", "up_proj"});
    REFUSED("names up_proj as a target", open_adapter(target.folder, base));
    type.tensors([](auto& entries) { entries[kFirstA].dtype = DType::int32; });
    REFUSED("has the type int32", open_adapter(type.folder, base));
}

BOOST_AUTO_TEST_CASE(float64_and_other_spellings_of_names) {
    Copy copy("mha/adapter");
    copy.tensors([](auto& entries) {
        auto e = entries[kFirstA];
        std::string wide;
        for (std::size_t i = 0; i < e.bytes.size(); i += 4) {
            float x;
            std::memcpy(&x, e.bytes.data() + i, 4);
            const double d = x;
            wide.append(reinterpret_cast<const char*>(&d), 8);
        }
        entries.erase(kFirstA);
        entries["base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"] = {DType::float64, e.shape,
                                                                                             wide};
    });
    const Adapter a = open_adapter(copy.folder, read_config(golden("mha")));
    BOOST_TEST((a.values.at("model.layers.0.self_attn.q_proj.lora_A.weight").dtype == DType::float64));
}

BOOST_AUTO_TEST_CASE(tied_embeddings) {
    const ModelConfig base = read_config(golden("gqa-odd-tied"));
    const std::string head = "base_model.model.lm_head.weight",
                      embedding = "base_model.model.model.embed_tokens.weight";
    Copy other("gqa-odd-tied/trained-adapter"), untied("gqa-odd-tied/trained-adapter"),
        only_head("gqa-odd-tied/trained-adapter");
    other.tensors([&](auto& entries) { entries[head].bytes[2] ^= 1; });
    REFUSED("lm_head.weight differs from the embedding", open_adapter(other.folder, base));
    untied.tensors([&](auto& entries) { entries.erase(head); });
    // ensure_weight_tying says that the head follows the embedding.
    BOOST_TEST(open_adapter(untied.folder, base).trainables.embedding);
    untied.change("ensure_weight_tying", false);
    REFUSED("\"ensure_weight_tying\": true", open_adapter(untied.folder, base));
    only_head.tensors([&](auto& entries) { entries.erase(embedding); });
    REFUSED("without the embedding", open_adapter(only_head.folder, base));
}

BOOST_AUTO_TEST_CASE(files_that_are_not_adapters) {
    const ModelConfig base = read_config(golden("mha"));
    REFUSED("has no adapter_config.json", open_adapter(golden("mha"), base));
    REFUSED("merged model with --model", open_adapter(golden("mha"), base));
    REFUSED("is not a folder", open_adapter(golden("nowhere"), base));
    Copy pickled("mha/adapter"), extra("mha/adapter"), garbage("mha/adapter"), list("mha/adapter"), none("mha/adapter");
    fs::rename(pickled / "adapter_model.safetensors", pickled / "adapter_model.bin");
    REFUSED("adapter_model.bin is not a file of PyTorch 1.6 or later", open_adapter(pickled.folder, base));
    spill(extra / "trainable_params.bin", "x");
    REFUSED("trainable_params.bin is not a file of PyTorch", open_adapter(extra.folder, base));
    write_torch_file(extra / "trainable_params.bin", {});
    REFUSED("trainable_params.bin has no tensors", open_adapter(extra.folder, base));
    spill(garbage / "adapter_model.safetensors", "garbage");
    REFUSED("adapter_model.safetensors", open_adapter(garbage.folder, base));
    spill(list / "adapter_config.json", "[1]");
    REFUSED("is not a JSON object", open_adapter(list.folder, base));
    fs::remove(none / "adapter_model.safetensors");
    REFUSED("has neither adapter_model.safetensors nor adapter_model.bin", open_adapter(none.folder, base));
}

/// LongLoRA's own split, converted to safetensors: embedding and norms lie beside the adapter, without PEFT's prefix.
BOOST_AUTO_TEST_CASE(longlora_split) {
    Copy copy("gqa-odd-tied/adapter");
    const SafetensorsFile trained(golden("gqa-odd-tied/trained-adapter/adapter_model.safetensors"));
    const HostTensor embedding = *trained.find("base_model.model.model.embed_tokens.weight"),
                     norm = *trained.find("base_model.model.model.norm.weight");
    const auto write = [](const HostTensor& t) {
        return [t](std::byte* to) { std::memcpy(to, t.bytes, static_cast<std::size_t>(t.size_bytes())); };
    };
    write_safetensors(copy / "trainable_params.safetensors",
                      {{"model.embed_tokens.weight", embedding.dtype, embedding.shape, write(embedding)},
                       {"model.norm.weight", norm.dtype, norm.shape, write(norm)}});
    const Adapter a = open_adapter(copy.folder, read_config(golden("gqa-odd-tied")));
    BOOST_TEST((a.trainables.embedding && a.trainables.norm && a.trainables.method == Method::longlora));
    BOOST_TEST(a.values.size() == 3u * 4 * 2 + 2);
}

/// As LongLoRA publishes its adapters: files of torch, and an embedding with one row more than the base model.
BOOST_AUTO_TEST_CASE(a_published_adapter_with_a_padding_token) {
    const ModelConfig base = read_config(golden("mha"));
    const Adapter a = open_adapter(golden("torch/published"), base);
    BOOST_TEST(a.values.size() == 3u * 4 * 2 + 3 * 2 + 2);
    BOOST_TEST((a.trainables.embedding && a.trainables.norm && !a.trainables.lm_head));
    BOOST_TEST(a.config.vocabulary == 257);
    BOOST_TEST(a.config.new_rows == 1);
    BOOST_TEST(growth_text(a.config) ==
               "the vocabulary has grown by 1 to 257: the adapter has more rows than the base "
               "model; the new rows of lm_head are the mean of the old ones");
    BOOST_TEST(parse_config(a.config.raw, "a checkpoint").new_rows == 1);
    const SafetensorsFolder files(golden("mha"));
    const auto device = make_cpu_device();
    Weights weights(*device, a.config, a.trainables, {});
    load_model(weights, files, 1);
    load_adapter(weights, a);
    const Parameter &head = *weights.list().look_up("lm_head.weight"),
                    &embedding = *weights.list().look_up("model.embed_tokens.weight");
    const std::vector<float> rows = weights.get(head), tokens = weights.get(embedding);
    const HostTensor old = files.get("lm_head.weight");
    BOOST_TEST(std::memcmp(rows.data(), old.bytes, static_cast<std::size_t>(old.size_bytes())) == 0);
    for (std::int64_t i = 0; i < base.hidden; ++i) {
        double sum = 0;
        for (std::int64_t r = 0; r < 256; ++r)
            sum += static_cast<double>(rows[static_cast<std::size_t>(r * base.hidden + i)]);
        BOOST_TEST(rows[static_cast<std::size_t>(256 * base.hidden + i)] == static_cast<float>(sum / 256));
    }
    const HostTensor given = a.values.at("model.embed_tokens.weight");
    for (std::int64_t i = 0; i < given.count(); ++i)
        BOOST_REQUIRE(tokens[static_cast<std::size_t>(i)] ==
                      static_cast<float>(reinterpret_cast<const bf16*>(given.bytes)[i]));
    // Without an adapter that has the rows, files that lack them do not fit.
    ModelConfig larger = base;
    larger.vocabulary = 257;
    Weights other(*device, larger, a.trainables, {});
    REFUSED("has shape (256, 64)", load_model(other, files, 1));
}

static TrainableSet fitting(Method method) {
    TrainableSet set;
    set.method = method;
    set.lora_rank = 4;
    set.lora_alpha = 8;
    return set;
}

BOOST_AUTO_TEST_CASE(loading_over_weights) {
    const ModelConfig config = read_config(golden("mha"));
    const Adapter a = open_adapter(golden("mha/trained-adapter"), config);
    const auto device = make_cpu_device();
    for (const bool training : {true, false}) {
        Weights weights(*device, config, training ? fitting(Method::longlora) : a.trainables,
                        {DType::float32, DType::float32, training});
        load_model(weights, SafetensorsFolder(golden("mha")), 1);
        load_adapter(weights, a);
        for (const auto& [name, value] : a.values) {
            const auto* begin = reinterpret_cast<const float*>(value.bytes);
            BOOST_TEST(weights.get(weights.list().find(name)) == std::vector<float>(begin, begin + value.count()),
                       name);
        }
    }
}

BOOST_AUTO_TEST_CASE(loading_over_weights_that_do_not_fit) {
    const ModelConfig config = read_config(golden("mha"));
    const Adapter lora = open_adapter(golden("mha/adapter"), config),
                  trained = open_adapter(golden("mha/trained-adapter"), config);
    const auto device = make_cpu_device();
    const auto load = [&](const TrainableSet& set, const Adapter& a, bool training) {
        Weights weights(*device, config, set, {DType::float32, DType::float32, training});
        load_adapter(weights, a);
    };
    TrainableSet rank = fitting(Method::lora), alpha = rank, targets = rank, more = rank;
    rank.lora_rank = 8;
    alpha.lora_alpha = 16;
    targets.lora_targets = {Projection::q, Projection::k, Projection::v};
    more.lora_targets.push_back(Projection::gate);
    REFUSED("--lora-rank 4", load(rank, lora, true));
    REFUSED("--lora-alpha 8", load(alpha, lora, true));
    REFUSED("add o to --lora-targets", load(targets, lora, true));
    REFUSED("full fine-tuning", load(fitting(Method::full), lora, true));
    REFUSED("would keep frozen", load(fitting(Method::lora), trained, true));
    load(more, lora, true);
    load(fitting(Method::lora), trained, false);  // evaluation may load it, since it saves nothing
}

BOOST_AUTO_TEST_SUITE_END()
