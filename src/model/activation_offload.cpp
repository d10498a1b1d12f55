// The order of the streams. Out: the copy waits for the layer that computed x; later work on the compute stream waits
// for the copy before the memory of x is used again. Back: the copy waits for all work that may still use the memory
// that it writes to; the layer waits for the copy.
#include "model/activation_offload.h"

#include <algorithm>
#include <utility>

namespace longlora {

ArenaTensor ActivationOffload::host_buffer(const ConstTensor& like) {
    const auto fits = std::find_if(idle_.begin(), idle_.end(), [&](const ArenaTensor& buffer) {
        return buffer->dtype == like.dtype && buffer->shape == like.shape;
    });
    if (fits == idle_.end()) return device_.pinned().tensor(like.dtype, like.shape, Use::activations);
    ArenaTensor buffer = std::move(*fits);
    idle_.erase(fits);
    return buffer;
}

ActivationOffload::Stored ActivationOffload::store(ArenaTensor x) {
    settle();
    Stored stored;
    stored.host_ = host_buffer(x);
    device_.wait(copies_, device_.record(Device::compute_stream()));
    device_.copy_to_host(stored.host_, x, copies_);
    leaving_ = {std::move(x), device_.record(copies_)};
    return stored;
}

void ActivationOffload::settle() {
    if (!leaving_.device) return;
    device_.wait(Device::compute_stream(), leaving_.gone);
    leaving_.device.release();
}

void ActivationOffload::fetch(Stored& stored) {
    ensure(stored.host_ && !stored.device_, "a stored tensor is fetched once");
    settle();
    stored.device_ = device_.memory().tensor(stored.host_->dtype, stored.host_->shape, Use::activations);
    device_.wait(copies_, device_.record(Device::compute_stream()));
    device_.copy_to_device(stored.device_, stored.host_, copies_);
    stored.arrived_ = device_.record(copies_);
}

ArenaTensor ActivationOffload::take(Stored& stored) {
    ensure(static_cast<bool>(stored.device_), "a stored tensor is fetched before it is taken");
    device_.wait(Device::compute_stream(), stored.arrived_);
    idle_.push_back(std::move(stored.host_));
    return std::move(stored.device_);
}

}  // namespace longlora
