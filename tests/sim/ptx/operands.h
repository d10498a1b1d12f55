// Parses the text of an operand.
#pragma once

#include "sim/ptx/decoder.h"

namespace sim::ptx {

Operand operand_of(std::string_view text, const Decoder& decoder, Builder& builder);

}  // namespace sim::ptx
