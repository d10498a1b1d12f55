// Lists the GPUs of this process, and checks whether one can be used for a device of a given size. device.cpp makes the
// device.
#include "kernels/cuda/find_gpus.h"

#include <cuda_runtime.h>

#include <iomanip>
#include <sstream>

#include "core/clock.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/operations.h"

namespace longlora {
namespace {

std::string version_text(int version) { return text(version / 1000, ".", version % 1000 / 10); }
std::string driver_is_older(int driver, int runtime) {
    return text("the NVIDIA driver of this machine is older than this program: the driver is made for CUDA ",
                version_text(driver), ", the program was built with CUDA ", version_text(runtime),
                "; update the driver, build with a toolkit of CUDA ", version_text(driver),
                " or older, or take --device cpu");
}

/// Why no GPU can be used; "" if there are `count` of them. status, count: what cudaGetDeviceCount gave.
std::string problem_of(cudaError_t status, int count) {
    if (status == cudaSuccess && count > 0) return "";
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver), cudaRuntimeGetVersion(&runtime);
    cudaGetLastError();  // clears the error, which the sentence reports
    if (status == cudaSuccess || status == cudaErrorNoDevice)
        return "no GPU is visible to this process; ask Slurm for one (--gpus-per-node), check CUDA_VISIBLE_DEVICES, "
               "or take --device cpu";
    if (status == cudaErrorInsufficientDriver && driver == 0)
        return "this machine has no NVIDIA driver; run on a node with GPUs, or take --device cpu";
    if (status == cudaErrorInsufficientDriver) return driver_is_older(driver, runtime);
    return text("the GPUs of this machine cannot be used: ", cudaGetErrorString(status),
                "; run nvidia-smi to see their state, or take --device cpu");
}

/// Why the current GPU cannot run this program's kernels; "" if it can. The program has machine code for the GPUs that
/// CMakeLists.txt names. For other GPUs the driver compiles the program's PTX. A driver of an older minor version than
/// the toolkit passes all other checks, but cannot read that PTX.
std::string problem_of_code() {
    const cudaError_t status = cuda::load_a_kernel();
    if (status == cudaSuccess) return "";
    const bool not_compiled = status == cudaErrorUnsupportedPtxVersion || status == cudaErrorInvalidPtx ||
                              status == cudaErrorJitCompilerNotFound;
    if (!not_compiled && status != cudaErrorNoKernelImageForDevice) cuda::check(status, "cudaFuncGetAttributes");
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver), cudaRuntimeGetVersion(&runtime);
    cudaGetLastError();  // clears the error, which the sentence reports
    return text("this program has no machine code for it, and the driver cannot make any (", cudaGetErrorString(status),
                "): ", driver < runtime ? driver_is_older(driver, runtime) : "update the driver, or take --device cpu");
}

/// The GPU's UUID (a part of a GPU has its own), and its PCI address.
std::string id_of(const cudaDeviceProp& properties) {
    std::ostringstream out;
    out << std::hex;
    for (const char byte : properties.uuid.bytes)
        out << std::setw(2) << std::setfill('0') << static_cast<int>(static_cast<unsigned char>(byte));
    out << "@" << properties.pciDomainID << ":" << properties.pciBusID << ":" << properties.pciDeviceID;
    return out.str();
}

}  // namespace

Gpus find_gpus() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    Gpus found{problem_of(status, count), {}};
    if (!found.problem.empty()) return found;
    for (int i = 0; i < count; ++i) {
        cudaDeviceProp properties{};
        cuda::check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
        found.gpus.push_back({properties.name, properties.major, properties.minor,
                              static_cast<std::int64_t>(properties.totalGlobalMem), id_of(properties)});
    }
    return found;
}

std::int64_t free_gpu_bytes(int gpu) {
    std::size_t free = 0, total = 0;
    cudaError_t status = cudaSetDevice(gpu);
    if (status == cudaSuccess) status = cudaMemGetInfo(&free, &total);
    require(status == cudaSuccess, "GPU ", gpu, " cannot be used: ", cudaGetErrorString(status),
            "; run nvidia-smi to see its state, or take --device cpu");
    const std::string problem = problem_of_code();
    require(problem.empty(), "GPU ", gpu, " cannot be used: ", problem);
    return free;
}

namespace cuda {

Gpu usable_gpu(int index, std::int64_t memory_bytes) {
    const auto [problem, gpus] = find_gpus();
    require(problem.empty(), problem);
    require(index >= 0 && index < static_cast<int>(gpus.size()), "this rank needs GPU ", index,
            ", but its process sees only ", gpus.size(),
            "; start fewer ranks per node, ask for more GPUs per node, or check CUDA_VISIBLE_DEVICES");
    const Gpu& gpu = gpus[index];
    require(gpu.major >= kLeastComputeMajor, "GPU ", index, " (", gpu.name, ") has compute capability ", gpu.major, ".",
            gpu.minor, ", but ", kLeastComputeMajor,
            ".0 is the least that this program supports; take a newer GPU, or --device cpu");
    const std::int64_t free = free_gpu_bytes(index);
    require(memory_bytes > 0, "the memory of a CUDA device must be given, since it is allocated at once");
    if (memory_bytes > free)
        fail(text("GPU ", index, " (", gpu.name, ") has ", bytes_text(free), " free of ", bytes_text(gpu.total_bytes),
                  ", but ", bytes_text(memory_bytes),
                  " are requested; end other programs on it, or request less with --memory"),
             ExitCode::does_not_fit);
    return gpu;
}

}  // namespace cuda
}  // namespace longlora
