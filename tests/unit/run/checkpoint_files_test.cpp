// Names of checkpoint files, which one a run resumes from, and which ones are removed. Contents are tested by
// tests/mpi/checkpoint_test.cpp and tests/mpi/checkpoint_mesh_test.cpp.
#include "run/checkpoint_files.h"

#include <boost/test/unit_test.hpp>
#include <numeric>

#include "tests/unit/train/train_testing.h"
#include "train/checkpoint.h"

using namespace longlora;
using namespace train_testing;

namespace {

/// Writes a complete small checkpoint file and returns its path.
std::string write_checkpoint(const std::string& run, std::int64_t step) {
    create_folders(checkpoint_folder(run));
    const std::string path = checkpoint_folder(run) + "/" + checkpoint_name(step);
    const auto layout = create_named_tensor_file(path + ".partial", kCheckpointFormat, kCheckpointVersion,
                                                 {{"master/a", DType::float32, {1000}}}, to_line({{"step", step}}));
    std::vector<float> values(1000);
    std::iota(values.begin(), values.end(), static_cast<float>(step));
    std::vector<ChecksumPiece> pieces;
    const auto file = FileHandle::open_write(layout.path);
    write_slice(file, layout, 0, 0, values.data(), 4000, pieces);
    write_checksums(file, layout, pieces);
    rename_file(layout.path, path);
    return path;
}

std::vector<std::int64_t> steps_of(const std::string& run) {
    std::vector<std::int64_t> steps;
    for (const auto& file : list_checkpoints(run)) steps.push_back(file.step);
    return steps;
}

void damage(const std::string& path) {
    flip_bit(path, NamedTensorReader(path, kCheckpointFormat, kCheckpointVersion).entry("master/a").offset + 77);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint_files)

BOOST_AUTO_TEST_CASE(names) {
    BOOST_TEST(checkpoint_name(120) == "step-00000120.h5");
    for (const std::int64_t step :
         {std::int64_t{0}, std::int64_t{1}, std::int64_t{99999999}, std::int64_t{1234567890123}})
        BOOST_TEST(step_of_checkpoint("some/where/" + checkpoint_name(step)) == step);
    for (const char* name : {"step-00000120.h5.partial", "step-00000120.h5.damaged", "step-.h5", "step-12.h5",
                             "step--0000012.h5", "step-0000012x.h5", "latest", "xstep-00000120.h5", ".h5"})
        BOOST_TEST(step_of_checkpoint(name) == -1);
}

BOOST_AUTO_TEST_CASE(the_newest_is_found) {
    const TemporaryFolder folder;
    const std::string run = folder.path();
    BOOST_TEST(says(sentence_of([&] { newest_checkpoint(run); }), {run, "no checkpoint"}));
    BOOST_TEST(says(sentence_of([&] { newest_checkpoint(run + "/nowhere"); }), {"nowhere"}));
    BOOST_TEST(find_checkpoint_to_resume(run).path == "");
    const std::string five = write_checkpoint(run, 5), ten = write_checkpoint(run, 10);
    write_text_file(checkpoint_folder(run) + "/step-00000015.h5.partial", "x");
    BOOST_TEST(newest_checkpoint(run) == ten);
    BOOST_TEST(newest_checkpoint(five) == five);
    BOOST_TEST(find_checkpoint_to_resume(run).path == ten);
    BOOST_TEST(find_checkpoint_to_resume(run).damaged.empty());
    BOOST_TEST(read_checkpoint_attributes(ten)["step"] == 10);
}

BOOST_AUTO_TEST_CASE(damaged_checkpoints_are_set_aside) {
    const TemporaryFolder folder;
    const std::string run = folder.path();
    for (const std::int64_t step : {5, 10, 15, 20}) write_checkpoint(run, step);
    damage(checkpoint_folder(run) + "/" + checkpoint_name(20));
    const std::string fifteen = checkpoint_folder(run) + "/" + checkpoint_name(15);
    FileHandle::open_write(fifteen).truncate(3000);  // as after a power cut
    const Resumable found = find_checkpoint_to_resume(run);
    BOOST_TEST(found.path == checkpoint_folder(run) + "/" + checkpoint_name(10));
    refuse_if_only_damaged(run, found);
    BOOST_TEST(steps_of(run).size() == 4u);  // find_checkpoint_to_resume changes no file
    const std::vector<std::string> notes = set_damaged_aside(found);
    BOOST_REQUIRE_EQUAL(notes.size(), 2u);
    BOOST_TEST(says(notes[0], {checkpoint_name(20), "damaged", "master/a"}));
    BOOST_TEST(says(notes[1], {checkpoint_name(15)}));
    BOOST_TEST(steps_of(run) == (std::vector<std::int64_t>{5, 10}), boost::test_tools::per_element());
    BOOST_TEST(file_exists(fifteen + ".damaged"));
    for (const std::int64_t step : {5, 10}) damage(checkpoint_folder(run) + "/" + checkpoint_name(step));
    for (int again = 0; again < 2; ++again)  // a requeued job must not start from the beginning either
        BOOST_TEST(says(sentence_of([&] { refuse_if_only_damaged(run, find_checkpoint_to_resume(run)); }),
                        {"no checkpoint of", "start from the beginning"}));
    for (const std::int64_t step : {5, 10}) remove_file(checkpoint_folder(run) + "/" + checkpoint_name(step));
    // Checkpoints that were set aside earlier count as well.
    BOOST_TEST(
        says(sentence_of([&] { refuse_if_only_damaged(run, find_checkpoint_to_resume(run)); }), {"no checkpoint of"}));
}

BOOST_AUTO_TEST_CASE(a_checkpoint_with_the_name_of_another_step) {
    const TemporaryFolder folder;
    const std::string run = folder.path();
    for (const std::int64_t step : {2, 4}) write_checkpoint(run, step);
    const std::string ten = checkpoint_folder(run) + "/" + checkpoint_name(10);
    std::filesystem::copy_file(checkpoint_folder(run) + "/" + checkpoint_name(2), ten);
    const Resumable found = find_checkpoint_to_resume(run);
    BOOST_TEST(found.path == checkpoint_folder(run) + "/" + checkpoint_name(4));
    BOOST_REQUIRE_EQUAL(found.damaged.size(), 1u);
    BOOST_TEST(says(found.damaged[0].why, {ten, "has the state after step 2, not after step 10"}),
               found.damaged[0].why);
    set_damaged_aside(found);
    BOOST_TEST(steps_of(run) == (std::vector<std::int64_t>{2, 4}), boost::test_tools::per_element());
    rename_file(ten + ".damaged", folder / "elsewhere.h5");
    verify_checkpoint(folder / "elsewhere.h5");  // a name that says no step
}

/// What was set aside stays.
BOOST_AUTO_TEST_CASE(set_aside_again_and_again) {
    const TemporaryFolder folder;
    const std::string run = folder.path(), four = checkpoint_folder(run) + "/" + checkpoint_name(4);
    write_checkpoint(run, 2);
    std::vector<std::string> kept;
    for (const char* end : {".discarded", ".2.discarded", ".3.discarded"}) {
        write_checkpoint(run, 4);
        FileHandle::open_write(four).write_at(end, 3, 0);
        kept.push_back(read_text_file(four));
        discard_checkpoints_after(run, 2);
        BOOST_TEST(!file_exists(four));
        BOOST_TEST((read_text_file(four + end) == kept.back()));
    }
    BOOST_TEST((read_text_file(four + ".discarded") == kept.front()));
    for (const char* end : {".damaged", ".2.damaged"}) {
        write_checkpoint(run, 4);
        damage(four);
        const auto notes = set_damaged_aside(find_checkpoint_to_resume(run));
        BOOST_REQUIRE_EQUAL(notes.size(), 1u);
        BOOST_TEST(says(notes[0], {"moved to " + checkpoint_name(4) + end}), notes[0]);
        BOOST_TEST(file_exists(four + end));
    }
}

BOOST_AUTO_TEST_CASE(a_flip_of_any_byte_is_noticed) {
    const TemporaryFolder folder;
    const std::string path = write_checkpoint(folder.path(), 5);
    const auto entry = NamedTensorReader(path, kCheckpointFormat, kCheckpointVersion).entry("master/a");
    for (const std::int64_t at : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2048}, std::int64_t{3999}}) {
        flip_bit(path, entry.offset + at);
        BOOST_TEST(says(sentence_of([&] { verify_checkpoint(path); }), {path, "master/a", "damaged"}));
        flip_bit(path, entry.offset + at);
        BOOST_TEST(sentence_of([&] { verify_checkpoint(path); }) == "");
    }
    flip_bit(path, entry.checksums_offset);
    BOOST_TEST(sentence_of([&] { verify_checkpoint(path); }) != "");
}

BOOST_AUTO_TEST_CASE(removed_and_discarded_checkpoints) {
    const TemporaryFolder folder;
    const std::string run = folder.path();
    for (const std::int64_t step : {5, 10, 15, 20, 25}) write_checkpoint(run, step);
    const std::string partial = checkpoint_folder(run) + "/step-00000030.h5.partial";
    write_text_file(partial, "half");
    remove_partials(run);
    BOOST_TEST(!file_exists(partial));
    discard_checkpoints_after(run, 20);
    BOOST_TEST(steps_of(run) == (std::vector<std::int64_t>{5, 10, 15, 20}), boost::test_tools::per_element());
    BOOST_TEST(read_text_file(checkpoint_folder(run) + "/latest") == "step-00000020.h5\n");
    BOOST_TEST(file_exists(checkpoint_folder(run) + "/step-00000025.h5.discarded"));
    remove_old_checkpoints(run, 3, 20);
    BOOST_TEST(steps_of(run) == (std::vector<std::int64_t>{10, 15, 20}), boost::test_tools::per_element());
    remove_old_checkpoints(run, 0, 10);  // the newest stays, and so does the one named here
    BOOST_TEST(steps_of(run) == (std::vector<std::int64_t>{10, 20}), boost::test_tools::per_element());
    discard_checkpoints_after(run, 0);
    BOOST_TEST(steps_of(run).empty());
    BOOST_TEST(!file_exists(checkpoint_folder(run) + "/latest"));
}

BOOST_AUTO_TEST_SUITE_END()
