// SharedLibrary: functions of cuBLAS and NCCL by name, so that the program starts where they are not installed and pays for loading them only with a GPU.
// What is in this process already is taken first (tests link their own). Types come from the libraries' headers; no wrapper of what they do.
#pragma once

#include <dlfcn.h>

#include <string>

#include "core/error.h"

namespace longlora::cuda {

class SharedLibrary {
public:
    /// file: "libcublas.so.13".
    explicit SharedLibrary(std::string file) : file_(std::move(file)) {}

    /// function("cublasCreate_v2") as the type of ::cublasCreate_v2. Throws one sentence when library or function are missing.
    template <class Function> Function* function(const char* name) {
        void* found = dlsym(RTLD_DEFAULT, name);
        if (!found && !handle_) handle_ = dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!found && handle_) found = dlsym(handle_, name);
        if (!found) fail(text(handle_ ? text("the library ", file_, " has no ", name, "; it is of another version than this build") : text("the library ", file_, " is not found"),
                              "; load the CUDA module that this program was built with (LD_LIBRARY_PATH), or take --device cpu"));
        return reinterpret_cast<Function*>(found);
    }

private:
    std::string file_;
    void* handle_ = nullptr;   // stays loaded until the process ends
};

}  // namespace longlora::cuda
