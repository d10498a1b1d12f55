// Process: reads the environment, has the lock, and ends the process on an error.
#include "sim/runtime/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace sim::runtime {

bool errors_are_thrown = false;

namespace {

std::string variable(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value && *value ? value : otherwise;
}

[[noreturn]] void refuse_variable(std::string_view name, std::string_view value) {
    std::fprintf(stderr, "simulated device: the environment's %.*s=%.*s is not understood (tests/sim/README.md)\n",
                 static_cast<int>(name.size()), name.data(), static_cast<int>(value.size()), value.data());
    std::_Exit(70);
}

long long number(const char* name, const char* otherwise) {
    const std::string value = variable(name, otherwise);
    long long parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    const std::string_view unit(end, static_cast<std::size_t>(value.data() + value.size() - end));
    const int shift = unit.empty() ? 0 : unit == "K" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : -1;
    if (error != std::errc() || shift < 0 || parsed < 0) refuse_variable(name, value);
    return parsed << shift;
}

/// The numbers before the first one that is not a device, as the real driver reads them.
std::vector<int> visible_devices(int present) {
    std::vector<int> visible;
    const char* list = std::getenv("CUDA_VISIBLE_DEVICES");
    if (!list) {
        for (int device = 0; device < present; ++device) visible.push_back(device);
        return visible;
    }
    std::istringstream parts(list);
    for (std::string part; std::getline(parts, part, ',');) {
        int device = -1;
        const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), device);
        if (error != std::errc() || end != part.data() + part.size() || device < 0 || device >= present) break;
        visible.push_back(device);
    }
    return visible;
}

}  // namespace

Settings settings_of_environment() {
    Settings read;
    read.devices = visible_devices(static_cast<int>(number("SIM_DEVICES", "8")));
    read.device_memory_bytes = static_cast<std::size_t>(number("SIM_DEVICE_MEMORY", "8G"));
    const std::string capability = variable("SIM_COMPUTE_CAPABILITY", "8.0");
    if (std::sscanf(capability.c_str(), "%d.%d", &read.major, &read.minor) != 2)
        refuse_variable("SIM_COMPUTE_CAPABILITY", capability);
    read.driver_version = static_cast<int>(number("SIM_DRIVER_VERSION", "13000"));
    const std::string hidden = variable("SIM_HIDDEN", "no");
    if (hidden != "yes" && hidden != "no") refuse_variable("SIM_HIDDEN", hidden);
    read.hidden = hidden == "yes";
    const std::string jit = variable("SIM_JIT", "yes");
    if (jit != "yes" && jit != "no") refuse_variable("SIM_JIT", jit);
    read.jit = jit == "yes";
    const std::string streams = variable("SIM_STREAMS", "lazy");
    if (streams != "lazy" && streams != "eager" && streams != "hurried") refuse_variable("SIM_STREAMS", streams);
    read.eager = streams == "eager";
    read.hurried = streams == "hurried";
    const std::string order = variable("SIM_ORDER", "forward");
    if (order != "forward" && order != "reverse") refuse_variable("SIM_ORDER", order);
    read.reversed = order == "reverse";
    read.nccl_timeout = static_cast<double>(number("SIM_NCCL_TIMEOUT", "120"));
    const std::string fault = variable("SIM_NCCL_FAULT", "-1:0");
    if (std::sscanf(fault.c_str(), "%d:%lu", &read.nccl_fault_rank, &read.nccl_fault_after) != 2)
        refuse_variable("SIM_NCCL_FAULT", fault);
    read.ptx_file = variable("SIM_PTX", "");
    read.ptx_folder = variable("SIM_DUMP_PTX", "");
    read.counts_file = variable("SIM_COUNTS", "");
    read.calls_file = variable("SIM_CALLS", "");
    read.mutation = variable("SIM_MUTATE", "");
    return read;
}

Settings& settings() {
    // Never destroyed, since they are used while the process ends.
    static Settings* const read = new Settings(settings_of_environment());
    return *read;
}

void append_to_file(const char* variable, const std::string& file, const std::string& lines) {
    const int out = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    // One write, since stdio would cut the lines into blocks.
    const bool whole = out >= 0 && write(out, lines.data(), lines.size()) == static_cast<ssize_t>(lines.size());
    if (out >= 0) close(out);
    if (!whole) misuse("the file of ", variable, ", ", file, ", cannot be written");
}

void ApiLock::lock() {
    mutex_.lock();
    if (++depth_ == 1 && crossed) crossed(true);
}
void ApiLock::unlock() {
    if (--depth_ == 0 && crossed) crossed(false);
    mutex_.unlock();
}

ApiLock& api_lock() {
    static ApiLock* const lock = new ApiLock;
    return *lock;
}

void idle_moment() {
    api_lock().unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    api_lock().lock();
}

void end_with(const std::exception& error) {
    if (errors_are_thrown) throw;
    std::fprintf(stderr, "simulated device: %s\n", error.what());
    std::_Exit(70);
}

cudaError_t& last_error() {
    thread_local cudaError_t error = cudaSuccess;
    return error;
}

cudaError_t usable() {
    if (settings().driver_version < CUDART_VERSION / 1000 * 1000) return cudaErrorInsufficientDriver;
    return settings().devices.empty() ? cudaErrorNoDevice : cudaSuccess;
}

}  // namespace sim::runtime
