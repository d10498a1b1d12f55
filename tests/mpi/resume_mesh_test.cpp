// Resuming from a checkpoint on another mesh. A checkpoint that any mesh and ZeRO stage saved in the middle of a
// training is loaded by any other mesh to the bit; the sequences that follow are those that one rank reads; the losses
// of the next steps are those of the run that was not interrupted, with the same bits on the mesh that saved.
#include <boost/test/unit_test.hpp>
#include <fstream>

#include "checkpoint_testing.h"
#include "io/shared_file.h"
#include "io/token_file.h"
#include "parallel/kv_exchange.h"
#include "tests/support/mesh_training.h"
#include "train/trainer.h"

using namespace longlora;
using namespace longlora::mesh_testing;

namespace {

constexpr std::int64_t kSaved = 5, kSteps = 10;

/// A mesh of the first ranks of the world, and its ZeRO stage.
struct Place {
    parallel::MeshShape shape;
    int zero = 0;
};

std::vector<Place> places() {
    std::vector<Place> fit;
    for (const Place& p : {Place{{1, 1, 1}, 0}, Place{{2, 1, 1}, 0}, Place{{1, 2, 1}, 2}, Place{{1, 3, 1}, 3},
                           Place{{1, 1, 4}, 3}, Place{{2, 1, 2}, 1}})
        if (p.shape.num_ranks() <= size_of_world() && (p.shape.data != 3 || size_of_world() == 3)) fit.push_back(p);
    return fit;
}

/// Several documents in a sequence, tied weights, a global batch that neither 2 nor 3 divides, and a context that no
/// number of ranks divides.
Training training() {
    Training t;
    t.config = tiny_config(true);
    t.config.num_heads = 9, t.config.num_kv_heads = 3;
    t.context = 29;
    t.global_batch = 5;
    t.micro_batch = 2;
    t.documents = true;
    return t;
}

DataOrder make_order(const std::string& folder, const parallel::HostGroup& world, std::int64_t context) {
    const std::string path = folder + "/data.h5";
    if (world.rank() == 0) {
        TokenFileInfo info;
        info.tokenizer_kind = "none";
        info.vocabulary = kTinyVocabulary;
        std::vector<std::vector<std::int32_t>> documents;
        for (const std::int64_t length : {40, 7, 95, 3, 21, 61, 130, 18, 77, 9})
            documents.push_back(random_tokens(length, static_cast<std::uint64_t>(100 + documents.size())));
        write_token_file(path, info, documents);
    }
    world.barrier();
    return DataOrder({{std::make_shared<const TokenFile>(path), 1}}, context, SequenceOrder::shuffle, 3);
}

/// Overwrites all trainables, so that a value that loading a checkpoint does not restore is noticed.
void spoil(Weights& weights) {
    for (const Parameter& p : weights.list().parameters)
        if (p.trainable) {
            const std::vector<float> values(static_cast<std::size_t>(p.shape.count()), 7.5F);
            weights.set(p, {DType::float32, p.shape, reinterpret_cast<const std::byte*>(values.data())}, "the test");
        }
}

/// The number of elements of masters and moments, over all ranks, that differ from the file.
std::int64_t num_other_bits(const Weights& weights, MPI_Comm comm, const std::string& path) {
    const NamedTensorReader file(path, kCheckpointFormat, kCheckpointVersion);
    std::int64_t wrong = 0;
    for (int which = 0; which <= 2; ++which)
        for (const auto& [name, values] : gather(weights, comm, [&](std::int64_t unit) {
                 return which == 0 ? weights.own_master(unit) : weights.own_moment(unit, which);
             })) {
            std::vector<float> expected(values.size());
            file.read(std::array{"master/", "moment1/", "moment2/"}[static_cast<std::size_t>(which)] + name, 0,
                      static_cast<std::int64_t>(values.size()), expected.data());
            for (std::size_t i = 0; i < values.size(); ++i)
                wrong += !checkpoint_testing::same_bits(values[i], expected[i]);
        }
    return wrong;
}

/// One loss per step of a run.
using Losses = std::vector<double>;

/// Trains to step kSteps on a place, with all ranks of `comm`: from the beginning, with a save at step kSaved, or from
/// a checkpoint. Only rank 0 gets the losses.
Losses run(const Training& t, const DataOrder& order, const Place& place, MPI_Comm comm, const std::string& folder,
           const std::string& checkpoint) {
    MeshFixture f(t, comm, place.shape, place.zero);
    const parallel::HostGroup group(comm);
    if (!checkpoint.empty()) {
        spoil(*f.weights);
        BOOST_CHECK(load_checkpoint(*f.weights, checkpoint)["step"] == kSaved);
        BOOST_CHECK_EQUAL(num_other_bits(*f.weights, comm, checkpoint), 0);
    }
    if (group.rank() == 0) create_run_folder(folder);
    TrainerOptions options;
    options.run_folder = folder;
    options.schedule.steps = kSteps;
    options.step = t.options();
    options.step.optimizer.lr = options.step.optimizer.lr_embedding = options.step.optimizer.lr_norm = 1e-3;
    options.checkpoint_every = checkpoint.empty() ? kSaved : 0;
    options.checkpoint_minutes = 0;
    options.resumed_from = checkpoint;
    Losses losses;
    const TrainerMessages messages{[&](const StepReport& r) { losses.push_back(r.loss); }, [](const std::string&) {}};
    const TrainOutcome outcome = run_training({group, f.mesh, *f.model, order, t.activations(), Json::object(), {}},
                                              options, checkpoint.empty() ? 1 : kSaved + 1, messages);
    BOOST_CHECK(outcome.code == ExitCode::done && outcome.step == kSteps);
    return losses;
}

/// The checkpoint events in metrics.jsonl describe the files on disk.
void check_saves(const std::string& folder, const Training& t) {
    const std::int64_t values =
        3 * 4 * list_parameters(t.config, t.trainables).trainable_elements();  // masters and two moments in float32
    std::ifstream lines(folder + "/metrics.jsonl");
    int saves = 0;
    for (std::string line; std::getline(lines, line);) {
        const Json json = Json::parse(line);
        if (json.value("event", "") != "checkpoint") continue;
        ++saves;
        const auto bytes = json["bytes"].get<std::int64_t>(), most = json["most_bytes_of_a_rank"].get<std::int64_t>();
        BOOST_CHECK_EQUAL(bytes,
                          static_cast<std::int64_t>(std::filesystem::file_size(
                              checkpoint_folder(folder) + "/" + checkpoint_name(json["step"].get<std::int64_t>()))));
        // The file has one block, so one rank writes it all (shared_file_test.cpp in tests/unit/io has more blocks).
        // The other bytes of the file are names and checksums.
        BOOST_CHECK_LE(bytes, kWriterBlock);
        BOOST_CHECK_EQUAL(most, values);
        BOOST_CHECK(json["stalled_seconds"].get<double>() >= 0 &&
                    json["stalled_seconds"].get<double>() <= json["seconds"].get<double>());
    }
    BOOST_CHECK_EQUAL(saves, 2);
}

/// Calls work(communicator) on the first ranks of the world, while the others wait.
template <class Work> void on(const Place& place, const parallel::HostGroup& world, const Work& work) {
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Comm_split(MPI_COMM_WORLD, world.rank() < place.shape.num_ranks() ? 0 : MPI_UNDEFINED, world.rank(), &comm);
    if (comm != MPI_COMM_NULL) {
        work(comm);
        MPI_Comm_free(&comm);
    }
    world.barrier();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(resume_mesh)

BOOST_AUTO_TEST_CASE(any_mesh_resumes_from_any_other) {
    const parallel::HostGroup world;
    const checkpoint_testing::SharedFolder folder(world);
    const Training t = training();
    const DataOrder order = make_order(folder.path(), world, t.context);
    const auto name = [](const Place& p) { return text(p.shape.pipeline, p.shape.data, p.shape.sequence, p.zero); };
    for (const Place& saving : places()) {
        const std::string whole = text(folder.path(), "/", name(saving)),
                          checkpoint = checkpoint_folder(whole) + "/" + checkpoint_name(kSaved);
        Losses uninterrupted;
        on(saving, world, [&](MPI_Comm comm) { uninterrupted = run(t, order, saving, comm, whole, ""); });
        if (world.rank() == 0) check_saves(whole, t);
        for (const Place& resuming : places())
            BOOST_TEST_CONTEXT("saved on " << text_of(saving.shape, saving.zero) << ", resumed on "
                                           << text_of(resuming.shape, resuming.zero)) {
                Losses resumed;
                const bool same = saving.shape == resuming.shape && saving.zero == resuming.zero;
                on(resuming, world, [&](MPI_Comm comm) {
                    resumed = run(t, order, resuming, comm, text(whole, "-", name(resuming)), checkpoint);
                });
                if (world.rank() != 0) continue;
                BOOST_CHECK_EQUAL(resumed.size(), static_cast<std::size_t>(kSteps - kSaved));
                for (std::size_t i = 0; i < resumed.size(); ++i) {
                    const double expected = uninterrupted.at(kSaved + i);
                    BOOST_CHECK_LE(std::abs(resumed[i] - expected), (same ? 0 : 1e-5) * expected);
                }
            }
    }
}

/// The tokens that the ranks of a mesh read, put together, are those that one rank reads, from the first step of a
/// resumed run on.
BOOST_AUTO_TEST_CASE(every_mesh_reads_the_sequences_of_one_rank) {
    const parallel::HostGroup world;
    const checkpoint_testing::SharedFolder folder(world);
    const Training t = training();
    const DataOrder order = make_order(folder.path(), world, t.context);
    for (const parallel::MeshShape shape : meshes_of_world(size_of_world())) {
        const parallel::MeshCoordinate at = parallel::coordinate_of(shape, world.rank());
        const parallel::Shard local = parallel::tokens_of(t.context, at.sequence, shape.sequence);
        BatchReader reader(
            order, {t.global_batch, parallel::even_share_of(t.global_batch, at.data, shape.data), local, t.documents},
            kSaved + 1, kSteps);
        for (std::int64_t step = kSaved + 1; step <= kSteps; ++step) {
            const ReadBatch batch = reader.next();
            const Json mine{{"begin", local.begin},   {"count", local.count},   {"sequences", batch.sequences},
                            {"tokens", batch.tokens}, {"labels", batch.labels}, {"predictions", batch.num_predictions}};
            // (sequence, place in the sequence) -> token, label
            std::map<std::pair<std::int64_t, std::int64_t>, std::pair<int, int>> found;
            std::int64_t readers_of_each = 0, counted = 0;
            for (const std::string& other : world.all_gather(mine.dump())) {
                const Json part = Json::parse(other);
                const std::int64_t begin = part["begin"], count = part["count"];
                BOOST_CHECK_EQUAL(part["predictions"].get<std::int64_t>(), batch.num_predictions);
                for (std::size_t i = 0; i < part["tokens"].size(); ++i) {
                    const auto row = static_cast<std::int64_t>(i) / count,
                               column = static_cast<std::int64_t>(i) % count;
                    const std::pair<int, int> values{part["tokens"][i].get<int>(), part["labels"][i].get<int>()};
                    const auto [entry, is_new] = found.try_emplace(
                        {part["sequences"][static_cast<std::size_t>(row)].get<std::int64_t>(), begin + column}, values);
                    BOOST_CHECK(is_new || (shape.pipeline > 1 && entry->second == values));  // all stages read the same
                    ++readers_of_each;
                    counted += values.second >= 0;
                }
            }
            BOOST_TEST_CONTEXT(text_of(shape, 0) << ", step " << step) {
                BOOST_CHECK_EQUAL(readers_of_each, t.global_batch * t.context * shape.pipeline);
                BOOST_CHECK_EQUAL(counted, batch.num_predictions * shape.pipeline);
                BOOST_CHECK_LT(batch.num_predictions, t.global_batch * (t.context - 1));  // there are documents
                const ReadBatch one =
                    read_batch(order, {t.global_batch, {0, t.global_batch}, {0, t.context}, t.documents}, step);
                BOOST_CHECK_EQUAL(one.num_predictions, batch.num_predictions);
                // Fails on all ranks or on none, so no rank is left waiting.
                BOOST_REQUIRE_EQUAL(found.size(), one.tokens.size());
                std::size_t i = 0;
                for (const auto& [place, values] : found) {
                    BOOST_CHECK_EQUAL(place.first, one.sequences[i / static_cast<std::size_t>(t.context)]);
                    BOOST_CHECK((values == std::pair<int, int>{one.tokens[i], one.labels[i]}));
                    ++i;
                }
            }
        }
    }
}

BOOST_AUTO_TEST_SUITE_END()
