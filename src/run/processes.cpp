// Reads /proc/P/stat and /proc/P/fd.
#include "run/processes.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "core/error.h"
#include "io/file.h"

namespace longlora {

ProcessState state_of_process(std::int64_t process) {
    ProcessState out;
    try {
        const std::string stat = read_text_file(text("/proc/", process, "/stat"));
        const std::size_t end = stat.rfind(')');  // the end of the name, which may contain any characters
        if (end == std::string::npos || end + 2 >= stat.size()) return out;
        out.state = stat[end + 2];
        std::istringstream fields(stat.substr(end + 2));
        std::string field;
        for (int i = 3; i <= 22; ++i) fields >> field;  // man 5 proc: (22) starttime
        out.start = std::strtoll(field.c_str(), nullptr, 10);
    } catch (const Error&) {
    }
    return out;
}

std::string machine_of_this_process() {
    std::string boot;
    try {
        boot = read_text_file("/proc/sys/kernel/random/boot_id");
    } catch (const Error&) {
    }
    std::error_code error;
    const std::string processes = std::filesystem::read_symlink("/proc/self/ns/pid", error).string();
    return boot.empty() || error ? "" : boot.substr(0, boot.find('\n')) + " " + processes;
}

Opened has_open(std::int64_t process, const std::string& path) {
    struct stat named {};
    if (::stat(path.c_str(), &named) != 0) return Opened::unknown;
    bool all_seen = true;
    std::error_code error;
    for (std::filesystem::directory_iterator at(text("/proc/", process, "/fd"), error), end; !error && at != end;
         at.increment(error)) {
        // Without asking a file server, which may not answer: the number of an open file never changes.
        struct statx open {};
        if (::statx(AT_FDCWD, at->path().c_str(), AT_STATX_DONT_SYNC, STATX_INO | STATX_TYPE, &open) != 0)
            all_seen = all_seen && errno == ENOENT;  // closed meanwhile
        else if (S_ISREG(open.stx_mode) && open.stx_ino == named.st_ino) return Opened::yes;
    }
    return error || !all_seen ? Opened::unknown : Opened::no;
}

}  // namespace longlora
