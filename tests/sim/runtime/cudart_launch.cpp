// CUDA runtime: kernels. nvcc's host code registers them; a launch checks and queues them; ptx::run runs them.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "sim/runtime/device.h"
#include "sim/runtime/memory.h"
#include "sim/runtime/modules.h"
#include "sim/runtime/mutation.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"
#include "sim/runtime/totals.h"

namespace sim::runtime {
namespace {

struct Configuration {
    dim3 grid, block;
    std::size_t shared_bytes = 0;
    cudaStream_t stream = nullptr;
};

/// Launch configurations between "<<<...>>>", which pushes one, and the kernel's host function, which nvcc generates
/// and which pops it.
std::vector<Configuration>& pushed() {
    thread_local std::vector<Configuration> configurations;
    return configurations;
}

std::size_t allowed_dynamic_shared(const Function& function, int device) {
    if (const auto set = function.max_dynamic_shared.find(device); set != function.max_dynamic_shared.end())
        return set->second;
    return kDefaultSharedBytes -
           std::min<std::size_t>(kDefaultSharedBytes, ptx::static_shared_bytes_of(*function.kernel));
}

/// The status of every function that must load a kernel. SIM_JIT=no: the driver cannot compile PTX, which it must do if
/// there is no machine code for the device.
cudaError_t loaded(const Function* function) {
    if (!function) return cudaErrorInvalidDeviceFunction;
    const bool machine_code = settings().major == 8 || (settings().major == 9 && settings().minor == 0);
    return settings().jit || machine_code ? cudaSuccess : cudaErrorUnsupportedPtxVersion;
}

bool within(const dim3& size, unsigned x, unsigned y, unsigned z) {
    return size.x >= 1 && size.y >= 1 && size.z >= 1 && size.x <= x && size.y <= y && size.z <= z;
}

/// The error that the real runtime returns for impossible sizes.
cudaError_t check(const Configuration& configuration, const Function& function, int device) {
    const dim3& block = configuration.block;
    if (!within(configuration.grid, 2147483647, 65535, 65535) || !within(block, 1024, 1024, 64))
        return cudaErrorInvalidConfiguration;
    const unsigned threads = block.x * block.y * block.z, most = ptx::max_threads_of(*function.kernel);
    if (threads > kMaxThreadsPerBlock) return cudaErrorInvalidConfiguration;
    if (most && threads > most) return cudaErrorLaunchOutOfResources;
    return configuration.shared_bytes > allowed_dynamic_shared(function, device) ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t launch(Function* function, Configuration configuration, void** arguments) {
    if (const cudaError_t status = loaded(function); status != cudaSuccess) return status;
    const auto stream = stream_of(configuration.stream, "the launch of " + function->name);
    if (stream->device != current_device()) return cudaErrorInvalidResourceHandle;
    const ptx::Kernel& kernel = kernel_of(*function);
    mutate_launch(function->name, configuration.grid, configuration.shared_bytes);
    if (const cudaError_t refused = check(configuration, *function, stream->device); refused != cudaSuccess)
        return refused;
    ptx::Launch launch;
    launch.kernel = &kernel;
    launch.grid = {configuration.grid.x, configuration.grid.y, configuration.grid.z};
    launch.block = {configuration.block.x, configuration.block.y, configuration.block.z};
    launch.dynamic_shared_bytes = configuration.shared_bytes;
    launch.reversed = settings().reversed;
    const auto parameters = ptx::parameters_of(kernel);
    if (!parameters.empty()) launch.parameters.resize(parameters.back().offset + parameters.back().bytes);
    for (std::size_t i = 0; i < parameters.size(); ++i)
        std::memcpy(launch.parameters.data() + parameters[i].offset, arguments[i], parameters[i].bytes);
    ptx::add_variables(kernel, global_memory(stream->device));
    enqueue(stream, [launch = std::move(launch), name = function->name, device = stream->device] {
        ptx::run(launch, global_memory(device), totals().by_kernel[name]);
    });
    return cudaSuccess;
}

cudaError_t set_attribute(Function* function, cudaFuncAttribute attribute, int value) {
    if (const cudaError_t status = loaded(function); status != cudaSuccess) return status;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        misuse("cudaFuncSetAttribute: attribute ", static_cast<int>(attribute), " is not simulated");
    if (mutated("drop", "cudaFuncSetAttribute")) return cudaSuccess;
    const std::size_t fixed = ptx::static_shared_bytes_of(kernel_of(*function));
    if (value < 0 || static_cast<std::size_t>(value) + fixed > max_shared_bytes()) return cudaErrorInvalidValue;
    function->max_dynamic_shared[current_device()] = static_cast<std::size_t>(value);
    return cudaSuccess;
}

cudaError_t get_attributes(cudaFuncAttributes* attributes, Function* function) {
    if (!attributes) return cudaErrorInvalidValue;
    if (const cudaError_t status = loaded(function); status != cudaSuccess) return status;
    const ptx::Kernel& kernel = kernel_of(*function);
    const unsigned most = ptx::max_threads_of(kernel);
    std::memset(attributes, 0, sizeof *attributes);
    attributes->sharedSizeBytes = ptx::static_shared_bytes_of(kernel);
    attributes->maxThreadsPerBlock = most ? static_cast<int>(most) : kMaxThreadsPerBlock;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(allowed_dynamic_shared(*function, current_device()));
    attributes->ptxVersion = 80;
    attributes->binaryVersion = 10 * settings().major + settings().minor;
    attributes->preferredShmemCarveout = -1;
    return cudaSuccess;  // numRegs stays 0: registers are known to ptxas, not to PTX
}

/// Limited by threads, blocks and shared memory. Registers are not known here, so the real number may be smaller.
cudaError_t occupancy(int* blocks, Function* function, int threads, std::size_t dynamic_shared_bytes) {
    if (!blocks || threads < 1) return cudaErrorInvalidValue;
    if (const cudaError_t status = loaded(function); status != cudaSuccess) return status;
    const std::size_t fixed = ptx::static_shared_bytes_of(kernel_of(*function));
    const std::size_t shared = (fixed + dynamic_shared_bytes + kReservedSharedBytes + 127) / 128 * 128;
    const int warps = (threads + 31) / 32, by_threads = kThreadsPerMultiprocessor / 32 / warps,
              by_shared = static_cast<int>(shared_bytes_per_multiprocessor() / shared);
    const bool fits =
        threads <= kMaxThreadsPerBlock && dynamic_shared_bytes <= allowed_dynamic_shared(*function, current_device());
    *blocks = fits ? std::min({by_threads, by_shared, kBlocksPerMultiprocessor}) : 0;
    return cudaSuccess;
}

}  // namespace
}  // namespace sim::runtime

using namespace sim::runtime;

extern "C" {

cudaError_t cudaLaunchKernel(const void* host, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                             cudaStream_t stream) {
    return call([&] { return launch(find_function(host), {grid, block, shared_bytes, stream}, arguments); });
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* host, void** arguments) {
    return call([&] {
        if (!config) return cudaErrorInvalidValue;
        if (config->numAttrs)
            misuse("cudaLaunchKernelExC: launch attributes (clusters, programmatic launch ...) are not simulated");
        return launch(find_function(host),
                      {config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream}, arguments);
    });
}

cudaError_t cudaFuncSetAttribute(const void* host, cudaFuncAttribute attribute, int value) {
    return call([&] { return set_attribute(find_function(host), attribute, value); });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* host) {
    return call([&] { return get_attributes(attributes, find_function(host)); });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* host, int threads,
                                                          std::size_t shared_bytes) {
    return call([&] { return occupancy(blocks, find_function(host), threads, shared_bytes); });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* host, int threads,
                                                                   std::size_t shared_bytes, unsigned) {
    return call([&] { return occupancy(blocks, find_function(host), threads, shared_bytes); });
}

// The functions that nvcc's host code calls. Their prototypes are those of CUDA's crt/host_runtime.h and
// crt/device_functions.h, which only nvcc may include.

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
    // Like the real one, it is called before the program asks for any device.
    *kernel = reinterpret_cast<cudaKernel_t>(find_function(host));
    return *kernel ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                               cudaStream_t stream) {
    return call([&] {
        return launch(reinterpret_cast<Function*>(kernel), {grid, block, shared_bytes, stream}, arguments);
    });
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes, CUstream_st* stream) {
    pushed().push_back({grid, block, shared_bytes, stream});
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes, void* stream) {
    if (pushed().empty()) return cudaErrorInvalidConfiguration;
    const Configuration last = pushed().back();
    pushed().pop_back();
    *grid = last.grid;
    *block = last.block;
    *shared_bytes = last.shared_bytes;
    *static_cast<cudaStream_t*>(stream) = last.stream;
    return cudaSuccess;
}

void** __cudaRegisterFatBinary(void* wrapper) {
    struct Wrapper {  // as in CUDA's fatbinary_section.h
        int magic, version;
        const void* data;
        void* file;
    };
    return reinterpret_cast<void**>(add_module(static_cast<const Wrapper*>(wrapper)->data));
}

void __cudaRegisterFatBinaryEnd(void** module) { dump_module(*reinterpret_cast<Module*>(module)); }
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }

void __cudaRegisterFunction(void** module, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
    add_function(reinterpret_cast<Module*>(module), host, name);
}

void __cudaRegisterVar(void** module, char*, char*, const char* name, int, std::size_t, int, int) {
    reinterpret_cast<Module*>(module)->variable = name;
}
void __cudaRegisterManagedVar(void** module, void**, char*, const char* name, int, std::size_t, int, int) {
    reinterpret_cast<Module*>(module)->variable = name;
}

}  // extern "C"
