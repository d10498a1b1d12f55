// Sums over launches: instructions by opcode, the worst requests by line. Requests are counted in statistics.cpp.
#include <algorithm>

#include "sim/ptx/statistics.h"

namespace sim::ptx {

namespace {

/// Shortens "ld.shared.v4.f32" to "ld.shared".
std::string short_opcode(std::string_view opcode) {
    const std::size_t dot = opcode.find('.');
    if (dot == std::string_view::npos) return std::string(opcode);
    const std::string_view name = opcode.substr(0, dot), rest = opcode.substr(dot + 1),
                           second = rest.substr(0, rest.find('.'));
    for (const std::string_view kept :
         {"global", "shared", "local", "const", "param", "sync", "async", "warp", "wide", "lo", "hi", "approx"})
        if (second == kept) return std::string(name) + "." + std::string(second);
    return std::string(name);
}

void add(Counts& to, const Counts& from) {
    to.block_threads = std::max(to.block_threads, from.block_threads),
    to.dynamic_shared_bytes = std::max(to.dynamic_shared_bytes, from.dynamic_shared_bytes);
    to.launches += from.launches, to.warp_instructions += from.warp_instructions;
    to.shared_requests += from.shared_requests, to.shared_wavefronts += from.shared_wavefronts,
        to.shared_ideal_wavefronts += from.shared_ideal_wavefronts;
    to.global_requests += from.global_requests, to.global_sectors += from.global_sectors,
        to.global_ideal_sectors += from.global_ideal_sectors;
    to.global_read_bytes += from.global_read_bytes, to.global_written_bytes += from.global_written_bytes;
    for (const auto& [opcode, number] : from.by_opcode) to.by_opcode[opcode] += number;
    for (const auto& [line, ratio] : from.worst_bank_conflict)
        to.worst_bank_conflict[line] = std::max(to.worst_bank_conflict[line], ratio);
    for (const auto& [line, ratio] : from.worst_sector_ratio)
        to.worst_sector_ratio[line] = std::max(to.worst_sector_ratio[line], ratio);
}

}  // namespace

void index_opcodes(Kernel& kernel) {
    std::map<std::string, std::uint16_t> known;
    for (const Origin& origin : kernel.origins) {
        const auto [entry, is_new] =
            known.try_emplace(short_opcode(origin.opcode), static_cast<std::uint16_t>(kernel.opcodes.size()));
        if (is_new) kernel.opcodes.push_back(entry->first);
        kernel.opcode_of.push_back(entry->second);
    }
}

void add_counts(const Block& block, Counts now, Counts& total) {
    const Kernel& kernel = *block.kernel;
    ++now.launches;
    now.block_threads = block.launch->block.count(), now.dynamic_shared_bytes = block.launch->dynamic_shared_bytes;
    std::vector<std::uint64_t> by_opcode(kernel.opcodes.size());
    for (std::size_t pc = 0; pc < kernel.code.size(); ++pc) {
        const std::uint64_t number = (*block.executed)[pc];
        if (number == 0) continue;
        now.warp_instructions += number;
        by_opcode[kernel.opcode_of[pc]] += number;
        const auto keep_worst = [&](std::map<int, double>& worst, double value) {
            if (value > 0) worst[kernel.origins[pc].line] = std::max(worst[kernel.origins[pc].line], value);
        };
        keep_worst(now.worst_bank_conflict, block.worst_bank_conflict[pc]);
        keep_worst(now.worst_sector_ratio, block.worst_sectors[pc]);
    }
    for (std::size_t k = 0; k < by_opcode.size(); ++k)
        if (by_opcode[k]) now.by_opcode[kernel.opcodes[k]] += by_opcode[k];
    add(total, now);
}

}  // namespace sim::ptx
