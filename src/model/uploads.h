// Uploads: copies the integers of micro-batches (tokens, labels, windows) to the device through pinned memory, and
// the host does not wait for the device. micro_batch.h says what they are. ActivationOffload moves activations to the
// host and back.
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

    /// Call it before a micro-batch of `count` integers in total. It waits until the integers of the micro-batch
    /// before the previous one have left the host: the host runs ahead that far and no further.
    void begin(std::int64_t count);
    /// A new int32 tensor on the device with what `fill` writes into a host tensor of that shape, for work that is
    /// queued on the compute stream from now on. A plan device reads nothing, so there `fill` is not called.
    ArenaTensor upload(Shape shape, const std::function<void(Tensor)>& fill);

private:
    /// Host memory of one micro-batch, and a stream that does nothing but wait for its copies: when the stream is
    /// empty, the copies are done.
    struct Staging {
        ArenaTensor memory;
        Stream copied;
    };
    Device& device_;
    Staging stagings_[2];  // used in turn
    int turn_ = 0;
    std::int64_t used_ = 0;  // elements of the staging whose turn it is
};

/// The same for one tensor; the host waits for the copy.
ArenaTensor upload(Device& device, Shape shape, const std::function<void(Tensor)>& fill);

}  // namespace longlora
