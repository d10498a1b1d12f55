// Rank 0 broadcasts its values; each rank compares its own with them.
#include "jobs/command_line/same_options.h"

#include <algorithm>

#include "parallel/agree.h"

namespace longlora {

void require_same_options(const parallel::HostGroup& group, const OptionClasses& options,
                          const std::vector<std::string>& may_differ) {
    Json mine = options.identity;
    mine.update(options.schedule);
    mine.update(options.free);
    const Json first = Json::parse(group.broadcast(to_line(mine)));
    parallel::agree(group, [&] {
        for (const auto& [name, value] : mine.items())
            require(value == first[name] || std::find(may_differ.begin(), may_differ.end(), name) != may_differ.end(),
                    "--", name, " is ", to_line(value), ", but ", to_line(first[name]),
                    " on rank 0; start all ranks with the same options");
    });
}

void require_same_content(const parallel::HostGroup& group, const std::string& what, const std::string& hash) {
    const std::string first = group.broadcast(hash);
    parallel::agree(group, [&] {
        require(hash == first, "the content of ", what, " differs from that on rank 0; give all ranks the same files");
    });
}

}  // namespace longlora
