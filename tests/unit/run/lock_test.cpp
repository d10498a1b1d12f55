// The lock of a run folder. A second job is refused with the name of the holder. The lock of an ended process is taken
// over at once, that of a silent holder after the timeout. A holder that lost its lock notices.
#include "run/lock.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "core/clock.h"
#include "tests/unit/train/train_testing.h"

using namespace longlora;
using namespace train_testing;

namespace {

LockOptions quick(const std::string& job = "", const std::string& restart = "0") {
    LockOptions options;
    options.job = {"cluster", job, restart};
    options.timeout_seconds = 1.5;
    options.heartbeat_seconds = 0.1;
    return options;
}

void write_raw(const std::string& path, const std::string& content) {
    const FileHandle file = FileHandle::create(path);
    file.write_at(content.data(), static_cast<std::int64_t>(content.size()), 0);
}

/// A lock left by a process on another machine, about which this machine knows nothing.
std::string foreign_lock(const std::string& token, const std::string& job = "12") {
    return to_line({{"token", token},
                    {"cluster", "cluster"},
                    {"job", job},
                    {"restart", "3"},
                    {"host", "elsewhere"},
                    {"machine", "another"},
                    {"process", 77},
                    {"process_start", 5},
                    {"counter", "000000000009"}}) +
           "\n";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(run_lock)

BOOST_AUTO_TEST_CASE(a_second_job_is_told_the_holder) {
    const TemporaryFolder folder;
    {
        const LockFile lock(lock_of_run(folder.path()), quick("41", "2"));
        LockHolder holder;
        BOOST_REQUIRE(read_lock(lock_of_run(folder.path()), holder));
        BOOST_TEST(holder.token == lock.token());
        BOOST_TEST(holder_text(holder).find("job 41 (restart 2), process ") == 0u);
        BOOST_TEST(is_lock_of(lock_of_run(folder.path()), lock.token()));
        const double begin = now_seconds();
        const std::string refusal = sentence_of([&] { LockFile(lock_of_run(folder.path()), quick()); });
        BOOST_TEST(says(refusal, {folder.path(), "is in use by job 41 (restart 2)", text("process ", getpid()),
                                  "another --run"}),
                   refusal);
        BOOST_TEST(now_seconds() - begin < 1.5);  // the counter changed, so it did not wait for the timeout
        lock.require_held();
    }
    BOOST_TEST(!file_exists(folder / "lock"));  // the destructor removed it
    const LockFile again(lock_of_run(folder.path()), quick());
}

BOOST_AUTO_TEST_CASE(an_ended_process_of_this_machine_is_noticed_at_once) {
    const TemporaryFolder folder;
    const pid_t child = fork();
    if (child == 0) {
        const LockFile lock(lock_of_run(folder.path()), quick());
        _exit(0);  // as after a kill: the lock stays
    }
    int status = 0;
    waitpid(child, &status, 0);
    BOOST_REQUIRE(file_exists(folder / "lock"));
    LockOptions options = quick();
    options.timeout_seconds = 100;
    std::vector<std::string> told;
    options.say = [&](const std::string& sentence) { told.push_back(sentence); };
    const double begin = now_seconds();
    const LockFile lock(lock_of_run(folder.path()), options);
    BOOST_TEST(now_seconds() - begin < 20);
    BOOST_REQUIRE(told.size() == 1u);
    BOOST_TEST(says(told[0], {"took over the lock of", text("process ", child), "has ended"}), told[0]);
}

BOOST_AUTO_TEST_CASE(a_silent_holder_is_waited_for) {
    const TemporaryFolder folder;
    write_raw(folder / "lock", foreign_lock("f"));
    int asked = 0, waited = 0;
    LockOptions options = quick();
    options.has_ended = [&](const LockHolder& holder) {
        asked += holder.job.id == "12";
        return false;  // the scheduler does not know
    };
    options.waiting = [&] { ++waited; };
    const double begin = now_seconds();
    const LockFile lock(lock_of_run(folder.path()), options);
    BOOST_TEST(now_seconds() - begin >= 1.5);
    BOOST_TEST(asked == 1);
    BOOST_TEST(waited > 3);
    BOOST_TEST(is_lock_of(lock_of_run(folder.path()), lock.token()));
}

BOOST_AUTO_TEST_CASE(the_scheduler_may_know_that_the_holder_ended) {
    const TemporaryFolder folder;
    write_raw(folder / "lock", foreign_lock("f"));
    LockOptions options = quick();
    options.timeout_seconds = 100;
    options.has_ended = [](const LockHolder& holder) { return holder.job.id == "12" && holder.job.restart == "3"; };
    const double begin = now_seconds();
    const LockFile lock(lock_of_run(folder.path()), options);
    BOOST_TEST(now_seconds() - begin < 20);
}

BOOST_AUTO_TEST_CASE(an_incomplete_lock_file) {
    for (const std::string content : {"", "{\"clu", "{\"cluster\":\"cluster\",\"counter\":\"00"}) {
        const TemporaryFolder folder;
        write_raw(folder / "lock", content);
        const LockFile lock(lock_of_run(folder.path()), quick());
        BOOST_TEST(is_lock_of(lock_of_run(folder.path()), lock.token()));
    }
}

BOOST_AUTO_TEST_CASE(a_holder_that_lost_its_lock_notices) {
    const TemporaryFolder folder;
    {
        const LockFile lock(lock_of_run(folder.path()), quick());
        write_raw(folder / "lock", foreign_lock("another"));  // another job saw no heartbeat
        const std::string sentence = sentence_of([&] { lock.require_held(); });
        BOOST_TEST(
            says(sentence, {"was taken over by job 12 (restart 3), process 77 on elsewhere", "writes nothing more"}),
            sentence);
        write_raw(folder / "lock", foreign_lock("another"));
    }
    BOOST_TEST(
        is_lock_of(lock_of_run(folder.path()), "another"));  // a job that does not hold the lock does not remove it
}

/// The job that took over has ended since, and its lock file is gone.
BOOST_AUTO_TEST_CASE(a_lock_that_is_gone_is_lost) {
    const TemporaryFolder folder;
    const LockPlace place = lock_of_run(folder.path());
    const LockFile lock(place, quick());
    require_lock_of(place, lock.token());
    remove_file(folder / "lock");
    for (const std::string& sentence :
         {sentence_of([&] { lock.require_held(); }), sentence_of([&] { require_lock_of(place, lock.token()); })})
        BOOST_TEST(says(sentence, {folder / "lock", "is gone", "writes nothing more"}), sentence);
    BOOST_TEST(!file_exists(folder / "lock"));
}

/// The same with a holder that sleeps: SIGSTOP, another job takes over and ends, SIGCONT.
BOOST_AUTO_TEST_CASE(a_holder_that_was_asleep_is_ended_by_what_happened_since) {
    const TemporaryFolder folder;
    const LockPlace place = lock_of_run(folder.path());
    const pid_t child = fork();
    if (child == 0) {
        try {
            const LockFile lock(place, quick());
            for (int k = 0; k < 600; ++k) usleep(50000), lock.require_held();
            _exit(0);
        } catch (const Error&) {
            _exit(2);
        }
    }
    LockHolder holder;
    for (int k = 0; k < 600 && !read_lock(place, holder); ++k) usleep(50000);
    BOOST_REQUIRE(holder.process == child);
    kill(child, SIGSTOP);
    { const LockFile next(place, quick()); }
    BOOST_TEST(!file_exists(folder / "lock"));
    kill(child, SIGCONT);
    int status = 0;
    waitpid(child, &status, 0);
    BOOST_TEST((WIFEXITED(status) && WEXITSTATUS(status) == 2));
    BOOST_TEST(!file_exists(folder / "lock"));
}

/// Outputs have locks beside them. A file of that name that this program did not write is left alone.
BOOST_AUTO_TEST_CASE(locks_of_outputs) {
    const TemporaryFolder folder;
    const LockPlace place = lock_of_output(folder / "out.h5");
    {
        const LockFile lock(place, quick());
        BOOST_TEST(file_exists(folder / "out.h5.lock"));
        const std::string refusal = sentence_of([&] { LockFile(place, quick()); });
        BOOST_TEST(says(refusal, {"the output " + (folder / "out.h5"), "in use by process", "name another output"}),
                   refusal);
    }
    BOOST_TEST(!file_exists(folder / "out.h5.lock"));
    write_raw(folder / "out.h5.lock", "apt = 1");
    const std::string refusal = sentence_of([&] { LockFile(place, quick()); });
    BOOST_TEST(says(refusal, {"out.h5.lock", "is no lock of this program"}), refusal);
    BOOST_TEST(read_text_file(folder / "out.h5.lock") == "apt = 1");
}

/// Whatever the name of a file: only what this program wrote is taken over.
BOOST_AUTO_TEST_CASE(files_of_others_are_no_locks) {
    const TemporaryFolder folder;
    const LockPlace place = lock_of_output(folder / "out.h5");
    const std::string file = folder / "out.h5.lock";
    for (const std::string content :
         {"{}", "{\"token\": \"a\", \"work\": [1, 2]}", "{\n", "{\"cluster\":\"mine\"}\n"}) {
        write_raw(file, content);
        const std::string refusal = sentence_of([&] { LockFile(place, quick()); });
        BOOST_TEST(says(refusal, {"out.h5.lock", "is no lock of this program"}), content << ": " << refusal);
        BOOST_TEST(read_text_file(file) == content);
        remove_file(file);
    }
    std::filesystem::create_symlink("nowhere", file);  // it can neither be created nor be read
    const std::string refusal = sentence_of([&] { LockFile(place, quick()); });
    BOOST_TEST(says(refusal, {"out.h5.lock", "is a link"}), refusal);
}

/// A run folder that was copied while its job ran has a copy of the lock, which no heartbeat reaches.
BOOST_AUTO_TEST_CASE(the_copy_of_a_lock_is_taken_over) {
    const TemporaryFolder folder;
    const std::string run = folder / "run", copy = folder / "copy";
    for (const std::string& path : {run, copy}) create_folders(path);
    const LockFile lock(lock_of_run(run), quick());
    std::filesystem::copy_file(run + "/lock", copy + "/lock");
    LockOptions options = quick();
    std::vector<std::string> told;
    options.say = [&](const std::string& sentence) { told.push_back(sentence); };
    const double begin = now_seconds();
    const LockFile second(lock_of_run(copy), options);
    BOOST_TEST(now_seconds() - begin >= 1.5);
    BOOST_REQUIRE(!told.empty());
    BOOST_TEST(says(told.back(), {text("process ", getpid()), "is a copy"}), told.back());
    lock.require_held();
    second.require_held();
}

/// A holder that is awake here and has this very file open keeps it, even if its heartbeats do not arrive; and the wait
/// has an end.
BOOST_AUTO_TEST_CASE(a_holder_that_is_awake_keeps_its_lock) {
    const TemporaryFolder folder;
    LockOptions without_heartbeat = quick();
    without_heartbeat.heartbeat_seconds = 1000;
    const LockFile lock(lock_of_run(folder.path()), without_heartbeat);
    const double begin = now_seconds();
    const std::string refusal = sentence_of([&] { LockFile(lock_of_run(folder.path()), quick()); });
    BOOST_TEST(says(refusal, {"is in use by", text("process ", getpid()), "sent no heartbeat", "another --run"}),
               refusal);
    BOOST_TEST(now_seconds() - begin < 20);
    lock.require_held();
}

BOOST_AUTO_TEST_CASE(the_wait_can_be_ended) {
    const TemporaryFolder folder;
    write_raw(folder / "lock", foreign_lock("f"));
    LockOptions options = quick();
    options.timeout_seconds = 100;
    options.waiting = [] { fail("stopped", ExitCode::stopped); };
    BOOST_TEST(sentence_of([&] { LockFile(lock_of_run(folder.path()), options); }) == "stopped");
    BOOST_TEST(is_lock_of(lock_of_run(folder.path()), "f"));
}

/// Many processes find a stale lock at once: one gets it, all others are refused, and no temporary file is left.
BOOST_AUTO_TEST_CASE(one_of_many_takes_a_stale_lock) {
    const TemporaryFolder folder;
    write_raw(folder / "lock", foreign_lock("f", ""));
    std::vector<pid_t> children;
    for (int i = 0; i < 8; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            try {
                const LockFile lock(lock_of_run(folder.path()), quick());
                for (int k = 0; k < 40; ++k) usleep(100000), lock.require_held();
                _exit(0);
            } catch (const Error&) {
                _exit(2);
            }
        }
        children.push_back(child);
    }
    int holders = 0, refused = 0;
    for (const pid_t child : children) {
        int status = 0;
        waitpid(child, &status, 0);
        holders += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        refused += WIFEXITED(status) && WEXITSTATUS(status) == 2;
    }
    BOOST_TEST(holders == 1);
    BOOST_TEST(refused == 7);
    std::size_t left = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
        left += entry.path().filename() != "lock";
    BOOST_TEST(left == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
