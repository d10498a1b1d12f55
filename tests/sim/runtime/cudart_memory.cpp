// CUDA runtime: device memory and pinned host memory. Copies are in cudart_copy.cpp.
#include <cstring>

#include "sim/runtime/device.h"
#include "sim/runtime/memory.h"
#include "sim/runtime/process.h"
#include "sim/runtime/queue.h"

using namespace sim::runtime;

namespace {

/// Freeing waits for the device, as in the real runtime, so no queued operation loses its memory.
cudaError_t release(void* pointer, bool (*free)(void*), cudaError_t unknown) {
    if (!pointer) return cudaSuccess;
    force(ends_of_device(-1));
    return free(pointer) ? cudaSuccess : unknown;
}

cudaError_t make_pinned(void** pointer, std::size_t bytes, unsigned flags) {
    if (!pointer || flags & ~unsigned{cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined})
        return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (!bytes) return cudaSuccess;
    *pointer = allocate_pinned(bytes, flags, flags & cudaHostAllocMapped, current_device());
    return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
    return call([&] {
        if (!pointer) return cudaErrorInvalidValue;
        *pointer = nullptr;
        if (!bytes) return cudaSuccess;
        *pointer = allocate_device(current_device(), bytes);
        return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
    });
}

cudaError_t cudaFree(void* pointer) {
    return call([&] { return release(pointer, free_device, cudaErrorInvalidValue); });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    return call([&] {
        if (total) *total = settings().device_memory_bytes;
        if (free) *free = device_bytes_free(current_device());
        return cudaSuccess;
    });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
    return call([&] { return make_pinned(pointer, bytes, flags); });
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
    return call([&] { return make_pinned(pointer, bytes, cudaHostAllocDefault); });
}

cudaError_t cudaFreeHost(void* pointer) {
    return call([&] {
        return release(
            pointer, [](void* begin) { return free_pinned(begin, false); }, cudaErrorInvalidValue);
    });
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned flags) {
    return call([&] {
        if (!pointer || !bytes ||
            flags & ~unsigned{cudaHostRegisterPortable | cudaHostRegisterMapped | cudaHostRegisterReadOnly})
            return cudaErrorInvalidValue;
        return register_pinned(pointer, bytes, flags, flags & cudaHostRegisterMapped, current_device())
                   ? cudaSuccess
                   : cudaErrorHostMemoryAlreadyRegistered;
    });
}

cudaError_t cudaHostUnregister(void* pointer) {
    return call([&] {
        return release(
            pointer, [](void* begin) { return free_pinned(begin, true); }, cudaErrorHostMemoryNotRegistered);
    });
}

cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* pointer, unsigned flags) {
    return call([&] {
        const Block* block = find_block(pointer);
        if (!device_pointer || flags || !block || block->place != Place::pinned || !block->mapped)
            return cudaErrorInvalidValue;
        *device_pointer = pointer;
        return cudaSuccess;
    });
}

cudaError_t cudaHostGetFlags(unsigned* flags, void* pointer) {
    return call([&] {
        const Block* block = find_block(pointer);
        if (!flags || !block || block->place != Place::pinned) return cudaErrorInvalidValue;
        *flags = block->flags;
        return cudaSuccess;
    });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    return call([&] {
        if (!attributes) return cudaErrorInvalidValue;
        std::memset(attributes, 0, sizeof *attributes);
        const Block* block = find_block(pointer);
        void* const address = const_cast<void*>(pointer);
        attributes->type = !block                          ? cudaMemoryTypeUnregistered
                           : block->place == Place::device ? cudaMemoryTypeDevice
                                                           : cudaMemoryTypeHost;
        attributes->device = block ? block->device : -2;  // -2 is cudaInvalidDeviceId
        attributes->devicePointer = block && (block->place == Place::device || block->mapped) ? address : nullptr;
        attributes->hostPointer = block && block->place == Place::pinned ? address : block ? nullptr : address;
        return cudaSuccess;
    });
}

}  // extern "C"
