// Tests of the devices of the simulated runtime: their number and properties, the settings in the environment, the
// errors without a device or with an old driver, and how an error ends the process.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "runtime_testing.h"

using namespace sim::testing;
using sim::probe::ChangedSettings;
using sim::runtime::Settings;

namespace {

/// Sets an environment variable; the destructor restores its old value.
class Variable {
public:
    Variable(const char* name, const char* value) : name_(name) {
        if (const char* before = std::getenv(name)) before_ = before;
        setenv(name, value, 1);
    }
    ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

private:
    const char* name_;
    std::optional<std::string> before_;
};

/// Makes the call in a copy of this process and returns that copy's exit code and standard error.
template <class Call> std::pair<int, std::string> in_another_process(Call&& call) {
    int ends[2];
    BOOST_REQUIRE(pipe(ends) == 0);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (!child) {
        dup2(ends[1], STDERR_FILENO);
        call();
        std::_Exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[512];
    for (ssize_t bytes; (bytes = read(ends[0], part, sizeof part)) > 0;)
        said.append(part, static_cast<std::size_t>(bytes));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_device)

BOOST_AUTO_TEST_CASE(settings_from_the_environment) {
    const Variable devices("SIM_DEVICES", "4"), memory("SIM_DEVICE_MEMORY", "3G"),
        capability("SIM_COMPUTE_CAPABILITY", "9.0"), driver("SIM_DRIVER_VERSION", "12040"),
        streams("SIM_STREAMS", "eager"), jit("SIM_JIT", "no"), timeout("SIM_NCCL_TIMEOUT", "7"),
        order("SIM_ORDER", "reverse"), visible("CUDA_VISIBLE_DEVICES", "3,1");
    const Settings read = sim::runtime::settings_of_environment();
    BOOST_TEST(read.devices == (std::vector<int>{3, 1}));
    BOOST_TEST(read.device_memory_bytes == std::size_t{3} << 30);
    BOOST_TEST(read.major == 9);
    BOOST_TEST(read.minor == 0);
    BOOST_TEST(read.driver_version == 12040);
    BOOST_TEST(read.eager);
    BOOST_TEST(!read.jit);
    BOOST_TEST(read.nccl_timeout == 7);
    BOOST_TEST(read.reversed);
}

BOOST_AUTO_TEST_CASE(unknown_values_of_settings_are_refused) {
    for (const char* name : {"SIM_ORDER", "SIM_STREAMS", "SIM_JIT", "SIM_DEVICE_MEMORY"}) {
        const Variable wrong(name, "backwards");
        const auto [code, said] = in_another_process([] { sim::runtime::settings_of_environment(); });
        BOOST_TEST(code == 70);
        BOOST_TEST(said == "simulated device: the environment's " + std::string(name) +
                               "=backwards is not understood (tests/sim/README.md)\n");
    }
}

BOOST_AUTO_TEST_CASE(visible_devices_end_at_the_first_unknown_number) {
    const Variable devices("SIM_DEVICES", "2");
    const auto visible = [](const char* list) {
        const Variable variable("CUDA_VISIBLE_DEVICES", list);
        return sim::runtime::settings_of_environment().devices;
    };
    BOOST_TEST(visible("1") == std::vector<int>{1});
    BOOST_TEST(visible("1,0") == (std::vector<int>{1, 0}));
    BOOST_TEST(visible("0,2,1") == std::vector<int>{0});
    BOOST_TEST(visible("-1") == std::vector<int>{});
    BOOST_TEST(visible("") == std::vector<int>{});
}

BOOST_AUTO_TEST_CASE(properties) {
    cudaDeviceProp properties{};
    ok(cudaGetDeviceProperties(&properties, 0));
    BOOST_TEST(std::string(properties.name) == "simulated GPU");
    BOOST_TEST(properties.major == 8);
    BOOST_TEST(properties.multiProcessorCount == 108);
    BOOST_TEST(properties.sharedMemPerBlock == std::size_t{48} << 10);
    BOOST_TEST(properties.sharedMemPerBlockOptin == std::size_t{163} << 10);
    int value = 0;
    ok(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    BOOST_TEST(value == 163 << 10);
    char bus[16], next[16];
    ok(cudaDeviceGetPCIBusId(bus, sizeof bus, 0));
    ok(cudaDeviceGetPCIBusId(next, sizeof next, 1));
    BOOST_TEST(std::string(bus) != next);
    throws<sim::probe::Misuse>([&] { return cudaDeviceGetAttribute(&value, cudaDevAttrMaxTexture1DWidth, 0); },
                               "not simulated");
}

BOOST_AUTO_TEST_CASE(missing_devices) {
    int count = -1;
    ok(cudaGetDeviceCount(&count));
    BOOST_TEST(cudaSetDevice(count) == cudaErrorInvalidDevice);
    BOOST_TEST(cudaPeekAtLastError() == cudaErrorInvalidDevice);
    BOOST_TEST(cudaGetLastError() == cudaErrorInvalidDevice);
    BOOST_TEST(cudaGetLastError() == cudaSuccess);
    const ChangedSettings none([](Settings& settings) { settings.devices.clear(); });
    BOOST_TEST(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
    BOOST_TEST(count == 0);
    void* pointer = nullptr;
    BOOST_TEST(cudaMalloc(&pointer, 1) == cudaErrorNoDevice);
    cudaGetLastError();
}

BOOST_AUTO_TEST_CASE(a_driver_older_than_the_runtime) {
    int version = 0, count = 0;
    ok(cudaRuntimeGetVersion(&version));
    BOOST_TEST(version == CUDART_VERSION);
    const ChangedSettings old([](Settings& settings) { settings.driver_version = 12090; });
    ok(cudaDriverGetVersion(&version));
    BOOST_TEST(version == 12090);
    BOOST_TEST(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
    BOOST_TEST(std::string(cudaGetErrorString(cudaErrorInsufficientDriver)) ==
               "CUDA driver version is insufficient for CUDA runtime version");
    cudaGetLastError();
}

BOOST_AUTO_TEST_CASE(a_misuse_ends_the_process_with_one_sentence) {
    const auto [code, said] = in_another_process([] { cudaMemsetAsync(nullptr, 0, 1, nullptr); });
    BOOST_TEST(code == 70);
    BOOST_TEST(said.starts_with("simulated device: cudaMemsetAsync: on the NULL stream"));
    BOOST_TEST(std::count(said.begin(), said.end(), '\n') == 1);
}

BOOST_AUTO_TEST_CASE(a_fault_ends_the_process_with_one_sentence) {
    const auto [code, said] = in_another_process([] {
        const DeviceBuffer<std::byte> never_written(1);
        never_written.values();
    });
    BOOST_TEST(code == 70);
    BOOST_TEST(said.starts_with("simulated device: "));
}

BOOST_AUTO_TEST_CASE(queued_work_runs_when_the_process_ends) {
    const auto [code, said] = in_another_process([] {
        const TestStream stream;
        cudaLaunchHostFunc(
            stream, [](void*) { std::fputs("ran", stderr); }, nullptr);
        std::fputs("ends ", stderr);
        std::exit(0);
    });
    BOOST_TEST(said == "ends ran");
    BOOST_TEST(code == 0);
}

BOOST_AUTO_TEST_SUITE_END()
