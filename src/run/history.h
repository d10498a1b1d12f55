// The starts of the program that led to a checkpoint. They are attributes of the checkpoint, "starts": [["TOKEN", FIRST
// STEP], ...], the earliest first. A copy of a run folder has the history of the run up to the copy.
#pragma once

#include <cstdint>
#include <string>

#include "io/json.h"

namespace longlora {

/// The starts of the checkpoint with these attributes; [] if it is older than this attribute.
Json starts_of(const Json& attributes);
/// `starts`, and after them the start `token` (run/lock.h), which does `first_step` first.
Json with_start(Json starts, const std::string& token, std::int64_t first_step);
/// Whether a checkpoint of `step` with the history `starts` is on the way to a checkpoint with the history `later`: its
/// starts are the first ones of `later`, and the next start of `later` went on after `step` or later. False if a
/// history is not known.
bool is_on_the_way(const Json& starts, std::int64_t step, const Json& later);

}  // namespace longlora
