// CUDA runtime: devices, versions, errors. The numbers are those of an A100 (compute capability 8.0); those that depend
// on the compute capability follow SIM_COMPUTE_CAPABILITY.
#include <cstdio>
#include <cstring>
#include <string>

#include "sim/runtime/device.h"
#include "sim/runtime/memory.h"
#include "sim/runtime/mutation.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"

namespace sim::runtime {

int& current_device() {
    thread_local int device = 0;
    return device;
}

bool is_device(int device) { return device >= 0 && device < static_cast<int>(settings().devices.size()); }

std::size_t max_shared_bytes() {
    const int capability = 10 * settings().major + settings().minor;
    if (capability < 80) return 64 << 10;
    const int kilobytes = capability == 80 || capability == 87 ? 163 : capability == 90 || capability >= 100 ? 227 : 99;
    return static_cast<std::size_t>(kilobytes) << 10;
}

std::size_t shared_bytes_per_multiprocessor() { return max_shared_bytes() + kReservedSharedBytes; }

namespace {

/// The value of an attribute; -1 if it is not simulated.
int attribute_value(cudaDeviceAttr attribute, int device) {
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock:
            return kMaxThreadsPerBlock;
        case cudaDevAttrMaxBlockDimX:
        case cudaDevAttrMaxBlockDimY:
            return 1024;
        case cudaDevAttrMaxBlockDimZ:
            return 64;
        case cudaDevAttrMaxGridDimX:
            return 2147483647;
        case cudaDevAttrMaxGridDimY:
        case cudaDevAttrMaxGridDimZ:
            return 65535;
        case cudaDevAttrMaxSharedMemoryPerBlock:
            return kDefaultSharedBytes;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            return static_cast<int>(max_shared_bytes());
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            return static_cast<int>(shared_bytes_per_multiprocessor());
        case cudaDevAttrReservedSharedMemoryPerBlock:
            return kReservedSharedBytes;
        case cudaDevAttrWarpSize:
            return 32;
        case cudaDevAttrMaxRegistersPerBlock:
        case cudaDevAttrMaxRegistersPerMultiprocessor:
            return 65536;
        case cudaDevAttrMultiProcessorCount:
            return kMultiprocessors;
        case cudaDevAttrMaxThreadsPerMultiProcessor:
            return kThreadsPerMultiprocessor;
        case cudaDevAttrMaxBlocksPerMultiprocessor:
            return kBlocksPerMultiprocessor;
        case cudaDevAttrComputeCapabilityMajor:
            return settings().major;
        case cudaDevAttrComputeCapabilityMinor:
            return settings().minor;
        case cudaDevAttrL2CacheSize:
            return kLevel2Bytes;
        case cudaDevAttrPciBusId:
            return kFirstBus + settings().devices[static_cast<std::size_t>(device)];
        case cudaDevAttrPciDeviceId:
        case cudaDevAttrPciDomainId:
        case cudaDevAttrIntegrated:
        case cudaDevAttrManagedMemory:
            return 0;
        case cudaDevAttrAsyncEngineCount:
            return 2;
        case cudaDevAttrCanMapHostMemory:
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrConcurrentKernels:
        case cudaDevAttrEccEnabled:
            return 1;
        case cudaDevAttrStreamPrioritiesSupported:
        case cudaDevAttrHostRegisterSupported:
        case cudaDevAttrCanUseHostPointerForRegisteredMem:
            return 1;
        case cudaDevAttrMemoryPoolsSupported:
        case cudaDevAttrCooperativeLaunch:
        case cudaDevAttrPageableMemoryAccess:
            return 0;
        default:
            return -1;
    }
}

void fill_properties(cudaDeviceProp& properties, int device) {
    std::memset(&properties, 0, sizeof properties);
    std::strcpy(properties.name, "simulated GPU");
    properties.totalGlobalMem = settings().device_memory_bytes;
    properties.sharedMemPerBlock = kDefaultSharedBytes;
    properties.sharedMemPerBlockOptin = max_shared_bytes();
    properties.sharedMemPerMultiprocessor = shared_bytes_per_multiprocessor();
    properties.reservedSharedMemPerBlock = kReservedSharedBytes;
    properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
    properties.warpSize = 32;
    properties.memPitch = 2147483647;
    properties.maxThreadsPerBlock = kMaxThreadsPerBlock;
    properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
    properties.maxThreadsDim[2] = 64;
    properties.maxGridSize[0] = 2147483647;
    properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
    properties.totalConstMem = 65536;
    properties.major = settings().major;
    properties.minor = settings().minor;
    properties.textureAlignment = 512;
    properties.multiProcessorCount = kMultiprocessors;
    properties.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
    properties.maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
    properties.canMapHostMemory = properties.concurrentKernels = properties.unifiedAddressing = properties.ECCEnabled =
        1;
    properties.asyncEngineCount = 2;
    properties.l2CacheSize = kLevel2Bytes;
    properties.memoryBusWidth = 5120;
    properties.streamPrioritiesSupported = properties.hostRegisterSupported =
        properties.canUseHostPointerForRegisteredMem = 1;
    properties.pciBusID = attribute_value(cudaDevAttrPciBusId, device);
}

}  // namespace
}  // namespace sim::runtime

using namespace sim::runtime;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    if (count) *count = 0;
    return call([&] {
        return count ? (*count = static_cast<int>(settings().devices.size()), cudaSuccess) : cudaErrorInvalidValue;
    });
}

cudaError_t cudaSetDevice(int device) {
    return call([&] { return is_device(device) ? (current_device() = device, cudaSuccess) : cudaErrorInvalidDevice; });
}

cudaError_t cudaGetDevice(int* device) {
    return call([&] { return device ? (*device = current_device(), cudaSuccess) : cudaErrorInvalidValue; });
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
    return call([&] { return is_device(device) ? cudaSuccess : cudaErrorInvalidDevice; });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    return call([&] {
        if (!properties) return cudaErrorInvalidValue;
        return is_device(device) ? (fill_properties(*properties, device), cudaSuccess) : cudaErrorInvalidDevice;
    });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    return call([&] {
        if (!is_device(device)) return cudaErrorInvalidDevice;
        const int known = attribute_value(attribute, device);
        if (known < 0) misuse("cudaDeviceGetAttribute: attribute ", static_cast<int>(attribute), " is not simulated");
        return value ? (*value = known, cudaSuccess) : cudaErrorInvalidValue;
    });
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
    return call([&] {
        if (!text || length < 13) return cudaErrorInvalidValue;
        if (!is_device(device)) return cudaErrorInvalidDevice;
        std::snprintf(text, static_cast<std::size_t>(length), "0000:%02X:00.0",
                      static_cast<unsigned>(attribute_value(cudaDevAttrPciBusId, device)) & 0xFF);
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return call([&] {
        if (least) *least = 0;
        if (greatest) *greatest = kGreatestPriority;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceSynchronize() {
    return call([&] {
        if (!mutated("drop", "cudaDeviceSynchronize")) force(ends_of_device(current_device()));
        return cudaSuccess;
    });
}

cudaError_t cudaDriverGetVersion(int* version) {
    return version ? (*version = settings().driver_version, cudaSuccess) : (last_error() = cudaErrorInvalidValue);
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    return version ? (*version = CUDART_VERSION, cudaSuccess) : (last_error() = cudaErrorInvalidValue);
}

cudaError_t cudaGetLastError() { return std::exchange(last_error(), cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error(); }

}  // extern "C"
