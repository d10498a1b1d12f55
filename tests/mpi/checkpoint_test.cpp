// Saving and loading on as many ranks as mpirun started: any number of ranks writes the same bytes, loaded weights have
// the same bits, and training does not disturb a snapshot. Checks do not throw: a rank that left early would hang the
// others. Failures are tested by tests/mpi/checkpoint_failures_test.cpp.
#include "train/checkpoint.h"

#include <boost/test/unit_test.hpp>
#include <thread>

#include "checkpoint_testing.h"
#include "io/checksum.h"
#include "io/file.h"

using namespace longlora;
using namespace checkpoint_testing;

namespace {

const Json kAttributes = {{"seed", 7}, {"loss", 0.1}};

/// Polls as the step loop does, until the save has ended.
SaveReport poll_until_done(CheckpointSaver& saver) {
    for (;;) {
        const std::vector<SaveReport> reports = saver.poll();
        if (!reports.empty()) return reports.back();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

/// Elements of the file that differ from what fill(weights, generation) wrote, plus tensors of a wrong shape or number.
std::int64_t num_wrong_in_file(const std::string& path, const Weights& weights, std::uint64_t generation) {
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    std::int64_t wrong = 0;
    std::size_t num_tensors = 0;
    const char* kinds[] = {"master/", "moment1/", "moment2/"};
    for (const Parameter& p : weights.list().parameters)
        for (int which = 0; p.trainable && which <= 2; ++which, ++num_tensors) {
            std::vector<std::uint32_t> bits(p.shape.count());
            wrong += !(reader.entry(kinds[which] + p.name).shape == p.shape);
            reader.read(kinds[which] + p.name, 0, p.shape.count(), bits.data());
            for (std::int64_t i = 0; i < p.shape.count(); ++i)
                wrong += bits[i] != std::bit_cast<std::uint32_t>(value_of(p.name, which, i, generation));
        }
    return wrong + static_cast<std::int64_t>(reader.entries().size() - num_tensors);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(any_number_of_ranks_writes_the_same_file) {
    const parallel::HostGroup world;
    const SharedFolder folder(world);
    for (int ranks = 1; ranks <= world.size(); ++ranks) {
        MPI_Comm part = MPI_COMM_NULL;
        MPI_Comm_split(world.handle(), world.rank() < ranks ? 0 : MPI_UNDEFINED, world.rank(), &part);
        if (part != MPI_COMM_NULL) {
            const parallel::HostGroup group(part);
            Fixture f(DType::float32, {}, true, part);
            fill(*f.weights, 1);
            for (const bool foreground : {false, true}) {
                const SaverOptions options{text(folder.path(), "/", ranks, foreground ? "f" : "b"), 3,
                                           foreground ? 0 : std::int64_t{1} << 30, 300000};
                CheckpointSaver saver(group, *f.weights, options);
                saver.begin_save(12, kAttributes);
                const SaveReport report = poll_until_done(saver);
                BOOST_CHECK(report.saved && report.sentence.empty() && report.step == 12);
                BOOST_CHECK(report.bytes == FileHandle::open_read(report.path).size());
            }
            MPI_Comm_free(&part);
        }
    }
    world.barrier();
    const std::string first = folder.path() + "/1b/checkpoints/step-00000012.h5";
    const std::string expected = sha256_of_file(first);
    BOOST_CHECK(num_wrong_in_file(first, *Fixture().weights, 1) == 0);
    for (int ranks = 1; ranks <= world.size(); ++ranks)
        for (const char* how : {"b", "f"})
            BOOST_CHECK(sha256_of_file(text(folder.path(), "/", ranks, how, "/checkpoints/step-00000012.h5")) ==
                        expected);
    Json attributes = kAttributes;
    attributes["step"] = 12;
    BOOST_CHECK(read_checkpoint_attributes(first) == attributes);
    world.barrier();
}

BOOST_AUTO_TEST_CASE(training_continues_while_a_snapshot_is_written) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    Fixture f;
    CheckpointSaver saver(group, *f.weights, {folder.path(), 2});
    BOOST_CHECK(saver.poll().empty());
    BOOST_CHECK(saver.finish().empty());
    for (std::uint64_t step = 1; step <= 5; ++step) {
        fill(*f.weights, step);
        saver.begin_save(step, kAttributes);  // waits for the previous save, whose report comes later
        BOOST_CHECK(saver.under_way());
        fill(*f.weights, 100 + step);
    }
    const std::vector<SaveReport> reports = saver.finish();
    BOOST_CHECK(reports.size() == 5);
    for (std::size_t i = 0; i < reports.size(); ++i)
        BOOST_CHECK(reports[i].saved && reports[i].step == static_cast<std::int64_t>(i) + 1);
    BOOST_CHECK(!saver.under_way());
    const std::vector<CheckpointFile> files = list_checkpoints(folder.path());  // keep = 2
    BOOST_CHECK(files.size() == 2 && files[0].step == 4 && files[1].step == 5);
    for (const CheckpointFile& file : files) BOOST_CHECK(num_wrong_in_file(file.path, *f.weights, file.step) == 0);
    BOOST_CHECK(read_text_file(folder.path() + "/checkpoints/latest") == "step-00000005.h5\n");
    group.barrier();

    fill(*f.weights, 6);  // the end of a run
    const SaveReport last = saver.save_now(6, kAttributes);
    BOOST_CHECK(last.saved && num_wrong_in_file(last.path, *f.weights, 6) == 0);
    BOOST_CHECK(saver.save_now(6, kAttributes).path == last.path);  // this checkpoint exists already
    BOOST_CHECK(saver.poll().empty());
    group.barrier();
}

BOOST_AUTO_TEST_CASE(loading_gives_every_bit_back) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    Fixture f;
    fill(*f.weights, 3);
    const std::string path = CheckpointSaver(group, *f.weights, {folder.path(), 2}).save_now(3, kAttributes).path;
    {
        Fixture other;
        const Json attributes = load_checkpoint(*other.weights, path);
        BOOST_CHECK(attributes["step"] == 3 && attributes["loss"].get<double>() == 0.1);
        BOOST_CHECK(num_wrong(*other.weights, 3) == 0);
    }
    {  // weights that are not trained have no moments
        Fixture evaluating(DType::float32, {}, false);
        load_checkpoint(*evaluating.weights, path);
        BOOST_CHECK(num_wrong(*evaluating.weights, 3, 0) == 0);
    }
    {  // the rounded weights are made from the loaded masters
        Fixture rounded(DType::bfloat16);
        load_checkpoint(*rounded.weights, path);
        BOOST_CHECK(num_wrong(*rounded.weights, 3) == 0);
        std::int64_t wrong = 0;
        for (const Parameter& p : rounded.weights->list().parameters) {
            if (!p.trainable) continue;
            const std::vector<bf16> found = read_device<bf16>(*rounded.device, rounded.weights->weight(p));
            for (std::int64_t i = 0; i < p.shape.count(); ++i)
                wrong += !is_rounded(found[i], value_of(p.name, 0, i, 3));
        }
        BOOST_CHECK(wrong == 0);
    }
    group.barrier();
}

BOOST_AUTO_TEST_CASE(other_models_and_damage_are_refused) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    Fixture f;
    fill(*f.weights, 4);
    const std::string path = CheckpointSaver(group, *f.weights, {folder.path(), 2}).save_now(4, kAttributes).path;
    TrainableSet rank4, no_norms, more_targets;
    rank4.lora_rank = 4;
    no_norms.norm = false;
    more_targets.lora_targets.push_back(Projection::up);
    const auto refusal = [&](const TrainableSet& trainables) {
        Fixture other(DType::float32, trainables);
        fill(*other.weights, 9);
        const std::string sentence = sentence_of([&] { load_checkpoint(*other.weights, path); });
        BOOST_CHECK(num_wrong(*other.weights, 9) == 0);  // nothing was touched
        return sentence;
    };
    BOOST_CHECK(says(refusal(rank4), "lora_A.weight has shape (8, 40)") && says(refusal(rank4), "(4, 40)"));
    BOOST_CHECK(says(refusal(no_norms), "layernorm.weight"));
    BOOST_CHECK(says(refusal(more_targets), "has no tensor master/model.layers.0.mlp.up_proj.lora_A.weight"));
    group.barrier();

    if (group.rank() == 0) {
        const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
        const TensorEntry entry = reader.entry("moment2/model.embed_tokens.weight");
        const FileHandle file = FileHandle::open_write(path);
        char byte = 0;
        FileHandle::open_read(path).read_at(&byte, 1, entry.offset + 3000000);
        byte = static_cast<char>(byte ^ 1);
        file.write_at(&byte, 1, entry.offset + 3000000);
    }
    group.barrier();
    const std::string sentence = sentence_of([&] { load_checkpoint(*f.weights, path); });
    BOOST_CHECK(says(sentence, path) && says(sentence, "moment2/model.embed_tokens.weight") &&
                says(sentence, "damaged"));
    group.barrier();
    // The only checkpoint is damaged.
    const std::string none =
        sentence_of([&] { refuse_if_only_damaged(folder.path(), find_checkpoint_to_resume(folder.path())); });
    BOOST_CHECK(says(none, "step-00000004.h5 is damaged") && says(none, "no checkpoint of"));
    BOOST_CHECK(file_exists(path));
    group.barrier();
}

BOOST_AUTO_TEST_SUITE_END()
