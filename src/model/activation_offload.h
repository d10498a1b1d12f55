// ActivationOffload: keeps tensors in pinned host memory instead of device memory until backward needs them. Copies
// run on a stream of their own: out while the forward of the next layer computes, back while the backward of the
// layer after it computes. model.cpp chooses the tensors. ActivationPlan (recomputation) and Zero are other ways to
// save memory.
#pragma once

#include <vector>

#include "kernels/device.h"

namespace longlora {

class ActivationOffload {
public:
    /// A tensor in host memory. Move-only. It must go back to the ActivationOffload that made it, through take().
    class Stored {
    public:
        explicit operator bool() const { return static_cast<bool>(host_); }

    private:
        friend class ActivationOffload;
        ArenaTensor host_, device_;
        Event arrived_;
    };

    explicit ActivationOffload(Device& device) : device_(device), copies_(device.make_stream()) {}
    ActivationOffload(const ActivationOffload&) = delete;
    ActivationOffload& operator=(const ActivationOffload&) = delete;

    /// Moves x, as the compute stream has left it, to the host. One tensor leaves at a time: the device memory of x
    /// is free for others from the next store() or settle() on.
    Stored store(ArenaTensor x);
    /// Makes the compute stream wait for the tensor that is leaving; after that its device memory is free.
    void settle();
    /// Starts the copy back, after the work that is queued on the compute stream so far. Takes device memory.
    void fetch(Stored& stored);
    /// The tensor on the device again, for work that is queued on the compute stream from now on. Call fetch()
    /// before.
    ArenaTensor take(Stored& stored);

private:
    struct Leaving {
        ArenaTensor device;
        Event gone;
    };
    ArenaTensor host_buffer(const ConstTensor& like);

    Device& device_;
    Stream copies_;
    Leaving leaving_;
    /// Host buffers that only the copy stream reads and writes. They never return to the pinned arena: there, host
    /// code could write into a buffer that a queued copy still reads.
    std::vector<ArenaTensor> idle_;
};

}  // namespace longlora
