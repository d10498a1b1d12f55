// Tests of launches in the simulated runtime: it finds and runs kernels that nvcc compiled, checks sizes as the real
// runtime does, and lets no kernel reach host memory. runtime_kernels.cu has the kernels.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime_kernels.h"
#include "runtime_testing.h"

using namespace sim::testing;
using sim::probe::Misuse;

namespace {

std::vector<float> ramp(std::size_t count) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = float(i);
    return values;
}

const sim::ptx::Counts* counts_of(const std::string& part) {
    for (const auto& [kernel, counts] : sim::probe::totals().by_kernel)
        if (kernel.find(part) != std::string::npos) return &counts;
    return nullptr;
}

/// Runs these test cases of this program in a new process with additional environment variables; returns its status.
int run_cases(const std::string& environment, const std::string& cases) {
    const std::string program = std::filesystem::read_symlink("/proc/self/exe");
    return std::system(("env " + environment + " " + program + " --run_test=" + cases + " > /dev/null 2>&1").c_str());
}

std::string content_of(const std::filesystem::path& file) {
    std::ostringstream content;
    content << std::ifstream(file).rdbuf();
    return content.str();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_launch)

BOOST_AUTO_TEST_CASE(kernels_run_when_they_are_waited_for) {
    const DeviceBuffer<float> x(ramp(300)), y(std::vector<float>(300, 1.0f));
    const TestStream stream;
    ok(launch_axpy(2, x.get(), y.get(), 300, stream));
    BOOST_TEST(y.values()[299] == 1);
    stream.synchronize();
    BOOST_TEST(y.values()[299] == 599);
    const auto* counts = counts_of("axpy");
    BOOST_REQUIRE(counts);
    BOOST_TEST(counts->launches >= 1U);
    BOOST_TEST(counts->global_written_bytes >= 1200U);
}

BOOST_AUTO_TEST_CASE(parameters_are_taken_at_the_call) {
    const DeviceBuffer<float> x(ramp(4)), y(std::vector<float>(4, 0.0f));
    const TestStream stream;
    for (float factor = 1; factor < 4; ++factor) ok(launch_axpy(factor, x.get(), y.get(), 4, stream));
    stream.synchronize();
    BOOST_TEST(y.values()[3] == 18);
}

BOOST_AUTO_TEST_CASE(a_driver_that_compiles_nothing_runs_machine_code_only) {
    const DeviceBuffer<float> x(ramp(4)), y(std::vector<float>(4, 0.0f));
    const TestStream stream;
    const auto launch = [&](int major, int minor) {
        const sim::probe::ChangedSettings gpu(
            [=](auto& settings) { settings.major = major, settings.minor = minor, settings.jit = false; });
        cudaFuncAttributes attributes{};
        const cudaError_t status = cudaFuncGetAttributes(&attributes, reverse_kernel());
        BOOST_TEST(launch_axpy(1, x.get(), y.get(), 4, stream) == status);
        return status;
    };
    ok(launch(8, 9));
    ok(launch(9, 0));
    BOOST_TEST(launch(10, 0) == cudaErrorUnsupportedPtxVersion);
    BOOST_TEST(launch(12, 0) == cudaErrorUnsupportedPtxVersion);
    cudaGetLastError();
    stream.synchronize();
    BOOST_TEST(y.values()[3] == 6);
}

BOOST_AUTO_TEST_CASE(shared_memory_beyond_48_KiB_has_to_be_asked_for) {
    const DeviceBuffer<float> x(ramp(64));
    const TestStream stream;
    const std::size_t much = 100 << 10;
    BOOST_TEST(launch_reverse(x.get(), dim3(1), dim3(64), (48 << 10) + 1, stream) == cudaErrorInvalidValue);
    ok(launch_reverse(x.get(), dim3(1), dim3(64), 48 << 10, stream));
    ok(cudaFuncSetAttribute(reverse_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, int(much)));
    ok(launch_reverse(x.get(), dim3(2), dim3(32), much, stream));
    BOOST_TEST(launch_reverse(x.get(), dim3(1), dim3(64), much + 1, stream) == cudaErrorInvalidValue);
    BOOST_TEST(cudaFuncSetAttribute(reverse_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, (163 << 10) + 1) ==
               cudaErrorInvalidValue);
    ok(cudaFuncSetAttribute(reverse_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, 163 << 10));
    cudaFuncAttributes attributes{};
    ok(cudaFuncGetAttributes(&attributes, reverse_kernel()));
    BOOST_TEST(attributes.maxDynamicSharedSizeBytes == 163 << 10);
    stream.synchronize();
    BOOST_TEST(x.values()[0] == 32);  // the first launch reversed all 64 numbers, the second each half
    BOOST_TEST(x.values()[63] == 31);
    cudaGetLastError();
}

BOOST_AUTO_TEST_CASE(invalid_sizes_are_refused) {
    const DeviceBuffer<float> x(ramp(1024));
    const TestStream stream;
    for (const dim3 block : {dim3(1025), dim3(0), dim3(1, 1, 65), dim3(64, 32)})
        BOOST_TEST(launch_reverse(x.get(), dim3(1), block, 4096, stream) == cudaErrorInvalidConfiguration);
    for (const dim3 grid : {dim3(0), dim3(1, 65536), dim3(1, 1, 65536), dim3(0x80000000u)})
        BOOST_TEST(launch_reverse(x.get(), grid, dim3(32), 4096, stream) == cudaErrorInvalidConfiguration);
    BOOST_TEST(launch_bounded(x.get(), 65, stream) == cudaErrorLaunchOutOfResources);
    ok(launch_bounded(x.get(), 64, stream));
    stream.synchronize();
    BOOST_TEST(x.values()[63] == 1);
}

BOOST_AUTO_TEST_CASE(occupancy_by_threads_and_shared_memory) {
    int blocks = 0;
    ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, reverse_kernel(), 256, 0));
    BOOST_TEST(blocks == 8);
    ok(cudaFuncSetAttribute(reverse_kernel(), cudaFuncAttributeMaxDynamicSharedMemorySize, 80 << 10));
    ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, reverse_kernel(), 256, 80 << 10));
    BOOST_TEST(blocks == 2);
    ok(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, reverse_kernel(), 256, 81 << 10));
    BOOST_TEST(blocks == 0);
    cudaFuncAttributes attributes{};
    ok(cudaFuncGetAttributes(&attributes, bounded_kernel()));
    BOOST_TEST(attributes.maxThreadsPerBlock == 64);
}

BOOST_AUTO_TEST_CASE(the_null_stream_is_refused_for_kernels) {
    const DeviceBuffer<float> x(ramp(4));
    throws<Misuse>([&] { return launch_axpy(1, x.get(), x.get(), 4, nullptr); }, "NULL stream");
}

BOOST_AUTO_TEST_CASE(functions_that_are_no_kernels) {
    const TestStream stream;
    BOOST_TEST(cudaLaunchKernel(reinterpret_cast<const void*>(&counts_of), dim3(1), dim3(1), nullptr, 0, stream) ==
               cudaErrorInvalidDeviceFunction);
    cudaGetLastError();
}

BOOST_AUTO_TEST_CASE(host_memory_is_out_of_a_kernels_reach_unless_mapped) {
    const DeviceBuffer<float> y(std::vector<float>(4, 0.0f));
    const PinnedBuffer<float> plain(4, 1.0f), mapped(4, 1.0f, cudaHostAllocMapped);
    const std::vector<float> pageable(4, 1.0f);
    const TestStream stream;
    for (const float* x : {pageable.data(), static_cast<const float*>(plain.get())}) {
        ok(launch_axpy(1, x, y.get(), 4, stream));
        throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(stream); }, "not device memory");
    }
    ok(launch_axpy(1, mapped.get(), y.get(), 4, stream));
    stream.synchronize();
    BOOST_TEST(y.values()[3] == 1);
}

BOOST_AUTO_TEST_CASE(memory_that_was_freed_is_out_of_reach) {
    const DeviceBuffer<float> y(std::vector<float>(4, 0.0f));
    const TestStream stream;
    const float* gone = nullptr;
    {
        const DeviceBuffer<float> x(ramp(4));
        gone = x.get();
    }
    ok(launch_axpy(1, gone, y.get(), 4, stream));
    throws<sim::ptx::Fault>([&] { return cudaStreamSynchronize(stream); }, "not device memory");
}

BOOST_AUTO_TEST_CASE(ptx_is_written_and_replaced) {
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / ("sim-ptx-" + std::to_string(getpid()));
    const std::string dumped = folder / "runtime_kernels.ptx", changed = folder / "changed.ptx";
    BOOST_TEST(run_cases("SIM_DUMP_PTX=" + folder.string(), "runtime_launch/parameters_are_taken_at_the_call") == 0);
    std::string text = content_of(dumped);
    BOOST_REQUIRE(text.find(".entry") != std::string::npos);
    BOOST_TEST(run_cases("SIM_PTX=" + dumped, "runtime_launch/parameters_are_taken_at_the_call") == 0);
    const std::size_t sum = text.find("fma.rn.f32");
    BOOST_REQUIRE(sum != std::string::npos);
    text.replace(sum, 10, "min.f32   ");  // with three sources, which is no instruction
    std::ofstream(changed) << text;
    BOOST_TEST(run_cases("SIM_PTX=" + changed, "runtime_launch/parameters_are_taken_at_the_call") != 0);
    // The runtime parses a module only when a kernel of it is used.
    BOOST_TEST(run_cases("SIM_PTX=" + changed, "runtime_copy/blocking_copies") == 0);
    std::filesystem::remove_all(folder);
}

BOOST_AUTO_TEST_CASE(counts_are_written_when_the_process_ends) {
    const std::filesystem::path file =
        std::filesystem::temp_directory_path() / ("sim-counts-" + std::to_string(getpid()));
    BOOST_TEST(run_cases("SIM_COUNTS=" + file.string(), "runtime_launch/parameters_are_taken_at_the_call") == 0);
    const std::string lines = content_of(file);
    BOOST_TEST(lines.starts_with("{\"kernel\": \""));
    BOOST_TEST(lines.find("axpy") != std::string::npos);
    BOOST_TEST(lines.find("\"launches\": 3,") != std::string::npos);
    BOOST_TEST(std::count(lines.begin(), lines.end(), '\n') == 1);
    std::filesystem::remove(file);
}

BOOST_AUTO_TEST_SUITE_END()
