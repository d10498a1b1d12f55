// Instruction sets: which vector instructions this processor and its operating system offer. cpu/device.cpp chooses
// among them.
#pragma once

#include <string_view>

namespace longlora::cpu {

/// avx2 means x86-64-v3 (AVX2, FMA), which every build requires. avx512 means x86-64-v4 (AVX-512 F, BW, CD, DQ, VL).
enum class InstructionSet { avx2, avx512 };

/// The best instruction set that processor and operating system support. Throws Error if they do not support AVX2.
InstructionSet detect_instruction_set();

/// Whether there are dot products of bfloat16 pairs in 512-bit registers.
bool has_avx512_bf16();

/// Whether there are matrix tiles for bfloat16. Asks the operating system for the permission to use them, so true
/// means that this process may use them.
bool has_amx_bf16();

constexpr std::string_view name_of(InstructionSet isa) { return isa == InstructionSet::avx512 ? "avx512" : "avx2"; }

}  // namespace longlora::cpu
