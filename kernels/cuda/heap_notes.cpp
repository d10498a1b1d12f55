// HeapNotes by the NVTX memory extension, whose header comes with CUDA 13.0. With a toolkit that lacks the header it
// does nothing. It registers an empty tensor with one byte, so that every tensor has a region.
#include "kernels/cuda/heap_notes.h"

#include <algorithm>

#if __has_include(<nvtx3/nvToolsExtMem.h>)

#include <nvtx3/nvToolsExtMem.h>

namespace longlora::cuda {
namespace {

nvtxDomainHandle_t domain_of(void* domain) { return static_cast<nvtxDomainHandle_t>(domain); }

}  // namespace

HeapNotes::HeapNotes(const std::byte* begin, std::int64_t bytes) : domain_(nvtxDomainCreateA("longlora")) {
    const nvtxMemVirtualRangeDesc_t range{.size = static_cast<std::size_t>(bytes), .ptr = begin};
    nvtxMemHeapDesc_t heap{};
    heap.extCompatID = NVTX_EXT_COMPATID_MEM;
    heap.structSize = sizeof heap;
    heap.usage = NVTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR;
    heap.type = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    heap.typeSpecificDescSize = sizeof range;
    heap.typeSpecificDesc = &range;
    heap.messageType = NVTX_MESSAGE_TYPE_ASCII;
    heap.message.ascii = "device memory of longlora";
    heap_ = nvtxMemHeapRegister(domain_of(domain_), &heap);
}

HeapNotes::~HeapNotes() {
    if (heap_) nvtxMemHeapUnregister(domain_of(domain_), static_cast<nvtxMemHeapHandle_t>(heap_));
    if (domain_) nvtxDomainDestroy(domain_of(domain_));
}

void HeapNotes::handed_out(const std::byte* begin, std::int64_t bytes) {
    if (!heap_) return;
    const nvtxMemVirtualRangeDesc_t range{.size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)),
                                          .ptr = begin};
    nvtxMemRegionsRegisterBatch_t regions{};
    regions.extCompatID = NVTX_EXT_COMPATID_MEM;
    regions.structSize = sizeof regions;
    regions.regionType = NVTX_MEM_TYPE_VIRTUAL_ADDRESS;
    regions.heap = static_cast<nvtxMemHeapHandle_t>(heap_);
    regions.regionCount = 1;
    regions.regionDescElementSize = sizeof range;
    regions.regionDescElements = &range;
    nvtxMemRegionsRegister(domain_of(domain_), &regions);
}

void HeapNotes::came_back(const std::byte* begin) {
    if (!heap_) return;
    const nvtxMemRegionRef_t region{.pointer = begin};
    nvtxMemRegionsUnregisterBatch_t regions{};
    regions.extCompatID = NVTX_EXT_COMPATID_MEM;
    regions.structSize = sizeof regions;
    regions.refType = NVTX_MEM_REGION_REF_TYPE_POINTER;
    regions.refCount = 1;
    regions.refElementSize = sizeof region;
    regions.refElements = &region;
    nvtxMemRegionsUnregister(domain_of(domain_), &regions);
}

}  // namespace longlora::cuda

#else

namespace longlora::cuda {

HeapNotes::HeapNotes(const std::byte*, std::int64_t) {}
HeapNotes::~HeapNotes() = default;
void HeapNotes::handed_out(const std::byte*, std::int64_t) {}
void HeapNotes::came_back(const std::byte*) {}

}  // namespace longlora::cuda

#endif
