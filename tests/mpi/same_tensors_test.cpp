// Ranks that load a model from copies of its files: the identity that they find together, and copies that differ. Each
// rank has a folder of its own, which stands for the disk of its node. Checks do not throw: a rank that left early
// would hang the others.
#include "model/same_tensors.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint_testing.h"
#include "core/host.h"
#include "io/json.h"
#include "model/load_on_all_ranks.h"
#include "model/vocabulary_growth.h"

using namespace longlora;
using namespace checkpoint_testing;

namespace {

const std::string kBuffer = "model.rotary_emb.inv_freq";  // no rank loads it

ModelConfig config_of() {
    ModelConfig config = small_config();
    config.vocabulary = 101;
    return config;
}

float element(const std::string& name, std::int64_t i) {
    return static_cast<float>(random_normal(3, stream_of(name), static_cast<std::uint64_t>(i)));
}

/// Which element of a copy differs; none if `tensor` is empty.
struct Change {
    std::string tensor;
    std::int64_t element = 0;
};

void write_copy(const std::string& folder, const Change& change) {
    std::filesystem::create_directories(folder);
    std::vector<TensorToWrite> tensors;
    const auto add = [&](const std::string& name, Shape shape) {
        tensors.push_back({name, DType::float32, shape, [=](std::byte* out) {
                               auto* values = reinterpret_cast<float*>(out);
                               for (std::int64_t i = 0; i < shape.count(); ++i) values[i] = element(name, i);
                               if (name == change.tensor) values[change.element] += 1e-6f;
                           }});
    };
    for (const Parameter& p : list_parameters(config_of(), nothing_trainable()).parameters) add(p.name, p.shape);
    add(kBuffer, {4});
    write_safetensors(folder + "/model.safetensors", tensors);
}

/// How the weights are distributed: to stages first, then by ZeRO.
struct Way {
    std::string name;
    int stages = 1, zero = 0;
};

std::vector<Way> ways_of(int ranks) {
    std::vector<Way> ways{{"data", 1, 0}, {"ZeRO 1", 1, 1}, {"ZeRO 3", 1, 3}};
    if (ranks == 2 || ranks == 3) ways.push_back({"pipeline", ranks, 0});
    if (ranks == 4) ways.push_back({"pipeline", 2, 0}), ways.push_back({"pipeline and ZeRO 3", 2, 3});
    return ways;
}

/// The weights of this rank.
struct Mine {
    std::unique_ptr<Device> device = make_test_device(64 << 20);
    std::unique_ptr<parallel::Communicator> data;
    std::unique_ptr<Weights> weights;
    Mine(const parallel::HostGroup& group, const Way& way, const ModelConfig& config = config_of()) {
        const int of_stage = group.size() / way.stages, stage = group.rank() / of_stage;
        data = parallel::make_plan_communicator(*device, group.rank() % of_stage, of_stage);
        WeightsOptions options{DType::float32, DType::float32, true, way.zero, data.get()};
        weights = std::make_unique<Weights>(*device, config, TrainableSet{}, options,
                                            stages_of(config, way.stages, {}, 16)[static_cast<std::size_t>(stage)]);
    }
    bool loads(const Change& change) const {
        const Parameter* p = weights->list().look_up(change.tensor);
        return p && change.element >= weights->kept(*p).begin && change.element < weights->kept(*p).end();
    }
};

std::string load(const parallel::HostGroup& group, const Way& way, const std::string& folder) {
    const Mine mine(group, way);
    return sentence_of([&] { load_model_on_all_ranks(group, *mine.weights, SafetensorsFolder(folder), 1); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(same_tensors)

BOOST_AUTO_TEST_CASE(together_the_ranks_identify_the_whole_model) {
    const parallel::HostGroup group;
    const SharedFolder shared(group);
    const std::string own = text(shared.path(), "/copy-", group.rank());
    write_copy(own, {});
    group.barrier();
    for (const std::string& folder : {shared.path() + "/copy-0", own})  // one file, and a copy for each rank
        for (const Way& way : ways_of(group.size())) {
            const Mine mine(group, way);
            const SafetensorsFolder files(folder);
            const TensorChecksums found = load_model_on_all_ranks(group, *mine.weights, files, 1);
            BOOST_TEST((found == tensor_checksums(files)), way.name);
            BOOST_TEST(content_hash(files, found) == content_hash(files), way.name);
            for (const Parameter& p : mine.weights->list().parameters) {
                if (p.group == ParameterGroup::lora || mine.weights->kept(p).count < p.shape.count()) continue;
                const int zero = mine.weights->options().zero;
                if (zero == 3 || (p.trainable && zero > 0)) continue;
                const std::vector<float> values = mine.weights->get(p);
                std::int64_t wrong = 0;
                for (std::int64_t i = 0; i < p.shape.count(); ++i)
                    wrong += values[static_cast<std::size_t>(i)] != element(p.name, i);
                BOOST_TEST(wrong == 0, way.name << ", " << p.name);
            }
        }
    group.barrier();
}

/// The new rows of the vocabulary, which no file has, are the mean of the others on every rank that keeps them.
BOOST_AUTO_TEST_CASE(ranks_load_a_model_that_has_grown) {
    const parallel::HostGroup group;
    const SharedFolder shared(group);
    if (group.rank() == 0) write_copy(shared.path() + "/copy", {});
    group.barrier();
    const SafetensorsFolder files(shared.path() + "/copy");
    ModelConfig grown = config_of();
    grow_vocabulary(grown, 104);
    for (const Way& way : ways_of(group.size())) {
        const Mine mine(group, way, grown);
        BOOST_TEST((load_model_on_all_ranks(group, *mine.weights, files, 1) == tensor_checksums(files)), way.name);
        for (const Parameter& p : mine.weights->list().parameters) {
            const int zero = mine.weights->options().zero;
            if (!has_new_rows(grown, p) || zero == 3 || (p.trainable && zero > 0)) continue;
            const std::vector<float> values = mine.weights->get(p);
            const std::int64_t width = p.shape.last();
            for (std::int64_t i = 0; i < p.shape.count(); ++i) {
                double expected = element(p.name, i);
                if (i >= 101 * width) {
                    expected = 0;
                    for (std::int64_t r = 0; r < 101; ++r) expected += element(p.name, r * width + i % width);
                    expected /= 101;
                }
                if (values[static_cast<std::size_t>(i)] != static_cast<float>(expected))
                    BOOST_ERROR(text(way.name, ", ", p.name, ", element ", i));
            }
        }
    }
    group.barrier();
}

BOOST_AUTO_TEST_CASE(another_value_is_refused_wherever_it_is_loaded) {
    const parallel::HostGroup group;
    const SharedFolder shared(group);
    const int last = group.size() - 1;
    std::vector<Change> changes;
    for (const char* name : {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight",
                             "model.layers.2.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight"}) {
        const std::int64_t count = list_parameters(config_of(), nothing_trainable()).find(name).shape.count();
        for (const std::int64_t i : {std::int64_t{0}, count / 2, count - 1}) changes.push_back({name, i});
    }
    changes.push_back({kBuffer, 1});
    for (std::size_t c = 0; c < changes.size(); ++c) {
        const std::string folder = text(shared.path(), "/", c, "-", group.rank());
        write_copy(folder, group.rank() == last ? changes[c] : Change{});
        group.barrier();
        for (const Way& way : ways_of(group.size())) {
            const std::string said = load(group, way, folder);
            const bool wanted =
                group.size() > 1 && group.any(group.rank() == last && Mine(group, way).loads(changes[c]));
            BOOST_TEST(!said.empty() == wanted, way.name << ", " << changes[c].tensor << ": " << said);
            if (!said.empty())
                BOOST_TEST((says(said, "'" + changes[c].tensor + "' has other values in ") &&
                            says(said, text("-", last, "/model.safetensors on node ", host_name())) &&
                            says(said, text("-0/model.safetensors on node ", host_name(), " (rank 0)"))),
                           said);
        }
        group.barrier();
    }
}

/// The elements that the ranks read, however the files are shared: what a rank loads once, and what no reader loads
/// once by one reader.
BOOST_AUTO_TEST_CASE(no_element_is_read_twice) {
    const parallel::HostGroup group;
    const SharedFolder shared(group);
    const std::string own = text(shared.path(), "/copy-", group.rank());
    write_copy(own, {});
    group.barrier();
    for (const bool copies : {false, true})
        for (const Way& way : ways_of(group.size())) {
            const Mine mine(group, way);
            const SafetensorsFolder files(copies ? own : shared.path() + "/copy-0");
            std::vector<FileTensor> tensors;
            std::int64_t total = 0, loaded = 0, read = 0, of_reader = 0;
            for (const std::string& name : files.names()) {
                const Parameter* p = mine.weights->list().look_up(name);
                tensors.push_back(
                    {name, files.get(name), files.file_of(name), p ? mine.weights->kept(*p) : parallel::Shard{}});
                total += tensors.back().value.count(), loaded += tensors.back().loaded.count;
            }
            SharedReading reading = plan_reading(group, "the model", tensors);
            load_model(*mine.weights, files, 1,
                       [&](const std::string& tensor, std::int64_t begin, const HostTensor& t) {
                           note_read(reading, tensor, begin, t);
                       });
            std::int64_t before_rest = 0;
            for (const TensorPiece& piece : reading.pieces) before_rest += piece.noted;
            BOOST_TEST(before_rest == loaded, way.name);
            read_rest(reading, {});
            for (const TensorPiece& piece : reading.pieces) {
                BOOST_TEST(piece.noted == (piece.read ? piece.elements.count : 0));
                read += piece.noted;
                if (piece.reader == group.rank()) of_reader += piece.elements.count;
            }
            std::int64_t of_readers = 0;
            for (const std::string& count : group.all_gather(text(of_reader))) of_readers += std::stoll(count);
            BOOST_TEST(of_readers == total, way.name);
            if (copies && group.rank() > 0) BOOST_TEST(read == loaded, way.name);
            if (copies && group.rank() == 0) BOOST_TEST(read == total, way.name);
            agree_on_checksums(group, reading);
        }
    group.barrier();
}

BOOST_AUTO_TEST_CASE(other_names_types_and_shapes_are_refused) {
    const parallel::HostGroup group;
    const std::vector<float> values(12);
    const auto tensor = [&](const std::string& name, DType dtype, Shape shape) {
        return FileTensor{name, {dtype, shape, reinterpret_cast<const std::byte*>(values.data())}, SOURCE_FOLDER, {}};
    };
    const bool other = group.rank() == group.size() - 1;
    const auto said_of = [&](const std::vector<FileTensor>& mine) {
        return sentence_of([&] {
            plan_reading(group, "the model in DIR",
                         other ? mine
                               : std::vector<FileTensor>{tensor("a", DType::float32, {3, 4}),
                                                         tensor("b", DType::float32, {12})});
        });
    };
    const auto refused = [&](const std::vector<FileTensor>& mine, const std::string& words) {
        const std::string said = said_of(mine);
        if (group.size() == 1) BOOST_TEST(said.empty(), said);
        else BOOST_TEST((says(said, "the model in DIR on node ") && says(said, words)), said);
    };
    refused({tensor("a", DType::float32, {3, 4})}, "lacks the tensor 'b'");
    refused({tensor("a", DType::float32, {3, 4}), tensor("b", DType::float32, {12}), tensor("c", DType::float32, {1})},
            "has a tensor 'c'");
    refused({tensor("a", DType::float32, {4, 3}), tensor("b", DType::float32, {12})}, "has 'a' as float32 (4, 3)");
    refused({tensor("a", DType::bfloat16, {3, 4}), tensor("b", DType::float32, {12})}, "has 'a' as bfloat16 (3, 4)");
}

BOOST_AUTO_TEST_SUITE_END()
