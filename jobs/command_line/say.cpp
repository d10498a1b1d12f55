// Flushes each sentence, since standard output is often a file that people watch.
#include "jobs/command_line/say.h"

#include <cstdio>

namespace longlora {

void say(const parallel::HostGroup& group, const std::string& sentence) {
    if (group.rank() != 0 || sentence.empty()) return;
    std::printf("%s\n", sentence.c_str());
    std::fflush(stdout);
}

}  // namespace longlora
