// How far a long job is, on stderr: a bar on a terminal, otherwise a plain line now and then. One rank speaks; nothing
// here communicates.
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

class Progress {
public:
    /// `unit_text` turns amounts into text, e.g. bytes_text. A silent one prints nothing.
    Progress(std::string what, std::int64_t total, std::string (*unit_text)(std::int64_t), bool speaks);
    /// Ends the bar's line.
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Prints at most every 0.2 s on a terminal, every 10 s elsewhere.
    void update(std::int64_t done);
    /// Whether update() would print now: for callers to whom knowing `done` costs something.
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
