// Tests of the CUDA device (kernels/cuda) on the simulated runtime: its error messages, its allocations, its streams
// and events, the libraries that it loads. tests/unit/kernels and cuda_paths_test.cpp test its operations.
#include <cublas_v2.h>
#include <dlfcn.h>

#include <boost/test/unit_test.hpp>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/native.h"
#include "kernels/device.h"
#include "sim/runtime/probe.h"

namespace longlora {
namespace {

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

/// The message with which make_cuda_device refuses the options; checks that the error has this exit code.
std::string refusal(const DeviceOptions& options, ExitCode code = ExitCode::bad_input) {
    try {
        make_cuda_device(options);
    } catch (const Error& error) {
        BOOST_CHECK(error.code == code);
        return error.what();
    }
    return "not refused";
}

void check_has(const std::string& sentence, std::initializer_list<const char*> parts) {
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(sentence.find(part) != std::string::npos, "'" << part << "' is not in: " << sentence);
}

const DeviceOptions kSmall{.memory_bytes = 80 * kMebibyte, .pinned_bytes = kMebibyte};

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_device)

BOOST_AUTO_TEST_CASE(refusals) {
    using sim::probe::ChangedSettings;
    {
        const ChangedSettings none([](auto& s) { s.devices.clear(); });
        check_has(find_gpus().problem, {"no GPU is visible", "--device cpu"});
        check_has(refusal(kSmall), {"no GPU is visible"});
    }
    {
        const ChangedSettings old_driver([](auto& s) { s.driver_version = 12040; });
        check_has(find_gpus().problem, {"driver", "12.4", "13.0"});
        BOOST_TEST(find_gpus().gpus.empty());
        check_has(refusal(kSmall), {"driver"});
    }
    {
        const ChangedSettings no_driver([](auto& s) { s.driver_version = 0; });
        check_has(find_gpus().problem, {"no NVIDIA driver"});
    }
    {
        const ChangedSettings old_gpu([](auto& s) { s.major = 7, s.minor = 5; });
        check_has(refusal(kSmall), {"7.5", "8.0"});
    }
    const ChangedSettings two([](auto& s) { s.devices = {0, 1}, s.device_memory_bytes = std::size_t{1} << 30; });
    DeviceOptions options = kSmall;
    options.gpu = 3;
    check_has(refusal(options), {"needs GPU 3", "sees only 2", "fewer ranks per node"});
    options = kSmall, options.memory_bytes = 2048 * kMebibyte;
    check_has(refusal(options, ExitCode::does_not_fit), {"2.0 GiB", "1.0 GiB", "--memory"});
    options.memory_bytes = 0;
    check_has(refusal(options), {"must be given"});
}

/// A driver of the toolkit's major version works on every GPU with machine code in the program. For another GPU it has
/// to compile the PTX text, which may be too new for it.
BOOST_AUTO_TEST_CASE(a_driver_that_cannot_compile) {
    using sim::probe::ChangedSettings;
    const auto allocations = sim::probe::totals().allocations;
    {
        const ChangedSettings newer_gpu([](auto& s) { s.major = 12, s.minor = 0, s.jit = false; });
        BOOST_TEST(find_gpus().problem == "");
        check_has(refusal(kSmall),
                  {"GPU 0", "no machine code", "unsupported toolchain", "update the driver", "--device cpu"});
        BOOST_CHECK_EXCEPTION(free_gpu_bytes(0), Error,
                              [](const Error& error) { return error.code == ExitCode::bad_input; });
        BOOST_TEST(sim::probe::totals().allocations == allocations);
        BOOST_TEST(cudaGetLastError() == cudaSuccess);
    }
    const auto works = [](int major, int minor, bool jit) {
        const ChangedSettings gpu([=](auto& s) { s.major = major, s.minor = minor, s.jit = jit; });
        BOOST_TEST(refusal(kSmall) == "not refused");
    };
    works(8, 6, false), works(9, 0, false), works(12, 0, true);
}

BOOST_AUTO_TEST_CASE(memory_is_allocated_once_and_given_back) {
    const auto& totals = sim::probe::totals();
    const auto allocations = totals.allocations, pinned = totals.pinned_allocations, bytes = totals.allocated_bytes;
    {
        DeviceOptions options = kSmall;
        options.memory_bytes += 1;
        const auto device = make_cuda_device(options);
        BOOST_TEST(device->memory().capacity() == 80 * kMebibyte + 256);
        BOOST_TEST(device->pinned().capacity() == kMebibyte);
        BOOST_TEST(device->memory().in_use_bytes() == cuda_own_bytes());
        BOOST_TEST(totals.allocations == allocations + 1);
        BOOST_TEST(totals.pinned_allocations == pinned + 1);
        BOOST_TEST((device->kind() == DeviceKind::cuda && device->good_at_bfloat16()));
        check_has(device->description(), {"sm_80", " GB"});

        // A plan device takes as much of its arena as the CUDA device.
        const auto plan = make_plan_device({.memory_bytes = options.memory_bytes, .own_bytes = cuda_own_bytes()});
        BOOST_TEST(plan->memory().in_use_bytes() == device->memory().in_use_bytes());
        BOOST_TEST(plan->memory().high_water_bytes() == device->memory().high_water_bytes());
    }
    BOOST_TEST(totals.allocated_bytes == bytes);
    DeviceOptions too_small = kSmall;
    too_small.memory_bytes = kMebibyte;
    BOOST_CHECK_EXCEPTION(make_cuda_device(too_small), Error,
                          [](const Error& error) { return error.code == ExitCode::does_not_fit; });
    BOOST_TEST(totals.allocated_bytes == bytes);
}

BOOST_AUTO_TEST_CASE(work_on_another_stream_waits_for_events_only) {
    const auto device = make_cuda_device(kSmall);
    const Stream other = device->make_stream();
    BOOST_TEST((cuda::native_stream(*device, other) != cuda::native_stream(*device, Device::compute_stream())));
    const ArenaTensor x = device->memory().tensor(DType::float32, {1000}, Use::workspace),
                      y = device->memory().tensor(DType::float32, {1000}, Use::workspace);
    const ArenaTensor host = device->pinned().tensor(DType::float32, {1000}, Use::workspace);
    for (int round = 0; round < 20; ++round) {
        device->ops().fill(x, static_cast<float>(round));
        const Event filled = device->record(Device::compute_stream());
        device->wait(other, filled);
        device->ops(other).copy(y, x);
        device->copy_to_host(host, y, other);
        device->wait(Device::compute_stream(), device->record(other));
        device->wait(other, filled);  // a stream may wait again for an event that was reached
        device->synchronize(other);
        BOOST_TEST(host->data<float>()[999] == static_cast<float>(round));
    }
    BOOST_CHECK_THROW(device->wait(other, Event{1000}), std::logic_error);
    BOOST_CHECK_THROW(device->wait(other, Event{0}), std::logic_error);
    BOOST_CHECK_THROW(device->synchronize(Stream{7}), std::logic_error);
}

BOOST_AUTO_TEST_CASE(streams_beside_the_compute_stream_have_priority) {
    const auto device = make_cuda_device(kSmall);
    int least = 0, greatest = 0;
    cudaDeviceGetStreamPriorityRange(&least, &greatest);
    BOOST_TEST_REQUIRE(greatest < least);
    const auto check_stream = [&](Stream stream, int expected) {
        int priority = 1;
        unsigned flags = 0;
        BOOST_TEST(cudaStreamGetPriority(cuda::native_stream(*device, stream), &priority) == cudaSuccess);
        BOOST_TEST(cudaStreamGetFlags(cuda::native_stream(*device, stream), &flags) == cudaSuccess);
        BOOST_TEST(priority == expected);
        BOOST_TEST(flags == unsigned{cudaStreamNonBlocking});
    };
    check_stream(Device::compute_stream(), least);
    for (int i = 0; i < 3; ++i) check_stream(device->make_stream(), greatest);
}

/// The host may launch kernels for minutes without waiting for the device. So a later mark_progress() reports the marks
/// that the device has reached.
BOOST_AUTO_TEST_CASE(marks_are_reported_by_later_marks) {
    const auto device = make_cuda_device(kSmall);
    const ArenaTensor x = device->memory().tensor(DType::float32, {1000}, Use::workspace);
    int told = 0, asked = 0;
    device->set_progress([&] { ++told; });
    device->set_waiting([&] { ++asked; });
    const auto work = [&] {
        device->ops().fill(x, 1.0f);
        device->mark_progress();
    };
    const auto done = [&] {
        // Waits for the GPU without a call of the device, so the device does not notice that the work is done.
        BOOST_TEST(cudaStreamSynchronize(cuda::native_stream(*device, Device::compute_stream())) == cudaSuccess);
    };
    work();
    BOOST_TEST((told == 0 && asked == 1));
    done();
    BOOST_TEST(told == 0);
    work();
    BOOST_TEST((told == 1 && asked == 2));
    work();
    BOOST_TEST((told == 1 && asked == 3));  // the GPU has done nothing in between
    done();
    work();
    BOOST_TEST((told == 2 && asked == 4));  // one report for two marks
    done();
    device->set_waiting([] { fail("another rank is lost"); });
    BOOST_CHECK_THROW(work(), Error);
    BOOST_TEST(told == 3);
    device->set_waiting({});
    work();
    BOOST_TEST(told == 3);  // the call that threw set no mark
    done();
    work();
    BOOST_TEST(told == 4);
    device->synchronize(Device::compute_stream());
    device->set_progress({});
}

/// The device reuses events, but only after they are reached: a stream that waits for an older event still has to wait.
BOOST_AUTO_TEST_CASE(an_event_is_not_taken_over_before_it_is_reached) {
    for (const bool by_mark : {false, true}) {
        const auto device = make_cuda_device(kSmall);
        const Stream other = device->make_stream();
        const ArenaTensor x = device->memory().tensor(DType::float32, {100}, Use::workspace),
                          host = device->pinned().tensor(DType::float32, {100}, Use::workspace);
        device->ops().fill(x, 3);
        const Event filled = device->record(Device::compute_stream());
        if (by_mark) device->mark_progress();
        else device->record(Device::compute_stream());
        device->wait(other, filled);
        device->copy_to_host(host, x, other);
        device->synchronize(other);
        BOOST_TEST(host->data<float>()[99] == 3);
    }
}

/// Scratch memory and cuBLAS's workspace belong to the compute stream.
BOOST_AUTO_TEST_CASE(operations_with_scratch_run_on_the_compute_stream_only) {
    const auto device = make_cuda_device(kSmall);
    const Stream other = device->make_stream();
    const ArenaTensor x = device->memory().tensor(DType::float32, {4, 4}, Use::workspace),
                      y = device->memory().tensor(DType::float32, {4, 4}, Use::workspace);
    const ArenaTensor out = device->memory().tensor(DType::float32, {4, 4}, Use::workspace),
                      sum = device->memory().tensor(DType::float64, {}, Use::workspace);
    for (const Tensor& t : {*x, *y, *sum}) device->ops().fill(t, 0.5f);
    BOOST_CHECK_THROW(device->ops(other).matmul(out, x, y, Transpose::no, Transpose::no), std::logic_error);
    BOOST_CHECK_THROW(device->ops(other).sum_squares(sum, x), std::logic_error);
    const auto allocations = sim::probe::totals().allocations;
    device->ops().matmul(out, x, y, Transpose::no, Transpose::no);
    device->ops().sum_squares(sum, out);
    device->synchronize(Device::compute_stream());
    BOOST_TEST(sim::probe::totals().allocations == allocations);  // no operation allocates
}

BOOST_AUTO_TEST_CASE(a_failed_call_leaks_nothing) {
    const auto& totals = sim::probe::totals();
    const auto device = make_cuda_device(kSmall);
    const cudaStream_t stream = cuda::native_stream(*device, Device::compute_stream());
    const auto events = totals.events, handles = totals.handles;
    {
        const ArenaTensor room = device->memory().tensor(DType::uint8, {4096}, Use::workspace);
        Tensor unaligned = room->slice(0, 1024);
        unaligned.bytes += 1;
        BOOST_CHECK_THROW(cuda::Blas(stream, unaligned), Error);
        BOOST_TEST(totals.handles == handles);
    }
    {
        cuda::Events recorded;
        recorded.record(stream);
        cudaSetDevice(1);  // a stream of device 0 does not take events of device 1
        BOOST_CHECK_THROW(cuda::Events().record(stream), Error);
        cudaSetDevice(0);
        BOOST_TEST(totals.events == events + 1);
        BOOST_TEST(cudaGetLastError() == cudaErrorInvalidResourceHandle);
    }
    BOOST_TEST(totals.events == events);
}

/// A library is the program itself or the named file, never another library that happens to be loaded: an MPI library
/// may have brought a NCCL of any version into the process.
BOOST_AUTO_TEST_CASE(libraries_are_this_program_or_the_named_file) {
    cuda::SharedLibrary nowhere("libnowhere.so.7"), math("libm.so.6");
    const auto refused = [](cuda::SharedLibrary& library, const char* name) -> std::string {
        try {
            library.function<void()>(name);
        } catch (const Error& error) {
            return error.what();
        }
        return "not refused";
    };
    BOOST_TEST((nowhere.function<decltype(cublasDestroy_v2)>("cublasDestroy_v2") == &cublasDestroy_v2));
    BOOST_TEST_REQUIRE(dlsym(RTLD_DEFAULT, "MPI_Comm_free"));  // in the process, but in another library
    check_has(refused(nowhere, "MPI_Comm_free"), {"libnowhere.so.7 is not found (", "No such file", "--device cpu"});
    BOOST_TEST(math.function<double(double)>("floor")(2.5) == 2.0);
    check_has(refused(math, "cublasNeverThere"), {"libm.so.6 has no cublasNeverThere", "another version"});
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
