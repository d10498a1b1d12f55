// Detects instruction sets by cpuid, by xgetbv (does the operating system save the registers?) and, for AMX, by
// arch_prctl (may this process use the tiles?).
#include "kernels/cpu/instruction_set.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "core/error.h"

namespace longlora::cpu {

namespace {

struct Registers {
    std::uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    Registers r;
    if (!__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d)) return {};
    return r;
}

bool bit(std::uint64_t value, int i) { return (value >> i) & 1u; }

/// XCR0: which register states the operating system saves; 0 if xgetbv does not exist.
std::uint64_t saved_states() {
    if (!bit(cpuid(1, 0).c, 27)) return 0;  // OSXSAVE
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (std::uint64_t{high} << 32) | low;
}

bool has_states(std::uint64_t mask) { return (saved_states() & mask) == mask; }

constexpr std::uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;

bool has_avx2() {
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0);
    return has_states(kYmm) && bit(one.c, 12) && bit(one.c, 29) && bit(seven.b, 5);  // FMA, F16C, AVX2
}

bool has_avx512() {
    const Registers seven = cpuid(7, 0);
    return has_avx2() && has_states(kZmm) && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 28) &&
           bit(seven.b, 30) && bit(seven.b, 31);  // F, DQ, CD, BW, VL
}

bool request_tiles() {
    // ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA of asm/prctl.h in Linux.
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

InstructionSet detect_instruction_set() {
    require(
        has_avx2(),
        "this processor has no AVX2 and FMA instructions: run on one that has them (Intel since 2013, AMD since 2015)");
    return has_avx512() ? InstructionSet::avx512 : InstructionSet::avx2;
}

bool has_avx512_bf16() { return has_avx512() && bit(cpuid(7, 1).a, 5); }

bool has_amx_bf16() {
    const Registers seven = cpuid(7, 0);
    if (!bit(seven.d, 22) || !bit(seven.d, 24) || !has_states(kTiles)) return false;  // AMX-BF16, AMX-TILE
    static const bool permitted = request_tiles();
    return permitted;
}

}  // namespace longlora::cpu
