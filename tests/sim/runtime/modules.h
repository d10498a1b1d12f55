// Modules: the fat binaries that nvcc's objects register when the process starts, their PTX text, and kernels by the
// address of their host function. Nothing is parsed before a kernel of the module is used.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/ptx/launch.h"

namespace sim::runtime {

struct Module {
    const void* fat_binary = nullptr;             ///< the data behind nvcc's wrapper
    std::vector<std::string> kernels{};           ///< names that were registered
    std::string variable{};                       ///< a module-scope variable that was registered; "" is none
    std::shared_ptr<const ptx::Module> parsed{};  ///< nullptr until a kernel is used
    std::string text{};                           ///< what was parsed
};

struct Function {
    Module* module = nullptr;
    std::string name{};                               ///< mangled
    std::map<int, std::size_t> max_dynamic_shared{};  ///< by device, from cudaFuncSetAttribute; absent: the default
    const ptx::Kernel* kernel = nullptr;              ///< nullptr until used
};

Module* add_module(const void* fat_binary);
void add_function(Module* module, const void* host, std::string name);
/// nullptr: not registered.
Function* find_function(const void* host);
/// The kernel, after parsing of its module if need be. Misuse when there is no PTX to run.
const ptx::Kernel& kernel_of(Function& function);
/// SIM_DUMP_PTX: writes the module's text to that folder, when one is set.
void dump_module(const Module& module);
/// SIM_PTX: whether the file's kernels were those of any module that was used. True when none is set.
bool replacement_was_used();

/// The PTX text in a fat binary for compute capability major.minor (the highest that runs there); says in `problem` why
/// there is none.
std::string_view find_ptx(const void* fat_binary, int major, int minor, std::string& problem);

}  // namespace sim::runtime
