// Modules: the fat binaries that nvcc's host code registers when the process starts, their PTX text, and kernels by the
// address of their host function. A module is parsed when the first of its kernels is used.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/ptx/launch.h"

namespace sim::runtime {

struct Module {
    const void* fat_binary = nullptr;             ///< the data that nvcc's wrapper points to
    std::vector<std::string> kernels{};           ///< names that were registered
    std::string variable{};                       ///< a module-scope variable that was registered; "" is none
    std::shared_ptr<const ptx::Module> parsed{};  ///< nullptr until a kernel is used
    std::string text{};                           ///< the text that was parsed
};

struct Function {
    Module* module = nullptr;
    std::string name{};                               ///< mangled
    std::map<int, std::size_t> max_dynamic_shared{};  ///< by device, from cudaFuncSetAttribute; absent: the default
    const ptx::Kernel* kernel = nullptr;              ///< nullptr until used
};

Module* add_module(const void* fat_binary);
void add_function(Module* module, const void* host, std::string name);
/// nullptr: the function was not registered.
Function* find_function(const void* host);
/// The kernel of a function; parses its module if necessary. Throws Misuse if there is no PTX to run.
const ptx::Kernel& kernel_of(Function& function);
/// Writes the module's text to the folder of SIM_DUMP_PTX, if one is set.
void dump_module(const Module& module);
/// Whether a kernel of the file of SIM_PTX belongs to a module that was used. True if no file is set.
bool replacement_was_used();

/// The PTX text in a fat binary for compute capability major.minor (the highest version that runs there). If there is
/// none, `problem` says why.
std::string_view find_ptx(const void* fat_binary, int major, int minor, std::string& problem);

}  // namespace sim::runtime
