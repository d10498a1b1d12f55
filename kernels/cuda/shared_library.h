// SharedLibrary: functions of cuBLAS and NCCL by name, so that the program starts where they are not installed and pays
// for loading them only with a GPU. What is in this program itself is taken first (tests link their own), but not what
// another library brought into the process, which may be of any version. Types come from the libraries' headers; no
// wrapper of what they do.
#pragma once

#include <dlfcn.h>

#include <string>

#include "core/error.h"

namespace longlora::cuda {

class SharedLibrary {
public:
    /// file: "libcublas.so.13".
    explicit SharedLibrary(std::string file) : file_(std::move(file)) {}

    /// function("cublasCreate_v2") as the type of ::cublasCreate_v2. Throws one sentence when library or function are
    /// missing.
    template <class Function> Function* function(const char* name) {
        void* found = dlsym(RTLD_DEFAULT, name);
        if (!in_this_program(found)) found = in_file(name);
        return reinterpret_cast<Function*>(found);
    }

private:
    /// The same object as this function.
    static bool in_this_program(void* function) {
        Dl_info its{}, ours{};
        return function && dladdr(function, &its) && dladdr(reinterpret_cast<void*>(&in_this_program), &ours) &&
               its.dli_fbase == ours.dli_fbase;
    }
    void* in_file(const char* name) {
        constexpr const char* kRemedy =
            "; load the CUDA module that this program was built with (LD_LIBRARY_PATH), or take --device cpu";
        if (!handle_) handle_ = dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle_) {
            const char* why = dlerror();  // perhaps another file that this one needs
            fail(text("the library ", file_, " is not found (", why ? why : "no reason is given", ")", kRemedy));
        }
        void* found = dlsym(handle_, name);
        if (!found)
            fail(text("the library ", file_, " has no ", name, "; it is of another version than this build", kRemedy));
        return found;
    }

    std::string file_;
    void* handle_ = nullptr;  // stays loaded until the process ends
};

}  // namespace longlora::cuda
