// Copies run on the compute stream, so device memory needs no order of its own. Both stagings always have the same
// size. So the amount of pinned memory does not depend on the turn at which a large micro-batch comes, and a plan of
// one step knows it for all steps.
#include "model/uploads.h"

#include <algorithm>
#include <exception>

namespace longlora {

Uploads::Uploads(Device& device) : device_(device) {
    for (Staging& staging : stagings_) staging.copied = device_.make_stream();
}

/// The next owner of the pinned memory may write into it, so all copies must be done. After an error no code writes
/// there, and the device may never finish the copies.
Uploads::~Uploads() {
    if (std::uncaught_exceptions() > 0) return;
    try {
        for (const Staging& staging : stagings_) device_.synchronize(staging.copied);
    } catch (const std::exception&) {  // the next call of the device reports it
    }
}

void Uploads::begin(std::int64_t count) {
    turn_ = 1 - turn_;
    used_ = 0;
    if (stagings_[turn_].memory && count <= stagings_[turn_].memory->count())
        return device_.synchronize(stagings_[turn_].copied);
    for (Staging& staging : stagings_) device_.synchronize(staging.copied), staging.memory.release();
    for (Staging& staging : stagings_)
        staging.memory = device_.pinned().tensor(DType::int32, {std::max<std::int64_t>(count, 1)}, Use::batch);
}

ArenaTensor Uploads::upload(Shape shape, const std::function<void(Tensor)>& fill) {
    Staging& staging = stagings_[turn_];
    ensure(staging.memory && used_ + shape.count() <= staging.memory->count(),
           "a micro-batch uploads no more than begin() was told");
    const Tensor host = staging.memory->slice(used_, shape.count()).reshaped(shape);
    used_ += shape.count();
    ArenaTensor on_device = device_.memory().tensor(DType::int32, shape, Use::batch);
    if (device_.kind() != DeviceKind::plan) fill(host);
    device_.copy_to_device(on_device, host, Device::compute_stream());
    device_.wait(staging.copied, device_.record(Device::compute_stream()));
    return on_device;
}

ArenaTensor upload(Device& device, Shape shape, const std::function<void(Tensor)>& fill) {
    ArenaTensor on_device = device.memory().tensor(DType::int32, shape, Use::batch);
    const ArenaTensor staging = device.pinned().tensor(DType::int32, shape, Use::batch);
    if (device.kind() != DeviceKind::plan) fill(staging);
    device.copy_to_device(on_device, staging, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return on_device;
}

}  // namespace longlora
