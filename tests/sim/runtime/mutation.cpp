// Mutation: records the places of calls and how often each place ran, and breaks the calls that SIM_MUTATE names. An
// address is an offset in the program's file, as addr2line takes it, so that it is the same in every run.
#include "sim/runtime/mutation.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <span>
#include <sstream>
#include <vector>

namespace sim::runtime {
namespace {

constexpr int kMostFrames = 24;

struct State {
    std::map<std::string, std::uint64_t> times;  // by "RULE PLACE"
    std::map<std::string, dim3> largest_grid;    // by kernel, so far; tells whether a kernel uses y and z
    std::uint64_t changed = 0;                   // calls that were broken
};
State& state() {
    static State* const all = new State;  // never destroyed: used while the process ends
    return *all;
}

/// SIM_MUTATE: a rule, and the places where calls are broken by it.
struct Wanted {
    std::string rule;
    std::vector<std::string> places;
};
const Wanted& wanted() {
    static const Wanted* const read = [] {
        auto* const parsed = new Wanted;
        std::istringstream words(settings().mutation);
        words >> parsed->rule;
        for (std::string place; words >> place;) parsed->places.push_back(place);
        return parsed;
    }();
    return *read;
}

/// Records that the rule fits a place; returns whether to break the call at this place. A place in SIM_MUTATE stands
/// for all places that begin with it.
bool note(const std::string& rule, const std::string& place) {
    if (!settings().calls_file.empty()) ++state().times[rule + ' ' + place];
    if (rule != wanted().rule) return false;
    const auto begins = [&place](const std::string& prefix) {
        return place.starts_with(prefix) && (place.size() == prefix.size() || place[prefix.size()] == '@');
    };
    const bool chosen = std::any_of(wanted().places.begin(), wanted().places.end(), begins);
    state().changed += chosen;
    return chosen;
}

/// Where the program itself lies in memory, without its shared libraries.
struct Extent {
    std::uintptr_t base = 0, end = 0;
    bool contains(std::uintptr_t address) const { return address >= base && address < end; }
};
Extent extent_of_program() {
    Extent program;
    dl_iterate_phdr(
        [](dl_phdr_info* object, std::size_t, void* to) {  // the program comes first
            Extent& extent = *static_cast<Extent*>(to);
            extent.base = object->dlpi_addr;
            for (const auto& part : std::span(object->dlpi_phdr, object->dlpi_phnum))
                if (part.p_type == PT_LOAD)
                    extent.end = std::max(extent.end, extent.base + part.p_vaddr + part.p_memsz);
            return 1;
        },
        &program);
    return program;
}

/// The code of a function of the API.
Extent extent_of(const char* function) {
    Dl_info info{};
    void *symbol = nullptr, *const begin = dlsym(RTLD_DEFAULT, function);
    if (!begin || !dladdr1(begin, &info, &symbol, RTLD_DL_SYMENT) || !symbol)
        misuse("SIM_CALLS, SIM_MUTATE: the program does not export ", function);
    const auto base = reinterpret_cast<std::uintptr_t>(begin);
    return {base, base + static_cast<const ElfW(Sym)*>(symbol)->st_size};
}

/// "FUNCTION@OFFSET@OFFSET...": return addresses in the program, from the caller of the function outwards.
std::string place_of_call(const char* function) {
    static const Extent program = extent_of_program();
    static auto* const functions = new std::map<std::string, Extent>;
    auto known = functions->find(function);
    if (known == functions->end()) known = functions->emplace(function, extent_of(function)).first;
    std::array<void*, kMostFrames> frames{};
    const auto count = static_cast<std::size_t>(backtrace(frames.data(), kMostFrames));
    std::string place = function;
    for (void* frame : std::span(frames).first(count)) {
        const auto address = reinterpret_cast<std::uintptr_t>(frame) - 1;
        std::array<char, 20> text{};
        if (known->second.contains(address)) place = function;
        else if (program.contains(address))
            std::snprintf(text.data(), text.size(), "@%llx", static_cast<unsigned long long>(address - program.base));
        place += text.data();
    }
    return place;
}

}  // namespace

bool place_is_mutated(const char* rule, const char* function) {
    // Walking the stack takes time, so it is done only if the place is needed.
    if (settings().calls_file.empty() && wanted().rule != rule) return false;
    return note(rule, place_of_call(function));
}

void mutate_launch(const std::string& kernel, dim3& grid, std::size_t& shared_bytes) {
    if (!settings().watches_calls()) return;
    dim3& largest = state().largest_grid[kernel];
    largest = dim3(std::max(largest.x, grid.x), std::max(largest.y, grid.y), std::max(largest.z, grid.z));
    const auto change = [&](const std::string& axis, unsigned& blocks, bool used) {
        const unsigned before = blocks;
        if (before > 1 && note("grid-" + axis + "-less", kernel)) blocks = before - 1;
        if (used && note("grid-" + axis + "-more", kernel)) blocks = before + 1;
    };
    change("x", grid.x, true);
    change("y", grid.y, largest.y > 1);
    change("z", grid.z, largest.z > 1);
    if (shared_bytes >= 16 && note("shared-less", kernel)) shared_bytes -= 16;
}

void report_mutation() {
    if (!settings().mutation.empty())
        std::fprintf(stderr, "simulated device: SIM_MUTATE changed %llu calls\n",
                     static_cast<unsigned long long>(state().changed));
    if (settings().calls_file.empty()) return;
    std::ostringstream lines;
    for (const auto& [place, times] : state().times) lines << place << ' ' << times << '\n';
    append_to_file("SIM_CALLS", settings().calls_file, lines.str());
}

}  // namespace sim::runtime
