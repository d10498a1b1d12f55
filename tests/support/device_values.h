// Copies the values of a device tensor to the host and back, through pinned memory and the compute stream, as every
// access of host code to device memory must. Bits are kept. No tests here.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/device.h"

namespace longlora {

/// Returns the elements of x. T must be as wide as an element of x.
template <class T> std::vector<T> read_device(Device& device, ConstTensor x) {
    if (x.count() == 0) return {};
    const ConstTensor flat = x.reshaped({x.count()});
    const ArenaTensor host = device.pinned().tensor(x.dtype, flat.shape, Use::exchange);
    device.copy_to_host(host, flat, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return std::vector<T>(host->data<T>(), host->data<T>() + x.count());
}

/// Queues a copy of the values to x on the compute stream and returns without waiting for it. Work on other streams
/// that reads x must wait for the copy. The values come from the returned pinned tensor, which the caller must keep
/// until it has waited for the device.
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
