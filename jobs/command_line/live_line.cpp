// The line goes to stdout, because it is what the user asked the program for. Errors go to stderr.
#include "jobs/command_line/live_line.h"

#include <unistd.h>

#include <cstdio>

#include "jobs/command_line/terminal.h"

namespace longlora {

LiveLine::LiveLine() : terminal_(ends_on_terminal(STDOUT_FILENO)) {}

LiveLine::~LiveLine() {
    if (open_) std::fputc('\n', stdout);
}

void LiveLine::clear() {
    if (terminal_ && open_) std::fputs("\r\033[K", stdout);
    open_ = false;
}

void LiveLine::update(const std::string& line) {
    clear();
    std::fputs(line.c_str(), stdout);
    if (terminal_) open_ = true;
    else std::fputc('\n', stdout);
    std::fflush(stdout);
}

void LiveLine::print(const std::string& line) {
    clear();
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);
}

}  // namespace longlora
