// The text of a progress line and how often it is printed.
#include "jobs/command_line/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/clock.h"
#include "jobs/command_line/terminal.h"

namespace longlora {

Progress::Progress(std::string what, std::int64_t total, std::string (*unit_text)(std::int64_t), bool speaks)
    : what_(std::move(what)),
      total_(total),
      unit_text_(unit_text),
      speaks_(speaks),
      terminal_(ends_on_terminal(STDERR_FILENO)),
      begin_(now_seconds()),
      last_(begin_) {}

Progress::~Progress() {
    if (printed_ && terminal_) std::fputc('\n', stderr);
}

bool Progress::due() const { return speaks_ && now_seconds() - last_ >= (terminal_ ? 0.2 : 10.0); }

void Progress::update(std::int64_t done) {
    if (first_done_ < 0) first_done_ = done;  // a resumed job begins here, not at 0
    if (due()) print(std::min(done, total_), now_seconds());
}

void Progress::print(std::int64_t done, double now) {
    last_ = now;
    const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1.0;
    const std::int64_t fresh = done - first_done_;
    std::string left;
    if (fresh > 0 && done < total_)
        left = ", " + duration_text((now - begin_) * static_cast<double>(total_ - done) / static_cast<double>(fresh)) +
               " left";
    const std::string amounts = unit_text_(done) + " of " + unit_text_(total_);
    if (terminal_) {
        std::string bar(30, '.');
        std::fill(bar.begin(), bar.begin() + static_cast<std::ptrdiff_t>(share * 30), '#');
        std::fprintf(stderr, "\r%s [%s] %3.0f %%  %s%s\033[K", what_.c_str(), bar.c_str(), share * 100, amounts.c_str(),
                     left.c_str());
    } else {
        std::fprintf(stderr, "%s: %.0f %%, %s%s\n", what_.c_str(), share * 100, amounts.c_str(), left.c_str());
    }
    std::fflush(stderr);
    printed_ = true;
}

}  // namespace longlora
