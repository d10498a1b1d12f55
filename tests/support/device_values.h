// What a tensor of a device holds, on the host, and back: through pinned memory and the compute stream, as host code
// must. Bits are kept. No tests here.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/device.h"

namespace longlora {

/// T is as wide as an element of x.
template <class T> std::vector<T> read_device(Device& device, ConstTensor x) {
    if (x.count() == 0) return {};
    const ConstTensor flat = x.reshaped({x.count()});
    const ArenaTensor host = device.pinned().tensor(x.dtype, flat.shape, Use::exchange);
    device.copy_to_host(host, flat, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return std::vector<T>(host->data<T>(), host->data<T>() + x.count());
}

/// The values are on their way to x behind the work of the compute stream, and not there yet: what reads them elsewhere
/// has to wait for it. They come from pinned memory, given back here, which has to stay until the device was waited
/// for.
template <class T> ArenaTensor send_to_device(Device& device, Tensor x, const std::vector<T>& values) {
    if (x.count() == 0) return {};
    const Tensor flat = x.reshaped({x.count()});
    ArenaTensor host = device.pinned().tensor(x.dtype, flat.shape, Use::exchange);
    std::copy(values.begin(), values.end(), host->data<T>());
    device.copy_to_device(flat, host, Device::compute_stream());
    return host;
}

template <class T> void write_device(Device& device, Tensor x, const std::vector<T>& values) {
    const ArenaTensor host = send_to_device(device, x, values);
    if (host) device.synchronize(Device::compute_stream());
}

}  // namespace longlora
