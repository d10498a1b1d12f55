// Helpers of the tests of the simulated runtime: buffers, streams and events that free themselves, and checks of
// results and exceptions. This file has no tests.
#pragma once

#include <cuda_runtime.h>

#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <vector>

#include "sim/runtime/probe.h"

namespace sim::testing {

/// Requires that a call has succeeded.
inline void ok(cudaError_t status) { BOOST_REQUIRE_EQUAL(cudaGetErrorName(status), cudaGetErrorName(cudaSuccess)); }

template <class T> class DeviceBuffer {
public:
    explicit DeviceBuffer(std::size_t count) : count_(count) {
        ok(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)));
    }
    explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) { set(values); }
    ~DeviceBuffer() { cudaFree(data_); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    T* get() const { return data_; }
    std::size_t bytes() const { return count_ * sizeof(T); }
    void set(const std::vector<T>& values) {
        ok(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
        ok(cudaDeviceSynchronize());
    }
    /// Copies the values to the host. The call blocks, but does not wait for non-blocking streams.
    std::vector<T> values() const {
        std::vector<T> values(count_);
        ok(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
        return values;
    }

private:
    T* data_ = nullptr;
    std::size_t count_;
};

template <class T> class PinnedBuffer {
public:
    explicit PinnedBuffer(std::size_t count, T value = {}, unsigned flags = cudaHostAllocDefault) {
        ok(cudaHostAlloc(reinterpret_cast<void**>(&data_), count * sizeof(T), flags));
        for (std::size_t i = 0; i < count; ++i) data_[i] = value;
    }
    ~PinnedBuffer() { cudaFreeHost(data_); }
    PinnedBuffer(const PinnedBuffer&) = delete;
    PinnedBuffer& operator=(const PinnedBuffer&) = delete;
    T* get() const { return data_; }
    T& operator[](std::size_t i) const { return data_[i]; }

private:
    T* data_ = nullptr;
};

class TestStream {
public:
    explicit TestStream(unsigned flags = cudaStreamNonBlocking) { ok(cudaStreamCreateWithFlags(&stream_, flags)); }
    ~TestStream() { cudaStreamDestroy(stream_); }
    TestStream(const TestStream&) = delete;
    TestStream& operator=(const TestStream&) = delete;
    operator cudaStream_t() const { return stream_; }
    void synchronize() const { ok(cudaStreamSynchronize(stream_)); }

private:
    cudaStream_t stream_ = nullptr;
};

class TestEvent {
public:
    explicit TestEvent(unsigned flags = cudaEventDisableTiming) { ok(cudaEventCreateWithFlags(&event_, flags)); }
    ~TestEvent() { cudaEventDestroy(event_); }
    TestEvent(const TestEvent&) = delete;
    TestEvent& operator=(const TestEvent&) = delete;
    operator cudaEvent_t() const { return event_; }

private:
    cudaEvent_t event_ = nullptr;
};

/// Checks that the call throws an Exception whose message contains `part`.
template <class Exception, class Call> void throws(Call&& call, const char* part) {
    const probe::ErrorsAreThrown thrown;
    BOOST_CHECK_EXCEPTION(call(), Exception, [part](const Exception& error) {
        const bool found = std::string(error.what()).find(part) != std::string::npos;
        if (!found) BOOST_TEST_MESSAGE(error.what());
        return found;
    });
}

}  // namespace sim::testing
