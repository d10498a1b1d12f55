// A history that cannot be read counts as unknown.
#include "run/history.h"

#include <algorithm>

namespace longlora {
namespace {

bool is_start(const Json& start) {
    return start.is_array() && start.size() == 2 && start[0].is_string() && start[1].is_number_integer();
}

}  // namespace

Json starts_of(const Json& attributes) {
    const Json starts = attributes.value("starts", Json());
    return starts.is_array() && std::all_of(starts.begin(), starts.end(), is_start) ? starts : Json::array();
}

Json with_start(Json starts, const std::string& token, std::int64_t first_step) {
    starts.push_back({token, first_step});
    return starts;
}

bool is_on_the_way(const Json& starts, std::int64_t step, const Json& later) {
    if (starts.empty() || later.size() < starts.size()) return false;
    if (!std::equal(starts.begin(), starts.end(), later.begin())) return false;
    return later.size() == starts.size() || step < later[starts.size()][1].get<std::int64_t>();
}

}  // namespace longlora
