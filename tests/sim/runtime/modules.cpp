// Modules: registered fat binaries. The environment may replace their text or have it written to files. They are parsed
// when they are used.
#include "sim/runtime/modules.h"

#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

struct State {
    std::vector<std::unique_ptr<Module>> modules;
    std::map<const void*, std::unique_ptr<Function>> functions;
    std::set<std::string> dumped;  // names of files written
    bool replaced = false;
};
State& state() {
    static State* const all = new State;  // never destroyed; the first registration makes it, before main
    return *all;
}

template <class Number> Number read(const void* from, std::size_t offset) {
    Number number{};
    std::memcpy(&number, static_cast<const std::byte*>(from) + offset, sizeof number);
    return number;
}

/// The names after ".entry".
std::vector<std::string> entries_of(std::string_view text) {
    std::vector<std::string> names;
    for (std::size_t at = text.find(".entry "); at != std::string_view::npos; at = text.find(".entry ", at + 1)) {
        const std::size_t begin = at + 7, end = text.find_first_of(" (\t\r\n{", begin);
        names.emplace_back(text.substr(begin, end - begin));
    }
    return names;
}

/// The text of the file of SIM_PTX if one of its kernels belongs to the module; otherwise "".
std::string replacement_for(const Module& module) {
    if (settings().ptx_file.empty()) return {};
    std::ifstream file(settings().ptx_file);
    if (!file) misuse("the file of SIM_PTX, ", settings().ptx_file, ", cannot be read");
    std::ostringstream content;
    content << file.rdbuf();
    for (const std::string& name : entries_of(content.str()))
        for (const std::string& own : module.kernels)
            if (name == own) return content.str();
    return {};
}

std::string embedded_text(const Module& module) {
    std::string problem;
    const std::string_view text = find_ptx(module.fat_binary, settings().major, settings().minor, problem);
    if (!problem.empty())
        misuse("the kernels of ", module.kernels.empty() ? "a module" : module.kernels.front(),
               " cannot be run: ", problem);
    return std::string(text);
}

/// "attention" from the first `.file 1 "/.../attention.cu"`, or else "module".
std::string source_stem(std::string_view text) {
    for (std::size_t at = text.find(".file"); at != std::string_view::npos; at = text.find(".file", at + 1)) {
        const std::size_t open = text.find('"', at), close = text.find('"', open + 1);
        if (close == std::string_view::npos) break;
        const std::filesystem::path path(text.substr(open + 1, close - open - 1));
        if (path.extension() == ".cu") return path.stem();
    }
    return "module";
}

}  // namespace

std::string_view find_ptx(const void* fat_binary, int major, int minor, std::string& problem) {
    constexpr std::uint32_t kMagic = 0xBA55ED50;
    constexpr std::uint16_t kPtx = 1;
    if (!fat_binary || read<std::uint32_t>(fat_binary, 0) != kMagic)
        return problem = "the fat binary is of an unknown format", std::string_view();
    const std::size_t header = read<std::uint16_t>(fat_binary, 6), end = header + read<std::uint64_t>(fat_binary, 8);
    std::string_view best;
    std::uint32_t best_version = 0;
    problem = "the object holds no PTX text; compile it with -gencode arch=compute_80,code=compute_80";
    for (std::size_t at = header; at < end;) {
        const auto kind = read<std::uint16_t>(fat_binary, at);
        const std::size_t own_header = read<std::uint32_t>(fat_binary, at + 4),
                          bytes = read<std::uint64_t>(fat_binary, at + 8);
        const auto version = read<std::uint32_t>(fat_binary, at + 28);
        const auto* content = static_cast<const char*>(fat_binary) + at + own_header;
        at += own_header + bytes;
        if (kind != kPtx) continue;
        const std::string_view text(content, strnlen(content, bytes));
        if (text.find(".version") == std::string_view::npos) {
            if (best.empty()) problem = "its PTX text is compressed; compile it with --compress-mode=none";
        } else if (version > static_cast<std::uint32_t>(10 * major + minor)) {
            if (best.empty()) problem = "its PTX text is for a newer GPU than the simulated one";
        } else if (version > best_version) {
            best = text;
            best_version = version;
        }
    }
    if (!best.empty()) problem.clear();
    return best;
}

Module* add_module(const void* fat_binary) {
    state().modules.push_back(std::make_unique<Module>(Module{.fat_binary = fat_binary}));
    return state().modules.back().get();
}

void add_function(Module* module, const void* host, std::string name) {
    module->kernels.push_back(name);
    state().functions[host] = std::make_unique<Function>(Function{.module = module, .name = std::move(name)});
}

Function* find_function(const void* host) {
    const auto found = state().functions.find(host);
    return found == state().functions.end() ? nullptr : found->second.get();
}

const ptx::Kernel& kernel_of(Function& function) {
    if (function.kernel) return *function.kernel;
    Module& module = *function.module;
    if (!module.parsed) {
        if (!module.variable.empty())
            misuse("the module of ", function.name, " has a module-scope variable (", module.variable,
                   "), which is not simulated");
        module.text = replacement_for(module);
        state().replaced = state().replaced || !module.text.empty();
        if (module.text.empty()) module.text = embedded_text(module);
        module.parsed = ptx::parse_module(module.text, source_stem(module.text));
    }
    function.kernel = ptx::find_kernel(*module.parsed, function.name);
    if (!function.kernel) misuse("the PTX text has no kernel ", function.name);
    return *function.kernel;
}

void dump_module(const Module& module) {
    if (settings().ptx_folder.empty()) return;
    std::string problem;
    const std::string_view text = find_ptx(module.fat_binary, settings().major, settings().minor, problem);
    if (!problem.empty() || text.find(".entry") == std::string_view::npos) return;  // a source without kernels
    const std::filesystem::path folder(settings().ptx_folder);
    std::filesystem::create_directories(folder);
    std::string name = source_stem(text);
    for (int copy = 2; !state().dumped.insert(name).second; ++copy)
        name = source_stem(text) + "-" + std::to_string(copy);
    std::ofstream(folder / (name + ".ptx")) << text;
}

bool replacement_was_used() { return settings().ptx_file.empty() || state().replaced; }

}  // namespace sim::runtime
