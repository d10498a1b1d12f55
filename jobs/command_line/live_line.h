// LiveLine: the line about the current training step. On a terminal each new line replaces the last one; elsewhere
// every line is printed. The progress bar of other long jobs is in jobs/command_line/progress.h.
#pragma once

#include <string>

namespace longlora {

class LiveLine {
public:
    LiveLine();
    ~LiveLine();
    /// Replaces the line on a terminal; prints it elsewhere.
    void update(const std::string& line);
    /// Prints a line that stays.
    void print(const std::string& line);

private:
    void clear();
    bool terminal_, open_ = false;
};

}  // namespace longlora
