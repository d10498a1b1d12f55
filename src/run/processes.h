// What /proc says about the processes of this machine: whether one lives, since when, and which files it has open.
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

struct ProcessState {
    std::int64_t start = -1;  ///< clock ticks since boot; -1 if it cannot be read (there is no such process, or this
                              ///< user may not look at it)
    char state = '?';         ///< man 5 proc: R, S, D, T (stopped), Z (ended, but not yet waited for) ...
};
ProcessState state_of_process(std::int64_t process);

/// Where a process number is valid: the boot id of this machine and the process namespace. Empty if it is not known.
std::string machine_of_this_process();

/// Whether a process of this machine has the regular file `path` open. It is unknown if this user may not look at the
/// process. Files are compared by their number alone and not by that of their file system: one NFS export may be
/// mounted twice. So a file of another file system that happens to have the same number counts as open.
enum class Opened { no, yes, unknown };
Opened has_open(std::int64_t process, const std::string& path);

}  // namespace longlora
