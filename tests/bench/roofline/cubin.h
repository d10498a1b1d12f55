// Reads the cubins (the code that nvcc compiled for one GPU architecture) from the fat binary inside a program: machine
// code, registers and shared memory of each kernel. It needs no NVIDIA tool. NVIDIA does not document the formats; this
// reader follows the bytes themselves and published descriptions, and reports what it does not understand as an error.
// It runs no kernel. sass.h counts the instructions.
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

/// Returns all kernels for sm_`architecture` (80 or 90) in the section .nv_fatbin of the program file. Throws
/// std::runtime_error.
std::vector<CompiledKernel> read_kernels(const std::string& program, int architecture);

}  // namespace longlora::roofline
