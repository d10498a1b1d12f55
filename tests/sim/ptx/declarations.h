// Declarations of variables: their bytes.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

/// Writes a variable's initial value; what it leaves out stays zero.
void fill_initial(std::byte* to, const Declaration& declaration, const Module& module, int line,
                  const std::unordered_map<std::string, Symbol>& symbols);

}  // namespace sim::ptx
