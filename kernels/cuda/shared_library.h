// SharedLibrary: finds functions of cuBLAS and NCCL by name, so that the program starts where these libraries are not
// installed, and loads them only if it uses a GPU. It prefers functions in this program itself (tests link their own),
// but takes none from other libraries of the process, which may be of any version. The function types come from the
// libraries' headers. It does not wrap what the functions do.
#pragma once

#include <dlfcn.h>

#include <string>

#include "core/error.h"

namespace longlora::cuda {

class SharedLibrary {
public:
    /// file: a name for dlopen, such as "libcublas.so.13".
    explicit SharedLibrary(std::string file) : file_(std::move(file)) {}

    /// Example: function<decltype(cublasCreate_v2)>("cublasCreate_v2"). Throws an Error with one sentence if the
    /// library or the function is missing.
    template <class Function> Function* function(const char* name) {
        void* found = dlsym(RTLD_DEFAULT, name);
        if (!in_this_program(found)) found = in_file(name);
        return reinterpret_cast<Function*>(found);
    }

private:
    /// Whether `function` lies in the same executable or library as this function.
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
            const char* why = dlerror();  // may name another file that this one needs
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
