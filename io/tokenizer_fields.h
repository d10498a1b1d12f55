// What every field of a tokenizer.json is to the ids of a text: a value that they are computed from, a value that must
// be as written here, or a value that they do not depend on. A field that is not in this list is an Error, since it may
// change the ids silently.
#pragma once

#include <string>

#include "io/json.h"

namespace longlora {

/// Checks the names of all fields of `object`, and the values of those that must have a certain value. `part` is the
/// part of tokenizer.json that the object is, as in the list: "the file", "model", "added token", "pre-tokenizer
/// Split".
void check_fields(const Json& object, const std::string& part, const std::string& path);

}  // namespace longlora
