// The initial values of variables. The declarations themselves are parsed by declarations_of (decoder.h).
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

/// Writes the initial value of a variable. Elements that the initialiser leaves out are not written, so they stay zero.
void fill_initial(std::byte* to, const Declaration& declaration, const Module& module, int line,
                  const std::unordered_map<std::string, Symbol>& symbols);

}  // namespace sim::ptx
