// Cubin: what nvcc compiled for one kind of GPU, read from the fat binary inside a program: machine code, registers and
// shared memory of each kernel. No NVIDIA tool is needed. Formats are told by the bytes themselves and by what others
// published; what is not understood is an error. It runs nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace longlora::roofline {

struct CompiledKernel {
    std::string name;                    ///< mangled
    int registers = 0, max_threads = 0;  ///< per thread; __launch_bounds__ (0: none)
    std::int64_t static_shared_bytes = 0, local_bytes = 0;
    std::vector<std::array<std::uint64_t, 2>> code;  ///< 128-bit instructions, low word first
};

/// All kernels compiled for sm_`architecture` (80, 90) in the program's section .nv_fatbin. Throws std::runtime_error.
std::vector<CompiledKernel> read_kernels(const std::string& program, int architecture);

}  // namespace longlora::roofline
