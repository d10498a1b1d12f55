// Saves that fail: a full disk, one rank that may not write, a folder that cannot be made. The partial file is removed,
// every rank gets the report, and training continues. Saves that succeed are tested by tests/mpi/checkpoint_test.cpp.
#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <cstring>

#include "checkpoint_testing.h"
#include "io/file.h"
#include "train/checkpoint.h"

using namespace longlora;
using namespace checkpoint_testing;

namespace {

/// A file system of 20 MB that rank 0 mounts in `folder`; `mounted` is false where mounting is not permitted.
struct SmallDisk {
    const parallel::HostGroup& group;
    std::string folder;
    bool mounted = false;
    SmallDisk(const parallel::HostGroup& g, const std::string& in) : group(g), folder(in) {
        mounted = group.any(group.rank() == 0 && ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=20m") == 0);
    }
    ~SmallDisk() {
        if (mounted && group.rank() == 0 && ::umount(folder.c_str()) != 0) ::umount2(folder.c_str(), MNT_DETACH);
    }
};

/// While such an object exists, this process cannot write a file beyond `bytes`.
struct FileSizeLimit {
    rlimit before{};
    void (*handler)(int);
    explicit FileSizeLimit(rlim_t bytes) {
        handler = std::signal(SIGXFSZ, SIG_IGN);
        ::getrlimit(RLIMIT_FSIZE, &before);
        const rlimit lower{bytes, before.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &lower);
    }
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before);
        std::signal(SIGXFSZ, handler);
    }
};

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint_failures)

BOOST_AUTO_TEST_CASE(a_full_disk) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    const SmallDisk disk(group, folder.path());
    if (!disk.mounted) {
        BOOST_TEST_MESSAGE("skipped: a_full_disk needs the right to mount a tmpfs");
        return;
    }
    Fixture f;
    CheckpointSaver saver(group, *f.weights, {folder.path(), 5});
    fill(*f.weights, 1);
    saver.begin_save(1, {});  // 13 MB fit once, not twice
    fill(*f.weights, 2);
    saver.begin_save(2, {});
    const std::vector<SaveReport> reports = saver.finish();
    BOOST_CHECK(reports.size() == 2 && reports[0].saved && !reports[1].saved && reports[1].step == 2);
    BOOST_CHECK(reports.size() == 2 && says(reports[1].sentence, "the checkpoint of step 2 was not saved") &&
                says(reports[1].sentence, std::strerror(ENOSPC)));
    BOOST_CHECK((names_in(folder.path() + "/checkpoints") == std::vector<std::string>{"latest", "step-00000001.h5"}));
    group.barrier();  // all ranks have looked at the folder
    const std::string sentence = sentence_of([&] { saver.save_now(3, {}); });
    BOOST_CHECK(says(sentence, "step 3") && says(sentence, std::strerror(ENOSPC)) && says(sentence, "make room") &&
                says(sentence, "step 1"));
    group.barrier();
    if (group.rank() == 0) std::filesystem::remove(folder.path() + "/checkpoints/step-00000001.h5");  // makes room
    group.barrier();
    saver.begin_save(4, {});
    const std::vector<SaveReport> after = saver.finish();
    BOOST_CHECK(after.size() == 1 && after[0].saved);
    Fixture other;
    if (!after.empty() && after[0].saved) load_checkpoint(*other.weights, after[0].path);
    BOOST_CHECK(num_wrong(*other.weights, 2) == 0);
    group.barrier();
}

BOOST_AUTO_TEST_CASE(one_rank_that_may_not_write) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    Fixture f;
    fill(*f.weights, 1);
    for (const std::int64_t snapshot : {std::int64_t{1} << 30, std::int64_t{0}}) {
        CheckpointSaver saver(group, *f.weights, {folder.path(), 5, snapshot});
        {
            // The last rank writes the end of the file. With one rank, creating the file fails already.
            std::unique_ptr<FileSizeLimit> limit;
            if (group.rank() == group.size() - 1) limit = std::make_unique<FileSizeLimit>(4 << 20);
            saver.begin_save(1, {});
            const std::vector<SaveReport> reports = saver.finish();
            BOOST_CHECK(reports.size() == 1 && !reports[0].saved && says(reports[0].sentence, std::strerror(EFBIG)));
            if (group.size() > 1) BOOST_CHECK(says(reports[0].sentence, text("(on rank ", group.size() - 1, ")")));
            BOOST_CHECK(says(sentence_of([&] { saver.save_now(2, {}); }), std::strerror(EFBIG)));
        }
        group.barrier();
        BOOST_CHECK(names_in(folder.path() + "/checkpoints").empty());
        group.barrier();
        BOOST_CHECK(saver.save_now(3, {}).saved);
        group.barrier();
        if (group.rank() == 0) std::filesystem::remove_all(folder.path() + "/checkpoints");
        group.barrier();
    }
}

BOOST_AUTO_TEST_CASE(no_folder_to_write_to) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    if (group.rank() == 0) write_text_file(folder.path() + "/checkpoints", "a file where the folder should be");
    group.barrier();
    Fixture f;
    CheckpointSaver saver(group, *f.weights, {folder.path(), 5});
    saver.begin_save(1, {});
    const std::vector<SaveReport> reports = saver.poll();
    BOOST_CHECK(reports.size() == 1 && !reports[0].saved && says(reports[0].sentence, folder.path()));
    group.barrier();
}

/// A run that ends by an exception: no rank finishes the save, and no rank communicates.
BOOST_AUTO_TEST_CASE(an_unfinished_save_is_dropped) {
    const parallel::HostGroup group;
    const SharedFolder folder(group);
    Fixture f;
    {
        CheckpointSaver saver(group, *f.weights, {folder.path(), 5});
        saver.begin_save(1, {});
    }
    group.barrier();
    BOOST_CHECK(names_in(folder.path() + "/checkpoints").empty());
    group.barrier();
}

BOOST_AUTO_TEST_SUITE_END()
