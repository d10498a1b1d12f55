// The training line that a person watches: one line that is replaced on a terminal, plain lines elsewhere. Progress of
// long jobs is progress.h.
#pragma once

#include <string>

namespace longlora {

class LiveLine {
public:
    LiveLine();
    ~LiveLine();
    /// Replaces the line (terminal), or prints it (elsewhere).
    void update(const std::string& line);
    /// Prints a line that stays.
    void print(const std::string& line);

private:
    void clear();
    bool terminal_, open_ = false;
};

}  // namespace longlora
