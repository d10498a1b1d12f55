// Which checkpoint the ranks read if they see different listings of a run folder. Each rank has a folder of its own,
// which stands for its view.
#include "jobs/command_line/same_checkpoint.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint_testing.h"
#include "io/json.h"
#include "io/named_tensor_file.h"
#include "run/checkpoint_files.h"

using namespace longlora;
using namespace checkpoint_testing;

namespace {

/// The run folder as this rank sees it.
class View {
public:
    explicit View(const parallel::HostGroup& group)
        : shared_(group),
          path_(text(shared_.path(), "/seen-by-", group.rank())) {
        std::filesystem::create_directories(checkpoint_folder(path_));
    }
    const std::string& path() const { return path_; }
    std::string file(std::int64_t step) const { return checkpoint_folder(path_) + "/" + checkpoint_name(step); }
    void add(std::int64_t step, float value, std::int64_t seed = 0) const {
        const NamedTensorLayout layout =
            create_named_tensor_file(file(step), kCheckpointFormat, kCheckpointVersion,
                                     {{"master/x", DType::float32, {1}}}, to_line({{"step", step}, {"seed", seed}}));
        const FileHandle handle = FileHandle::open_write(file(step));
        std::vector<ChecksumPiece> pieces;
        write_slice(handle, layout, 0, 0, &value, 4, pieces);
        write_checksums(handle, layout, pieces);
    }
    void remove(std::int64_t step) const { std::filesystem::remove(file(step)); }

private:
    SharedFolder shared_;
    std::string path_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(same_checkpoint)

BOOST_AUTO_TEST_CASE(rank_0_decides_which_is_the_newest) {
    const parallel::HostGroup group;
    const View view(group);
    view.add(10, 1), view.add(20, 2);
    if (group.rank() != 0) view.add(30, 3);  // rank 0 has an old listing
    BOOST_TEST(newest_checkpoint_on_all_ranks(group, view.path()) == view.file(20));
    BOOST_TEST(newest_checkpoint_on_all_ranks(group, view.file(10)) == view.file(10));
    if (group.rank() == 0) view.add(30, 3);
    BOOST_TEST(newest_checkpoint_on_all_ranks(group, view.path()) == view.file(30));
    group.barrier();
}

BOOST_AUTO_TEST_CASE(a_rank_that_does_not_see_it_is_refused) {
    const parallel::HostGroup group;
    const View view(group);
    view.add(10, 1);
    if (group.rank() == 0) view.add(20, 2);  // the others have an old listing
    const std::string sentence = sentence_of([&] { newest_checkpoint_on_all_ranks(group, view.path()); });
    if (group.size() == 1) BOOST_TEST(sentence.empty(), sentence);
    else BOOST_TEST((says(sentence, checkpoint_name(20)) && says(sentence, "(on rank 1)")), sentence);
    group.barrier();
}

BOOST_AUTO_TEST_CASE(another_content_is_refused) {
    const parallel::HostGroup group;
    const View view(group);
    const bool last = group.rank() == group.size() - 1;
    const auto refused = [&] {
        return says(sentence_of([&] { newest_checkpoint_on_all_ranks(group, view.path()); }),
                    "differs from that on rank 0");
    };
    view.add(10, 1);
    BOOST_TEST(!refused());
    view.remove(10);
    view.add(10, last ? 2 : 1);  // other values
    BOOST_TEST(refused() == (group.size() > 1));
    view.remove(10);
    view.add(10, 1, last ? 1 : 0);  // other attributes
    BOOST_TEST(refused() == (group.size() > 1));
    group.barrier();
}

BOOST_AUTO_TEST_SUITE_END()
