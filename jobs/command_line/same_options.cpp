// Rank 0 broadcasts its values; each rank compares its own with them.
#include "jobs/command_line/same_options.h"

#include <algorithm>

#include "core/host.h"
#include "parallel/agree.h"

namespace longlora {

namespace {

bool is_given(const Json& value) { return !value.empty() && value != ""; }

/// --context; an argument without a name is shown as in --help, OUT.h5.
std::string shown(const std::string& name) {
    return (name.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 0 ? "" : "--") + name;
}

}  // namespace

void require_same_options(const parallel::HostGroup& group, const OptionClasses& options,
                          const std::vector<std::string>& places, const std::vector<std::string>& may_differ) {
    const auto is_in = [](const std::vector<std::string>& names, const std::string& name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    Json mine = options.identity;
    mine.update(options.schedule);
    mine.update(options.free);
    // File names may hold any bytes. A JSON text would replace some of them; CBOR keeps all.
    const std::vector<std::uint8_t> packed = Json::to_cbor(mine);
    const Json first = Json::from_cbor(group.broadcast(std::string(packed.begin(), packed.end())));
    parallel::agree(group, [&] {
        for (const auto& [name, value] : mine.items()) {
            if (is_in(may_differ, name) || value == first[name]) continue;
            require(is_in(places, name) && is_given(value) && is_given(first[name]), shown(name), " is ",
                    to_line(value), ", but ", to_line(first[name]),
                    " on rank 0; start all ranks with the same options");
        }
    });
}

void require_same_content(const parallel::HostGroup& group, const std::string& what, const std::string& hash) {
    const std::string first = group.broadcast(hash);
    parallel::agree(group, [&] {
        require(hash == first, "the content of ", what, " on node ", host_name(),
                " differs from that on rank 0; give all ranks the same files");
    });
}

}  // namespace longlora
