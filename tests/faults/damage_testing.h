// Damages one file in many places, one at a time, and judges what its reader does with it. For the tests in this
// folder; contains no tests.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <functional>
#include <string>

#include "io/file.h"
#include "tests/unit/io/io_testing.h"

namespace longlora::damage_testing {

/// A temporary folder, in memory if the machine has /dev/shm, since the tests open files thousands of times.
struct MemoryFolder {
    std::string folder;
    MemoryFolder() {
        std::string name = (is_folder("/dev/shm") && ::access("/dev/shm", W_OK) == 0
                                ? "/dev/shm"
                                : std::filesystem::temp_directory_path().string()) +
                           "/longlora-damage-XXXXXX";
        BOOST_REQUIRE(mkdtemp(name.data()));
        folder = name;
    }
    ~MemoryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }
    MemoryFolder(const MemoryFolder&) = delete;
    MemoryFolder& operator=(const MemoryFolder&) = delete;
    std::string operator/(const std::string& name) const { return folder + "/" + name; }
};

/// `read(path)` returns everything that a reader can find out, as bytes, and throws an Error if it refuses the file.
class Damage {
public:
    using Read = std::function<std::string(const std::string&)>;
    Damage(const std::string& path, Read read, const std::string& names = "")
        : path_(path),
          names_(names.empty() ? path : names),
          read_(std::move(read)),
          good_(io_testing::slurp(path)),
          said_(read_(path)),
          file_(FileHandle::open_write(path)) {}

    /// Changes the byte at `at` by `mask`, judges the reader, and restores the byte. An Error must also contain
    /// `place`.
    void flip(std::size_t at, unsigned char mask, const std::string& place) {
        const char changed = static_cast<char>(good_[at] ^ static_cast<char>(mask));
        file_.write_at(&changed, 1, static_cast<std::int64_t>(at));
        judge(text("byte ", at, " changed by ", int{mask}), place);
        file_.write_at(&good_[at], 1, static_cast<std::int64_t>(at));
    }
    /// Cuts the file to `bytes` bytes, judges the reader, and restores the file.
    void cut(std::uint64_t bytes) {
        file_.truncate(static_cast<std::int64_t>(bytes));
        judge(text("cut to ", bytes, " bytes"), "");
        file_.write_at(good_.data() + bytes, static_cast<std::int64_t>(good_.size() - bytes),
                       static_cast<std::int64_t>(bytes));
    }
    /// Prints how often each outcome occurred, and fails the test if some damage was not noticed as it should be.
    void report(const char* what) {
        BOOST_TEST_MESSAGE(path_ << ": " << refused_ + without_meaning_ << ' ' << what << ": " << refused_
                                 << " refused, " << without_meaning_ << " without effect");
        BOOST_TEST(wrong_.empty(), num_wrong_ << " of " << what << " are not noticed, or not by a good Error:\n"
                                              << wrong_);
        BOOST_TEST(refused_ > 0);
        BOOST_TEST((io_testing::slurp(path_) == good_ && read_(path_) == said_));  // all damage was undone
    }

private:
    void judge(const std::string& how, const std::string& place) {
        std::string problem;
        try {
            if (read_(path_) == said_) ++without_meaning_;
            else problem = "the reader returns other content without an Error";
        } catch (const Error& error) {
            const std::string sentence = error.what();
            if (!io_testing::has(sentence, names_)) problem = "the Error does not name the file: " + sentence;
            else if (!io_testing::has(sentence, place)) problem = "the Error does not name " + place + ": " + sentence;
            ++refused_;
        } catch (const std::exception& error) {
            problem = text("not an Error: ", error.what());
        }
        if (!problem.empty() && ++num_wrong_ <= 5) wrong_ += how + ": " + problem + "\n";
    }

    std::string path_, names_;
    Read read_;
    std::string good_, said_;
    FileHandle file_;
    std::string wrong_;
    int num_wrong_ = 0, refused_ = 0, without_meaning_ = 0;
};

}  // namespace longlora::damage_testing
