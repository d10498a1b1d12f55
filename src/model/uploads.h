// Uploads: the integers of micro-batches (tokens, labels, windows) on their way to the device through pinned memory,
// without the host waiting for the device. What they are is micro_batch.h's; activations that come back are
// ActivationOffload's.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/device.h"

namespace longlora {

class Uploads {
public:
    explicit Uploads(Device& device);
    ~Uploads();
    Uploads(const Uploads&) = delete;
    Uploads& operator=(const Uploads&) = delete;

    /// Before a micro-batch of `count` integers altogether. Waits until those of the micro-batch before the last one
    /// have left the host: so far, and no farther, the host runs ahead.
    void begin(std::int64_t count);
    /// A new int32 tensor on the device with what `fill` writes into a host tensor of that shape, for work queued on
    /// the compute stream from now on.
    ArenaTensor upload(Shape shape, const std::function<void(Tensor)>& fill);

private:
    /// Host memory of one micro-batch, and a stream that does nothing but wait for its copies: when it is empty they
    /// are done.
    struct Staging {
        ArenaTensor memory;
        Stream copied;
    };
    Device& device_;
    Staging stagings_[2];  // by turns
    int turn_ = 0;
    std::int64_t used_ = 0;  // of the staging whose turn it is
};

/// The same for one tensor; the host waits for the copy.
ArenaTensor upload(Device& device, Shape shape, const std::function<void(Tensor)>& fill);

}  // namespace longlora
