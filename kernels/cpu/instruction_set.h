// Instruction sets: which vector instructions this processor and its operating system offer. Detection only; who uses
// what is the callers' business.
#pragma once

#include <string_view>

namespace longlora::cpu {

/// avx2 means x86-64-v3 (AVX2, FMA), the floor of every build; avx512 means x86-64-v4 (AVX-512 F, BW, CD, DQ, VL).
enum class InstructionSet { avx2, avx512 };

/// The best of the above that processor and operating system support. An Error if not even AVX2 is there.
InstructionSet detect_instruction_set();

/// Dot products of bfloat16 pairs in 512-bit registers.
bool has_avx512_bf16();

/// Matrix tiles for bfloat16; asks the kernel for the permission to use them, so true means that they may be used in
/// this process.
bool has_amx_bf16();

constexpr std::string_view name_of(InstructionSet isa) { return isa == InstructionSet::avx512 ? "avx512" : "avx2"; }

}  // namespace longlora::cpu
