// The text is the phase and the seconds since it began. On a terminal the cursor goes back to the beginning of the
// line, so what is printed next replaces it.
#include "jobs/command_line/waiting_line.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

#include "core/clock.h"
#include "jobs/command_line/terminal.h"

namespace longlora {

WaitingLine::WaitingLine(std::string what, bool speaks)
    : what_(std::move(what)),
      speaks_(speaks),
      terminal_(ends_on_terminal(STDERR_FILENO)),
      begin_(now_seconds()),
      last_(begin_) {}

WaitingLine::~WaitingLine() {
    if (printed_ && terminal_) std::fputs("\033[K", stderr);
}

void WaitingLine::update() {
    const double now = now_seconds();
    if (!speaks_ || now - last_ < (terminal_ ? 1 : 10)) return;
    last_ = now;
    const std::string line = what_ + ": " + duration_text(now - begin_);
    std::fprintf(stderr, terminal_ ? "%s\033[K\r" : "%s\n", line.c_str());
    std::fflush(stderr);
    printed_ = true;
}

}  // namespace longlora
