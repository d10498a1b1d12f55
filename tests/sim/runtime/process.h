// Process: the settings (environment) and the lock that the simulated runtime has once per process, and how an error of
// the program ends the process. Devices, memory and streams are in device.h, memory.h and queue.h.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace sim::runtime {

/// An error of the program that the runtime's own checks found. Like ptx::Fault it ends the process, or is thrown
/// (probe.h).
struct Misuse : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throws Misuse with the parts streamed into one sentence.
template <class... Parts> [[noreturn]] void misuse(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    throw Misuse(out.str());
}

/// The settings of the environment, which are read when the first function of the API is called.
struct Settings {
    /// Physical numbers of the visible devices: those of SIM_DEVICES (8) that CUDA_VISIBLE_DEVICES names.
    std::vector<int> devices;
    std::size_t device_memory_bytes = 0;  ///< SIM_DEVICE_MEMORY (8 GiB), a number with K, M or G or none
    int major = 8, minor = 0;             ///< SIM_COMPUTE_CAPABILITY
    int driver_version = 13000;           ///< SIM_DRIVER_VERSION
    bool jit = true;            ///< SIM_JIT=no: the driver does not compile PTX; machine code exists for 8.x and 9.0
    bool eager = false;         ///< SIM_STREAMS=eager
    bool hurried = false;       ///< SIM_STREAMS=hurried
    bool reversed = false;      ///< SIM_ORDER=reverse
    bool hidden = false;        ///< SIM_HIDDEN=yes: the host cannot touch device memory
    double nccl_timeout = 120;  ///< SIM_NCCL_TIMEOUT, seconds
    /// SIM_NCCL_FAULT=RANK:AFTER: after AFTER operations of NCCL, messages of this rank of the world never arrive, and
    /// ncclCommGetAsyncError says so.
    int nccl_fault_rank = -1;
    unsigned long nccl_fault_after = 0;
    /// The most bytes of one MPI message; longer messages of NCCL are split.
    std::size_t nccl_piece_bytes = std::size_t{1} << 30;
    std::string ptx_file, ptx_folder;  ///< SIM_PTX, SIM_DUMP_PTX
    std::string counts_file;           ///< SIM_COUNTS
    std::string calls_file, mutation;  ///< SIM_CALLS, SIM_MUTATE
    bool watches_calls() const { return !calls_file.empty() || !mutation.empty(); }
};
Settings settings_of_environment();
/// Read once; changed only by tests, through probe.h.
Settings& settings();

/// Appends in one write, since several ranks may append to one file. `variable` is the environment variable that names
/// the file.
void append_to_file(const char* variable, const std::string& file, const std::string& lines);

/// A recursive lock that reports when the process enters the API and leaves it.
class ApiLock {
public:
    void lock();
    void unlock();
    /// Called with true after the first lock and with false before the last unlock; nullptr: no call.
    void (*crossed)(bool inside) = nullptr;

private:
    std::recursive_mutex mutex_;
    int depth_ = 0;
};
/// Held by every function of the API; idle_moment releases it while a function waits.
ApiLock& api_lock();
/// Lets other threads and processes run for a moment, so that ranks that wait do not take the time of those that
/// compute. The caller holds api_lock() exactly once.
void idle_moment();

/// Whether errors are thrown to the caller instead of ending the process (probe.h).
extern bool errors_are_thrown;
/// For use inside of a catch block: rethrows, or prints "simulated device: SENTENCE" and ends the process with code 70.
[[noreturn]] void end_with(const std::exception& error);

/// The last error of the calling thread, for cudaGetLastError.
cudaError_t& last_error();

/// cudaSuccess, or the error of every function of the runtime if the driver is too old or no device is visible.
cudaError_t usable();

/// The body of every runtime function that needs a device: takes the lock, checks usable(), remembers an error code,
/// and ends the process on Misuse and Fault.
template <class Body> cudaError_t call(Body&& body) {
    const std::lock_guard hold(api_lock());
    cudaError_t result = usable();
    try {
        if (result == cudaSuccess) result = body();
    } catch (const std::exception& error) {
        end_with(error);
    }
    if (result != cudaSuccess && result != cudaErrorNotReady) last_error() = result;
    return result;
}

}  // namespace sim::runtime
