// What a rank keeps of the weights at every ZeRO stage, without other ranks: a plan communicator gives rank and size.
// The values are those of whole weights bit for bit, memory follows the table in src/model/weights.h, and a rank does
// not even read what it does not keep. tests/mpi/zero_test.cpp tests the communication.
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <filesystem>

#include "core/random.h"
#include "io/file.h"
#include "model/adapter.h"
#include "model/weights.h"
#include "tests/support/device_values.h"
#include "tests/support/test_device.h"

using namespace longlora;

namespace {

ModelConfig config_of(std::int64_t vocabulary = 67, bool tied = false) {
    ModelConfig c;
    c.model_type = "llama";
    c.hidden = 24, c.intermediate = 40, c.num_layers = 2, c.num_heads = 3, c.num_kv_heads = 1, c.head_dim = 8,
    c.vocabulary = vocabulary;
    c.max_positions = 64;
    c.tied = tied;
    return c;
}

TrainableSet trainables_of(Method method) {
    TrainableSet set;
    set.method = method;
    set.lora_rank = 3;
    return set;
}

/// The weights that rank `rank` of `size` ranks keeps.
struct Kept {
    std::unique_ptr<Device> device = make_test_device(64 << 20);
    std::unique_ptr<parallel::Communicator> data;
    std::unique_ptr<Weights> weights;
    Kept(const ModelConfig& config, const TrainableSet& trainables, WeightsOptions options, int rank, int size,
         const Stage& stage)
        : data(parallel::make_plan_communicator(*device, rank, size)) {
        options.data = data.get();
        weights = std::make_unique<Weights>(*device, config, trainables, options, stage);
    }
};

/// The bits of a float32 or bfloat16 tensor on the device.
std::vector<std::uint32_t> bits_of(const Weights& of, ConstTensor x) {
    std::vector<std::uint32_t> bits;
    if (x.dtype == DType::float32)
        for (const float value : read_device<float>(of.device(), x))
            bits.push_back(std::bit_cast<std::uint32_t>(value));
    else
        for (const bf16 value : read_device<bf16>(of.device(), x)) bits.push_back(std::bit_cast<std::uint16_t>(value));
    return bits;
}

/// Counts the parts and parameters of `kept` that differ from those of whole weights, as the public accessors show
/// them. At ZeRO 3 these do not show frozen weights.
std::int64_t num_wrong(const Weights& kept, const Weights& whole) {
    std::int64_t wrong = 0;
    for (const OwnedPart& part : kept.owned_parts()) {
        const std::int64_t unit = part.parameter->unit;
        const auto compare = [&](Tensor own, Tensor all) {
            wrong += static_cast<bool>(own) != static_cast<bool>(all);
            if (!own || !all) return;
            const std::int64_t at = part.parameter->offset + part.in_parameter.begin;
            wrong += bits_of(kept, own.slice(part.in_own, part.in_parameter.count)) !=
                     bits_of(whole, all.slice(at, part.in_parameter.count));
        };
        compare(kept.own_master(unit), whole.own_master(unit));
        compare(kept.own_weight(unit), whole.own_weight(unit));
    }
    if (kept.options().zero == 3) return wrong;
    for (const Parameter& p : kept.list().parameters)
        wrong += bits_of(kept, kept.weight(p)) != bits_of(whole, whole.weight(p));
    return wrong;
}

/// Compares every kind of weights on every rank with whole weights that the same calls filled, and the masters of
/// weights in bfloat16 with those of weights in float32.
template <class Fill> void check_filling(const ModelConfig& config, const Fill& fill) {
    for (const Method method : {Method::longlora, Method::full})
        for (const DType real : {DType::float32, DType::bfloat16}) {
            const auto device = make_test_device(64 << 20);
            Weights whole(*device, config, trainables_of(method), {real, real, true});
            fill(whole);
            Weights exact(*device, config, trainables_of(method), {DType::float32, DType::float32, true});
            fill(exact);
            for (const Parameter& p : whole.list().parameters)  // masters are exact in every computing type
                if (p.trainable) BOOST_TEST((whole.get(p) == exact.get(p)), p.name);
            for (const Stage& stage : {whole_model(config), Stage{0, 1, true, false}, Stage{1, 1, false, true}})
                for (const int zero : {0, 1, 2, 3})
                    for (int rank = 0; rank < 3; ++rank)
                        BOOST_TEST_CONTEXT(name_of(method)
                                           << ", " << name_of(real) << ", stage from layer " << stage.first_layer
                                           << ", ZeRO " << zero << ", rank " << rank) {
                            Kept k(config, trainables_of(method), {real, real, true, zero}, rank, 3, stage);
                            fill(*k.weights);
                            BOOST_TEST(num_wrong(*k.weights, whole) == 0);
                        }
        }
}

/// The value of element i of a parameter in the tests below.
double value_of(const Parameter& p, std::int64_t i) {
    return random_normal(9, stream_of(p.name), static_cast<std::uint64_t>(i));
}

std::int64_t padded(std::int64_t bytes) { return std::max<std::int64_t>((bytes + 255) / 256 * 256, 256); }

struct TemporaryFolder {
    std::string path = (std::filesystem::temp_directory_path() / "longlora-weights-XXXXXX").string();
    TemporaryFolder() { ensure(::mkdtemp(path.data()) != nullptr, "a temporary folder"); }
    ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

/// Writes a model's file with all parameters but LoRA's: without the tensor `without`, and with an additional tensor
/// `with`.
void write_model(const std::string& folder, const ModelConfig& config, const std::string& without = "",
                 const std::string& with = "") {
    std::vector<TensorToWrite> tensors;
    for (const Parameter& p : list_parameters(config, nothing_trainable()).parameters)
        if (p.name != without)
            tensors.push_back({p.name, DType::float32, p.shape, [p](std::byte* out) {
                                   for (std::int64_t i = 0; i < p.shape.count(); ++i)
                                       reinterpret_cast<float*>(out)[i] = static_cast<float>(
                                           random_normal(3, stream_of(p.name), static_cast<std::uint64_t>(i)));
                               }});
    if (!with.empty()) tensors.push_back({with, DType::float32, {2}, [](std::byte* out) { std::memset(out, 0, 8); }});
    write_safetensors(folder + "/model.safetensors", tensors);
}

std::string sentence_of(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sharded_weights)

BOOST_AUTO_TEST_CASE(initialisation_gives_each_rank_its_part) {
    for (const bool tied : {false, true})
        check_filling(config_of(67, tied), [](Weights& weights) { initialise_model(weights, 7); });
}

BOOST_AUTO_TEST_CASE(setting_from_any_type_gives_each_rank_its_part) {
    for (const DType type : {DType::float32, DType::float64, DType::bfloat16, DType::float16})
        check_filling(config_of(), [&](Weights& weights) {
            for (const Parameter& p : weights.list().parameters) {
                std::vector<std::byte> bytes(static_cast<std::size_t>(p.shape.count() * size_of(type)));
                for (std::int64_t i = 0; i < p.shape.count(); ++i) {
                    const double value = value_of(p, i);
                    if (type == DType::float32) reinterpret_cast<float*>(bytes.data())[i] = static_cast<float>(value);
                    if (type == DType::float64) reinterpret_cast<double*>(bytes.data())[i] = value;
                    if (size_of(type) == 2)  // without the highest bit of the exponent: small in both types
                        reinterpret_cast<std::uint16_t*>(bytes.data())[i] =
                            bf16(static_cast<float>(value)).bits & 0xbfff;
                }
                weights.set(p, {type, p.shape, bytes.data()}, "the test");
            }
        });
}

/// Values set from float64 on one rank: masters are rounded to float32, weights then to bfloat16.
BOOST_AUTO_TEST_CASE(values_are_those_that_were_set) {
    for (const DType real : {DType::float32, DType::bfloat16}) {
        Kept k(config_of(), trainables_of(Method::longlora), {real, real, true, 3}, 0, 1, whole_model(config_of()));
        const auto values_of = [](const Parameter& p) {
            std::vector<double> values;
            for (std::int64_t i = 0; i < p.shape.count(); ++i) values.push_back(value_of(p, i));
            return values;
        };
        for (const Parameter& p : k.weights->list().parameters)
            k.weights->set(p, {DType::float64, p.shape, reinterpret_cast<const std::byte*>(values_of(p).data())},
                           "the test");
        // All are set before any is read, so pinned memory no longer holds the values that are read.
        for (const Parameter& p : k.weights->list().parameters) {
            const std::vector<double> values = values_of(p);
            std::vector<float> expected(values.begin(), values.end()), rounded, computed;
            for (const float x : expected) rounded.push_back(bf16(x));
            if (real == DType::float32) computed = read_device<float>(*k.device, k.weights->weight(p));
            else
                for (const bf16 x : read_device<bf16>(*k.device, k.weights->weight(p))) computed.push_back(float(x));
            BOOST_TEST((computed == (real == DType::float32 ? expected : rounded)), p.name);
        }
        for (const Parameter& p : k.weights->list().parameters) {
            std::vector<float> expected;
            for (const double x : values_of(p))
                expected.push_back(p.trainable || real == DType::float32 ? static_cast<float>(x)
                                                                         : float(bf16(static_cast<float>(x))));
            BOOST_TEST((k.weights->get(p) == expected), p.name);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_models_files_give_each_rank_its_part) {
    for (const bool tied : {false, true}) {
        const TemporaryFolder folder;
        const ModelConfig config = config_of(67, tied);
        write_model(folder.path, config);
        const SafetensorsFolder files(folder.path);
        check_filling(config, [&](Weights& weights) { load_model(weights, files, 5); });
    }
}

/// A stage also refuses a model that lacks a tensor of another stage: a model is complete or it is not.
BOOST_AUTO_TEST_CASE(every_stage_checks_the_names_of_all_tensors) {
    const ModelConfig config = config_of();
    for (const Stage& stage : {Stage{0, 1, true, false}, Stage{1, 1, false, true}}) {
        Kept k(config, trainables_of(Method::longlora), {DType::float32, DType::float32, true, 3}, 1, 2, stage);
        for (const char* name : {"model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight",
                                 "lm_head.weight", "model.embed_tokens.weight"}) {
            const TemporaryFolder folder;
            write_model(folder.path, config, name);
            BOOST_TEST(sentence_of([&] {
                           load_model(*k.weights, SafetensorsFolder(folder.path), 5);
                       }).find(std::string("lacks the tensor '") + name) != std::string::npos);
        }
        const TemporaryFolder folder;
        write_model(folder.path, config, "", "model.layers.0.self_attn.q_proj.bias");
        BOOST_TEST(sentence_of([&] {
                       load_model(*k.weights, SafetensorsFolder(folder.path), 5);
                   }).find("q_proj.bias") != std::string::npos);
    }
}

BOOST_AUTO_TEST_CASE(an_adapters_values_go_to_their_stage) {
    const ModelConfig config = config_of();
    const ParameterList list = list_parameters(config, trainables_of(Method::longlora));
    std::map<std::string, std::vector<float>> values;
    Adapter adapter;
    adapter.path = "the test's adapter";
    adapter.trainables = trainables_of(Method::longlora);
    for (const Parameter& p : list.parameters) {
        if (!p.trainable) continue;
        auto& v = values[p.name];
        for (std::int64_t i = 0; i < p.shape.count(); ++i)
            v.push_back(static_cast<float>(random_normal(4, stream_of(p.name), static_cast<std::uint64_t>(i))));
        adapter.values[p.name] = {DType::float32, p.shape, reinterpret_cast<const std::byte*>(v.data())};
    }
    for (const Stage& stage : {whole_model(config), Stage{0, 1, true, false}, Stage{1, 1, false, true}})
        for (int rank = 0; rank < 2; ++rank) {
            Kept k(config, adapter.trainables, {DType::float32, DType::float32, true, 3}, rank, 2, stage);
            load_adapter(*k.weights, adapter);
            for (const OwnedPart& part : k.weights->owned_parts()) {
                const std::vector<float> ours = read_device<float>(
                    *k.device, k.weights->own_master(part.parameter->unit).slice(part.in_own, part.in_parameter.count));
                BOOST_TEST(std::memcmp(ours.data(), values[part.parameter->name].data() + part.in_parameter.begin,
                                       static_cast<std::size_t>(4 * part.in_parameter.count)) == 0);
            }
        }
}

/// Pages of the file that hold nothing of this rank are made unreadable: reading one ends the test.
BOOST_AUTO_TEST_CASE(what_is_not_kept_is_not_read) {
    const ModelConfig config = config_of(1999);
    const auto page = static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})  // trained, frozen
        for (int rank = 0; rank < 3; ++rank) {
            Kept k(config, trainables_of(Method::longlora), {DType::bfloat16, DType::bfloat16, true, 3}, rank, 3,
                   whole_model(config));
            const Parameter& p = k.weights->list().find(name);
            const std::int64_t bytes = p.shape.count() * 4, pages = (bytes + page - 1) / page * page;
            void* memory = ::mmap(nullptr, static_cast<std::size_t>(pages), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            BOOST_REQUIRE(memory != MAP_FAILED);
            auto* base = static_cast<std::byte*>(memory);
            const parallel::Shard kept = k.weights->kept(p);
            BOOST_TEST(kept.count < p.shape.count() / 2);
            std::int64_t shut = 0;
            for (std::int64_t at = 0; at < pages; at += page)
                if (at + page <= 4 * kept.begin || at >= 4 * (kept.begin + kept.count)) {
                    BOOST_REQUIRE(::mprotect(base + at, static_cast<std::size_t>(page), PROT_NONE) == 0);
                    ++shut;
                }
            BOOST_TEST(shut > pages / page / 2);
            k.weights->set(p, {DType::float32, p.shape, base}, "the test");
            ::munmap(memory, static_cast<std::size_t>(pages));
        }
}

BOOST_AUTO_TEST_CASE(memory_follows_the_table) {
    const ModelConfig config = config_of();
    for (const Method method : {Method::longlora, Method::full})
        for (const DType real : {DType::float32, DType::bfloat16})
            for (const bool training : {true, false})
                for (const int zero : {0, 1, 2, 3})
                    for (int rank = 0; rank < 3; ++rank)
                        BOOST_TEST_CONTEXT(name_of(method) << ", " << name_of(real) << ", ZeRO " << zero << ", rank "
                                                           << rank << (training ? "" : ", evaluation")) {
                            Kept k(config, trainables_of(method), {real, DType::bfloat16, training, zero}, rank, 3,
                                   whole_model(config));
                            std::array<std::int64_t, kNumUses> expected{};
                            const auto add = [&](Use use, std::int64_t elements, DType type) {
                                expected[static_cast<std::size_t>(use)] += padded(elements * size_of(type));
                            };
                            if (kOnGpu) add(Use::workspace, cuda_own_bytes(), DType::uint8);
                            for (const UnitLayout& unit : list_parameters(config, trainables_of(method)).units) {
                                const std::int64_t all = unit.trainable_count, chunk = (all + 2) / 3,
                                                   own = zero ? std::clamp<std::int64_t>(all - chunk * rank, 0, chunk)
                                                              : all;
                                const std::int64_t frozen_chunk = (unit.frozen_count + 2) / 3,
                                                   frozen = zero == 3 ? std::clamp<std::int64_t>(
                                                                            unit.frozen_count - frozen_chunk * rank, 0,
                                                                            frozen_chunk)
                                                                      : unit.frozen_count;
                                if (unit.frozen_count) add(Use::weights, frozen, DType::bfloat16);
                                if (!all) continue;
                                const bool rounds = real == DType::bfloat16;
                                add(rounds || zero == 1 || zero == 2 ? Use::weights : Use::masters,
                                    zero == 3 ? own : all, real);
                                if (rounds) add(Use::masters, own, DType::float32);
                                if (!training) continue;
                                add(Use::moments, own, DType::float32), add(Use::moments, own, DType::float32);
                                add(Use::gradients, zero >= 2 ? own : all, DType::float32);
                            }
                            const auto& found = k.device->memory().at_peak();
                            BOOST_CHECK_EQUAL_COLLECTIONS(found.begin(), found.end(), expected.begin(), expected.end());
                        }
}

/// Exactly one rank answers for each trainable element. From ZeRO 1 on one rank owns it, at ZeRO 0 every rank does.
/// The tied embedding is owned on both stages that hold it.
BOOST_AUTO_TEST_CASE(parts_cover_every_element) {
    const ModelConfig config = config_of(67, true);
    const TrainableSet trainables = trainables_of(Method::longlora);
    const std::vector<Stage> stages = {{0, 1, true, false}, {1, 1, false, true}};
    for (const int zero : {0, 1, 2, 3}) {
        std::map<std::string, std::vector<int>> owners, answering;
        for (const Parameter& p : list_parameters(config, trainables).parameters)
            if (p.trainable)
                owners[p.name].resize(static_cast<std::size_t>(p.shape.count())), answering[p.name] = owners[p.name];
        for (const Stage& stage : stages)
            for (int rank = 0; rank < 3; ++rank) {
                Kept k(config, trainables, {DType::float32, DType::float32, true, zero}, rank, 3, stage);
                for (const OwnedPart& part : k.weights->owned_parts())
                    for (std::int64_t i = 0; i < part.in_parameter.count; ++i)
                        ++owners[part.parameter->name][static_cast<std::size_t>(part.in_parameter.begin + i)];
                for (const OwnedPart& part : k.weights->sole_parts()) {
                    for (std::int64_t i = 0; i < part.in_parameter.count; ++i)
                        ++answering[part.parameter->name][static_cast<std::size_t>(part.in_parameter.begin + i)];
                    BOOST_TEST(part.in_own == part.parameter->offset + part.in_parameter.begin -
                                                  k.weights->own(part.parameter->unit).begin);
                }
            }
        for (const auto& [name, counts] : owners)
            for (const int count : counts)
                BOOST_REQUIRE_EQUAL(count, (zero ? 1 : 3) * (name == "model.embed_tokens.weight" ? 2 : 1));
        for (const auto& [name, counts] : answering)
            for (const int count : counts) BOOST_REQUIRE_EQUAL(count, 1);
    }
}

BOOST_AUTO_TEST_SUITE_END()
