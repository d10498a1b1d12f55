// WaitingLine: says on stderr that a phase goes on whose end is not known, such as planning. On a terminal it is a line
// that changes, elsewhere a plain line from time to time; a phase of a few seconds says nothing there. A phase with a
// known amount of work has a bar (jobs/command_line/progress.h).
#pragma once

#include <string>

namespace longlora {

class WaitingLine {
public:
    /// Prints nothing if `speaks` is false.
    WaitingLine(std::string what, bool speaks);
    /// Clears the line on a terminal.
    ~WaitingLine();
    WaitingLine(const WaitingLine&) = delete;
    WaitingLine& operator=(const WaitingLine&) = delete;

    /// Cheap. The phase goes on. Prints at most every second on a terminal, every 10 s elsewhere.
    void update();

private:
    std::string what_;
    bool speaks_, terminal_, printed_ = false;
    double begin_, last_;
};

}  // namespace longlora
