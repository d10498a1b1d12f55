// What the helper thread does. It calls neither MPI nor HDF5.
#include "train/save.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

#include "core/error.h"

namespace longlora {

namespace {

constexpr std::int64_t kWriteBytes = 16 * kChecksumBlock;  // one pwrite and its checksums
// At most so much goes to the disk at once, so that progress is seen on a slow disk too.
constexpr std::int64_t kUnsyncedBytes = std::int64_t{32} << 20;
constexpr double kLookSeconds = 0.005;  // between two looks at the helper thread
constexpr int kHelperNice = 10;         // about a tenth of a core if other threads want the core too

}  // namespace

void CheckpointSave::attempt(const std::function<void()>& work) noexcept {
    try {
        work();
    } catch (const std::exception& error) {
        if (failure.empty()) failure = sentence_of(error);
    }
}

void CheckpointSave::attempt_reading(const std::function<void()>& work) noexcept {
    attempt([&] {
        try {
            work();
        } catch (const Error& error) {
            fail(cannot_read + error.what());
        }
    });
}

void CheckpointSave::start_helper(const std::function<void()>& work) {
    done = false;
    const auto run = [this, work] {
        work();
        done = true;
    };
    try {
        helper = std::thread([run] {
            // The computing threads may fill all cores, and training goes first. On Linux each thread has a priority
            // of its own. If setting it fails, that only costs time.
            setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kHelperNice);
            run();
        });
    } catch (const std::system_error&) {  // no thread can be created
        run();
    }
}

void CheckpointSave::wait_for_helper(const std::function<void()>& note_work) {
    for (std::int64_t seen = -1; !done; std::this_thread::sleep_for(std::chrono::duration<double>(kLookSeconds)))
        if (const std::int64_t now = progress; now != seen) {
            seen = now;
            if (note_work) note_work();
        }
    if (helper.joinable()) helper.join();
}

const char* CheckpointSave::in_snapshot(std::int64_t part, std::int64_t at) const {
    return reinterpret_cast<const char*>(snapshot->bytes) + begins[part] + at;
}

void CheckpointSave::write(const FileHandle& file, std::int64_t tensor, std::int64_t begin, std::int64_t bytes_to_write,
                           const void* data) {
    for (std::int64_t at = 0; at < bytes_to_write; at += kWriteBytes) {
        const std::int64_t n = std::min(kWriteBytes, bytes_to_write - at);
        write_slice(file, layout, tensor, begin + at, static_cast<const char*>(data) + at, n, pieces);
        progress += n;
        unsynced += n;
        if (unsynced < kUnsyncedBytes) continue;
        file.sync();
        unsynced = 0;
    }
}

void CheckpointSave::write_snapshot() noexcept {
    attempt([&] {
        if (plan.writes.empty()) return;
        const FileHandle file = FileHandle::open_write(layout.path);
        for (const SharedWrite::Write& w : plan.writes)
            write(file, w.tensor, w.begin, w.bytes,
                  w.part < 0 ? bytes->received.data() + w.at : in_snapshot(w.part, w.at));
        file.sync();
    });
}

void CheckpointSave::read_back_pieces(const std::vector<ChecksumPiece>& theirs) noexcept {
    attempt_reading([&] { read_back(layout, theirs, [&] { ++progress; }); });
}

}  // namespace longlora
