// The launcher is the parent of this process; its descriptors are visible in /proc.
#include "jobs/command_line/terminal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace longlora {

bool ends_on_terminal(int fd) {
    if (!isatty(fd)) return false;
    if (!std::getenv("OMPI_COMM_WORLD_SIZE")) return true;
    const std::string launcher = "/proc/" + std::to_string(getppid()) + "/fd/" + std::to_string(fd);
    const int opened = open(launcher.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK);
    if (opened < 0) return false;
    const bool terminal = isatty(opened);
    close(opened);
    return terminal;
}

}  // namespace longlora
