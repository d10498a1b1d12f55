// Progress: how far a long job has come, on stderr. On a terminal it is a bar, elsewhere a plain line from time to
// time. The caller chooses one rank to print; nothing here communicates. The line about training steps is in
// jobs/command_line/live_line.h.
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

class Progress {
public:
    /// `unit_text` turns amounts into text, e.g. bytes_text. Without `speaks` nothing is printed.
    Progress(std::string what, std::int64_t total, std::string (*unit_text)(std::int64_t), bool speaks);
    /// Ends the line of the bar.
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Prints at most every 0.2 s on a terminal, every 10 s elsewhere.
    void update(std::int64_t done);
    /// Whether update() would print now, for callers to whom it costs time to find `done`.
    bool due() const;

private:
    void print(std::int64_t done, double now);
    std::string what_;
    std::int64_t total_, first_done_ = -1;
    std::string (*unit_text_)(std::int64_t);
    bool speaks_, terminal_, printed_ = false;
    double begin_, last_;
};

}  // namespace longlora
