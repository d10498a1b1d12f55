// ActivationOffload: tensors that wait for backward in pinned host memory instead of the device's. Copies go on a
// stream of their own: out while the next layer's forward computes, back while the backward of the layer behind does.
// Which tensors wait is model.cpp's; other memory savers are ActivationPlan (recompute) and Zero.
#pragma once

#include <vector>

#include "kernels/device.h"

namespace longlora {

class ActivationOffload {
public:
    /// A tensor away. Move-only; must come back to the offload that gave it by take().
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

    /// Takes x, as the compute stream has left it, to the host. One tensor leaves at a time: x's device memory is free
    /// for others from the next store() or settle() on.
    Stored store(ArenaTensor x);
    /// The compute stream waits for the tensor that is leaving, whose device memory is then free.
    void settle();
    /// Begins to bring it back, behind the work queued on the compute stream so far. Takes device memory.
    void fetch(Stored& stored);
    /// The tensor on the device again, for work queued on the compute stream from now on; fetch() must have begun it.
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
    /// Buffers that come and go on the copy stream alone. They never return to the pinned arena, where host code could
    /// write into one that a queued copy still reads.
    std::vector<ArenaTensor> idle_;
};

}  // namespace longlora
