// Checkpoints from and to any mesh. A file saved by ranks that share the weights at any ZeRO stage, or by the stages of
// a pipeline, has the same bytes as a file saved by one rank. Loaded at any other ZeRO stage and on any other number of
// ranks, every bit comes back. Checks do not throw: a rank that left early would hang the others.
#include <boost/test/unit_test.hpp>

#include "checkpoint_testing.h"
#include "io/checksum.h"
#include "train/checkpoint.h"

using namespace longlora;
using namespace checkpoint_testing;

namespace {

/// A model smaller than small_config() with irregular shards: a shard holds several parameters, and a parameter lies in
/// several shards.
ModelConfig mesh_config(bool tied) {
    ModelConfig config = small_config();
    config.num_layers = 4;
    config.vocabulary = 997;
    config.tied = tied;
    return config;
}

TrainableSet trainables_of(bool lm_head) {
    TrainableSet set;
    set.lm_head = lm_head;
    return set;
}

/// How some ranks hold a model: `stages` pipeline stages, each shared by consecutive ranks.
struct Holding {
    int zero = 0;
    int stages = 1;
    DType real = DType::float32;
    bool training = true;
};

/// This rank's part of a model over all ranks of `world`. The ranks of a stage are consecutive; where the number of
/// stages does not divide the number of ranks, some stages have one rank more.
struct Held {
    MPI_Comm ranks = MPI_COMM_NULL;
    std::unique_ptr<Fixture> fixture;
    Held(const ModelConfig& config, const Holding& holding, MPI_Comm world = MPI_COMM_WORLD) {
        int rank = 0, size = 1;
        MPI_Comm_rank(world, &rank), MPI_Comm_size(world, &size);
        const int stage = rank * holding.stages / size;
        MPI_Comm_split(world, stage, rank, &ranks);
        const parallel::Shard layers = parallel::even_share_of(config.num_layers, stage, holding.stages);
        fixture = std::make_unique<Fixture>(config, trainables_of(!config.tied),
                                            WeightsOptions{holding.real, holding.real, holding.training, holding.zero},
                                            Stage{layers.begin, layers.count, stage == 0, stage == holding.stages - 1},
                                            ranks);
    }
    ~Held() { MPI_Comm_free(&ranks); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    Weights& weights() const { return *fixture->weights; }
};

/// Elements of the weights kept on this rank that operations would read and that are not the masters of `generation`.
std::int64_t num_wrong_weights(const Weights& weights, std::uint64_t generation) {
    std::int64_t wrong = 0;
    const auto compare = [&](ConstTensor found, const Parameter& p, std::int64_t begin) {
        const auto each = [&](const auto& values, const auto& same) {
            for (std::size_t i = 0; i < values.size(); ++i)
                wrong += !same(values[i], value_of(p.name, 0, begin + static_cast<std::int64_t>(i), generation));
        };
        if (weights.options().real == DType::float32) each(read_device<float>(weights.device(), found), same_bits);
        else each(read_device<bf16>(weights.device(), found), is_rounded);
    };
    if (weights.options().zero < 3) {
        for (const Parameter& p : weights.list().parameters)
            if (p.trainable) compare(weights.weight(p), p, 0);
    } else if (weights.options().real != DType::float32) {
        for (const OwnedPart& part : weights.owned_parts())
            compare(weights.own_weight(part.parameter->unit).slice(part.in_own, part.in_parameter.count),
                    *part.parameter, part.in_parameter.begin);
    }
    return wrong;
}

std::string name_of(const Holding& h) {
    return text("ZeRO ", h.zero, ", ", h.stages, " stage(s), ", longlora::name_of(h.real),
                h.training ? "" : ", evaluation");
}

/// Saves generation 1 from a holding and returns the path of the file.
std::string save(const ModelConfig& config, const Holding& holding, const parallel::HostGroup& group,
                 const std::string& run, MPI_Comm world = MPI_COMM_WORLD) {
    const Held held(config, holding, world);
    fill(held.weights(), 1);
    CheckpointSaver saver(group, held.weights(), {run, 3});
    if (holding.zero % 2) return saver.save_now(12, {{"seed", 7}}).path;  // in the foreground
    saver.begin_save(12, {{"seed", 7}});
    const std::vector<SaveReport> reports = saver.finish();
    BOOST_CHECK(reports.size() == 1 && reports[0].saved && reports[0].sentence.empty());
    return reports.empty() ? "" : reports[0].path;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint_mesh)

BOOST_AUTO_TEST_CASE(every_holding_writes_the_bytes_that_one_rank_writes) {
    const parallel::HostGroup world, self(MPI_COMM_SELF);
    const SharedFolder folder(world);
    for (const bool tied : {false, true}) {
        const ModelConfig config = mesh_config(tied);
        const std::string alone =
                              save(config, {}, self, text(folder.path(), "/alone", tied, world.rank()), MPI_COMM_SELF),
                          expected = sha256_of_file(alone);
        for (const DType real : {DType::float32, DType::bfloat16})
            for (int stages = 1; stages <= std::min(world.size(), 4); ++stages)
                for (const int zero : {0, 1, 2, 3}) {
                    const Holding holding{zero, stages, real};
                    const std::string path =
                        save(config, holding, world, text(folder.path(), "/", tied, int(real), stages, zero));
                    BOOST_CHECK_MESSAGE(sha256_of_file(path) == expected, name_of(holding) << (tied ? ", tied" : ""));
                    world.barrier();
                }
    }
}

BOOST_AUTO_TEST_CASE(every_holding_loads_what_another_one_saved) {
    const parallel::HostGroup world;
    const SharedFolder folder(world);
    for (const bool tied : {false, true}) {
        const ModelConfig config = mesh_config(tied);
        const std::string path = save(config, {3, std::min(world.size(), 2)}, world, text(folder.path(), "/", tied));
        for (const MPI_Comm ranks : {MPI_COMM_WORLD, MPI_COMM_SELF})
            for (const DType real : {DType::float32, DType::bfloat16})
                for (int stages = 1; stages <= (ranks == MPI_COMM_SELF ? 1 : std::min(world.size(), 4)); ++stages)
                    for (const int zero : {0, 1, 2, 3})
                        for (const bool training : {true, false}) {
                            const Holding holding{zero, stages, real, training};
                            const Held held(config, holding, ranks);
                            if (training) fill(held.weights(), 2);  // other values
                            const Json attributes = load_checkpoint(held.weights(), path);
                            BOOST_CHECK(attributes["step"] == 12 && attributes["seed"] == 7);
                            BOOST_CHECK_MESSAGE(num_wrong(held.weights(), 1, training ? 2 : 0) == 0,
                                                name_of(holding) << (tied ? ", tied" : ""));
                            BOOST_CHECK_MESSAGE(num_wrong_weights(held.weights(), 1) == 0,
                                                "what operations read, " << name_of(holding) << (tied ? ", tied" : ""));
                        }
        world.barrier();
    }
}

/// Tensors are read from files, and initial values are made, in pieces of 4 Mi elements.
BOOST_AUTO_TEST_CASE(tensors_of_several_pieces) {
    const parallel::HostGroup world;
    const SharedFolder folder(world);
    ModelConfig config = mesh_config(true);
    config.vocabulary = 110001;
    const std::string path = save(config, {1, 1}, world, folder.path());
    for (const int zero : {0, 3}) {
        const Held held(config, {zero, 1, DType::bfloat16}, MPI_COMM_WORLD);
        load_checkpoint(held.weights(), path);
        BOOST_CHECK(num_wrong(held.weights(), 1) == 0 && num_wrong_weights(held.weights(), 1) == 0);
        initialise_model(held.weights(), 4);
        std::int64_t wrong = 0;
        for (const OwnedPart& part : held.weights().owned_parts()) {
            if (part.parameter->group != ParameterGroup::embedding) continue;
            const std::vector<float> found =
                read_device<float>(held.weights().device(), tensor_of(held.weights(), part, 0));
            for (std::size_t i = 0; i < found.size(); ++i)
                wrong += found[i] !=
                         static_cast<float>(config.initializer_range *
                                            random_normal(4, stream_of(part.parameter->name),
                                                          static_cast<std::uint64_t>(part.in_parameter.begin) + i));
        }
        BOOST_CHECK(wrong == 0);
    }
    world.barrier();
}

/// A checkpoint whose parameters differ from those of another stage only is refused by this stage as well.
BOOST_AUTO_TEST_CASE(every_stage_looks_at_all_names) {
    const parallel::HostGroup world, self(MPI_COMM_SELF);
    const SharedFolder folder(world);
    const ModelConfig config = mesh_config(false);
    const std::string path = save(config, {}, self, text(folder.path(), "/", world.rank()), MPI_COMM_SELF);
    Fixture first_stage(config, trainables_of(false), {DType::float32, DType::float32, true, 3}, {0, 2, true, false},
                        MPI_COMM_WORLD);
    fill(*first_stage.weights, 2);
    BOOST_CHECK(says(sentence_of([&] { load_checkpoint(*first_stage.weights, path); }), "lm_head.weight"));
    BOOST_CHECK(num_wrong(*first_stage.weights, 2) == 0);
    world.barrier();
}

BOOST_AUTO_TEST_SUITE_END()
