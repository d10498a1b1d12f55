// Decodes sm_80 machine code. The lower 12 bits of an instruction are its operation. A branch holds, from bit 32 on,
// the distance in bytes from the next instruction to its target.
#include "tests/bench/roofline/sass.h"

#include <algorithm>
#include <set>

namespace longlora::roofline {
namespace {

enum Operation : unsigned {
    kHmma = 0x23c,
    kLdsm = 0x83b,
    kLds = 0x984,
    kSts = 0x388,
    kLdgsts = 0xfae,
    kMufu = 0x308,
    kBranch = 0x947,
    kExit = 0x94d,
    kLdl = 0x983,
    kStl = 0x387
};

unsigned operation_of(const std::array<std::uint64_t, 2>& word) { return static_cast<unsigned>(word[0] & 0xfff); }

std::int64_t target_of(const CompiledKernel& kernel, std::size_t i) {
    const auto& [low, high] = kernel.code[i];
    const std::int64_t distance =
        static_cast<std::int64_t>((low >> 32) | ((high & 0xffff) << 32)) << 16 >> 16;  // 48 bits with sign
    return static_cast<std::int64_t>(i) + 1 + distance / 16;
}

/// The size field has 4, 5 or 6 for 32, 64 or 128 bits a lane. A wavefront moves 128 bytes.
double wavefronts_of_access(std::uint64_t high) {
    const auto size = (high >> 9) & 7;
    return size == 6 ? 4 : size == 5 ? 2 : 1;
}

double wavefronts_of(const std::array<std::uint64_t, 2>& word) {
    switch (operation_of(word)) {
        case kLdsm:
            return static_cast<double>(1 << ((word[1] >> 8) & 3));  // one for each 8x8 matrix
        case kLds:
        case kSts:
        case kLdgsts:
            return wavefronts_of_access(word[1]);
        default:
            return 0;
    }
}

Block count(const CompiledKernel& kernel, std::size_t begin, std::size_t end) {
    Block block{begin, end, static_cast<std::int64_t>(end - begin)};
    for (std::size_t i = begin; i < end; ++i) {
        const unsigned operation = operation_of(kernel.code[i]);
        block.hmma += operation == kHmma;
        block.mufu += operation == kMufu;
        block.local += operation == kLdl || operation == kStl;
        block.wavefronts += wavefronts_of(kernel.code[i]);
    }
    return block;
}

}  // namespace

double Block::tensor_core_share(double conflict) const {
    return hmma ? t_mma() / std::max({t_mma(), t_issue(), t_mufu(), t_shared(conflict)}) : 0;
}

Block whole(const CompiledKernel& kernel) { return count(kernel, 0, kernel.code.size()); }

Block main_block(const CompiledKernel& kernel) {
    std::set<std::size_t> leaders{0, kernel.code.size()};
    std::vector<std::pair<std::size_t, std::size_t>> loops;  // [target, branch]
    for (std::size_t i = 0; i < kernel.code.size(); ++i) {
        const unsigned operation = operation_of(kernel.code[i]);
        if (operation != kBranch && operation != kExit) continue;
        leaders.insert(i + 1);
        if (operation == kExit) continue;
        const std::int64_t target = target_of(kernel, i);
        if (target < 0 || target > static_cast<std::int64_t>(kernel.code.size())) continue;
        leaders.insert(static_cast<std::size_t>(target));
        if (target < static_cast<std::int64_t>(i))
            // A branch to itself is not a loop: it only pads the end of the kernel.
            loops.emplace_back(static_cast<std::size_t>(target), i);
    }
    Block best;
    for (auto leader = leaders.begin(); std::next(leader) != leaders.end(); ++leader) {
        const std::size_t begin = *leader, end = *std::next(leader);
        const bool inside = std::any_of(loops.begin(), loops.end(), [&](const auto& loop) {
            return loop.first <= begin && end <= loop.second + 1;
        });
        if (!inside) continue;
        const Block block = count(kernel, begin, end);
        if (std::pair(block.hmma, block.instructions) > std::pair(best.hmma, best.instructions)) best = block;
    }
    best.in_loop = best.instructions > 0;
    return best.in_loop ? best : whole(kernel);
}

int blocks_per_multiprocessor(const CompiledKernel& kernel, int threads, std::int64_t dynamic_shared_bytes) {
    constexpr std::int64_t kRegisters = 65536, kShared = 164 << 10, kSystemShared = 1 << 10, kThreads = 2048,
                           kMostBlocks = 32;
    const std::int64_t warps = (threads + 31) / 32, registers_of_warp = (kernel.registers * 32 + 255) / 256 * 256;
    const std::int64_t by_registers = kRegisters / std::max<std::int64_t>(1, registers_of_warp * warps);
    const std::int64_t by_shared = kShared / (kernel.static_shared_bytes + dynamic_shared_bytes + kSystemShared);
    return static_cast<int>(std::min({by_registers, by_shared, kThreads / std::max(threads, 1), kMostBlocks}));
}

}  // namespace longlora::roofline
