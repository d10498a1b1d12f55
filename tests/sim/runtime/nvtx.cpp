// A tool that listens to NVTX: its memory extension, as far as programs use it that divide one allocation into regions
// (heaps of the kind "sub-allocator" and their regions, by address). Ranges, permissions and names are not known.
// NVTX's headers find `attach` by the symbol InitializeInjectionNvtxExtension_fnptr and call this file's functions
// through the table that it fills.
#if __has_include(<nvtx3/nvToolsExtMem.h>)

#define NVTX_NO_IMPL
#include <nvtx3/nvToolsExtMem.h>
#define NVTX_EXT_TYPES_GUARD  // tools define it to see the structures that they fill
#include <nvtx3/nvtxDetail/nvtxExtTypes.h>

#include "sim/runtime/memory.h"
#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

/// The body of every function: takes the lock, and ends the process on Misuse and Fault.
template <class Body> void listen(Body&& body) {
    const std::lock_guard hold(api_lock());
    try {
        body();
    } catch (const std::exception& error) {
        end_with(error);
    }
}

/// Every structure says for which version of it the program was written.
template <class Description> void check_version(const Description* description, const char* who) {
    if (!description || description->extCompatID != NVTX_EXT_COMPATID_MEM ||
        description->structSize != sizeof(Description))
        misuse(who, ": extCompatID and structSize are not those of the description that is given");
}

/// The memory of the device to which an address belongs. If `heap` is given, the address must lie in it.
ptx::GlobalMemory& memory_around(const void* address, const char* who, const void* heap = nullptr) {
    const Block* block = find_block(address);
    if (!block || block->place != Place::device) misuse(who, ": ", address, " is not device memory");
    if (heap && find_block(heap) != block) misuse(who, ": ", address, " is not in the heap ", heap);
    return global_memory(block->device);
}

nvtxMemHeapHandle_t register_heap(nvtxDomainHandle_t, const nvtxMemHeapDesc_t* heap) {
    nvtxMemHeapHandle_t handle = nullptr;
    listen([&] {
        check_version(heap, "nvtxMemHeapRegister");
        if (heap->usage != NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR || heap->type != NVTX_MEM_TYPE_VIRTUAL_ADDRESS ||
            heap->typeSpecificDescSize != sizeof(nvtxMemVirtualRangeDesc_t))
            misuse("nvtxMemHeapRegister: heaps of other kinds than sub-allocators of addresses are not simulated");
        const auto* range = static_cast<const nvtxMemVirtualRangeDesc_t*>(heap->typeSpecificDesc);
        const Block* block = find_block(range->ptr);
        if (!block || block->place != Place::device || block->begin != range->ptr || block->bytes != range->size)
            misuse("nvtxMemHeapRegister: ", range->size, " bytes at ", range->ptr,
                   " are not a whole allocation of cudaMalloc; heaps inside of an allocation are not simulated");
        global_memory(block->device).make_heap(range->ptr);
        handle = static_cast<nvtxMemHeapHandle_t>(const_cast<void*>(range->ptr));
    });
    return handle;
}

void unregister_heap(nvtxDomainHandle_t, nvtxMemHeapHandle_t heap) {
    listen([&] { memory_around(heap, "nvtxMemHeapUnregister").end_heap(heap); });
}

void register_regions(nvtxDomainHandle_t, const nvtxMemRegionsRegisterBatch_t* regions) {
    listen([&] {
        check_version(regions, "nvtxMemRegionsRegister");
        if (!regions->heap) misuse("nvtxMemRegionsRegister: no heap is given");
        if (regions->regionType != NVTX_MEM_TYPE_VIRTUAL_ADDRESS ||
            regions->regionDescElementSize != sizeof(nvtxMemVirtualRangeDesc_t))
            misuse("nvtxMemRegionsRegister: regions of other kinds than ranges of addresses are not simulated");
        const auto* ranges = static_cast<const nvtxMemVirtualRangeDesc_t*>(regions->regionDescElements);
        for (std::size_t i = 0; i < regions->regionCount; ++i)
            memory_around(ranges[i].ptr, "nvtxMemRegionsRegister", regions->heap)
                .add_region(ranges[i].ptr, ranges[i].size);
    });
}

void unregister_regions(nvtxDomainHandle_t, const nvtxMemRegionsUnregisterBatch_t* regions) {
    listen([&] {
        check_version(regions, "nvtxMemRegionsUnregister");
        if (regions->refType != NVTX_MEM_REGION_REF_TYPE_POINTER ||
            regions->refElementSize != sizeof(nvtxMemRegionRef_t))
            misuse("nvtxMemRegionsUnregister: regions that are not named by their address are not simulated");
        for (std::size_t i = 0; i < regions->refCount; ++i)
            memory_around(regions->refElements[i].pointer, "nvtxMemRegionsUnregister")
                .remove_region(regions->refElements[i].pointer);
    });
}

/// Fills the table of the memory extension; returns 0 for other extensions, which are not wanted.
int attach(nvtxExtModuleInfo_t* module) {
    if (module->moduleId != NVTX_EXT_MODULEID_MEM) return 0;
    std::intptr_t* const slots = module->segments[0].functionSlots;
    slots[NVTX3EXT_CBID_nvtxMemHeapRegister] = reinterpret_cast<std::intptr_t>(&register_heap);
    slots[NVTX3EXT_CBID_nvtxMemHeapUnregister] = reinterpret_cast<std::intptr_t>(&unregister_heap);
    slots[NVTX3EXT_CBID_nvtxMemRegionsRegister] = reinterpret_cast<std::intptr_t>(&register_regions);
    slots[NVTX3EXT_CBID_nvtxMemRegionsUnregister] = reinterpret_cast<std::intptr_t>(&unregister_regions);
    return 1;
}

}  // namespace
}  // namespace sim::runtime

extern "C" NvtxExtInitializeInjectionFunc_t InitializeInjectionNvtxExtension_fnptr;
NvtxExtInitializeInjectionFunc_t InitializeInjectionNvtxExtension_fnptr = &sim::runtime::attach;

#endif
