// The sentences of faults: which kernel, block and threads, and which line.
#include <cxxabi.h>
#include <bit>
#include <cstdio>
#include <cstdlib>

#include "sim/ptx/parser.h"
#include "sim/ptx/warp.h"

namespace sim::ptx {

std::string demangled(const std::string& name) {
    int status = 0;
    char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    std::string result = status == 0 && text ? text : name;
    std::free(text);
    constexpr std::string_view kAnonymous = "(anonymous namespace)::";
    for (auto at = result.find(kAnonymous); at != std::string::npos; at = result.find(kAnonymous))
        result.erase(at, kAnonymous.size());
    if (const auto end = result.find('('); end != std::string::npos && end > 0) result.resize(end);
    return result.starts_with("void ") ? result.substr(5) : result;
}

namespace {

/// The part of a path after the last '/'.
std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string triple(unsigned x, unsigned y, unsigned z) {
    return "(" + std::to_string(x) + "," + std::to_string(y) + "," + std::to_string(z) + ")";
}

std::string one_line(std::string_view text) {
    std::string result;
    for (const char c : text)
        if (c > ' ') result += c;
        else if (!result.empty() && result.back() != ' ') result += ' ';
    return result;
}

}  // namespace

std::string lanes_text(Lanes lanes) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%08x", lanes);
    return text;
}

std::string instruction_text(const Kernel& kernel, std::uint32_t pc) {
    const Origin& origin = kernel.origins[pc];
    std::string text = "PTX line " + std::to_string(origin.line) + " `" + one_line(origin.text) + "`";
    if (const SourceLine& source = kernel.module->sources[origin.source]; source.line > 0) {
        const auto file = kernel.module->files.find(source.file);
        text += " (" +
                (file == kernel.module->files.end() ? std::string("file ") + std::to_string(source.file)
                                                    : file_name(file->second)) +
                ":" + std::to_string(source.line) + ")";
    }
    return text;
}

std::string threads_text(const Block& block, unsigned warp, Lanes lanes) {
    if (lanes == 0) return "warp " + std::to_string(warp);
    const Extent& size = block.launch->block;
    const unsigned thread = warp * kLanes + static_cast<unsigned>(std::countr_zero(lanes));
    std::string text = triple(thread % size.x, thread / size.x % size.y, thread / size.x / size.y);
    if (const int others = std::popcount(lanes) - 1; others > 0)
        return "threads " + text + " and " + std::to_string(others) + (others == 1 ? " other" : " others") +
               " of warp " + std::to_string(warp);
    return "thread " + text;
}

void fault(const Warp& warp, Lanes lanes, const std::string& what) {
    const Block& block = *warp.block;
    throw Fault(block.kernel->pretty + ", block " + triple(block.index.x, block.index.y, block.index.z) + ", " +
                threads_text(block, warp.index, lanes) + ", " + instruction_text(*block.kernel, warp.pc) + ": " + what);
}

}  // namespace sim::ptx
