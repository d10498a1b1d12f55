// Process: what one process of the simulated runtime has in common: its settings (environment), its lock, and how an
// error of the program ends it. No device, no memory, no stream.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace sim::runtime {

/// A program error that the runtime's own checks found. Like ptx::Fault it ends the process, or is thrown (probe.h).
struct Misuse : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throws Misuse with the parts streamed into one sentence.
template <class... Parts> [[noreturn]] void misuse(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    throw Misuse(out.str());
}

/// The environment, read when the first function of the API is called.
struct Settings {
    std::vector<int>
        devices;  ///< physical numbers of the visible devices: SIM_DEVICES (8), thinned out by CUDA_VISIBLE_DEVICES
    std::size_t device_memory_bytes = 0;  ///< SIM_DEVICE_MEMORY (8 GiB), a number with K, M or G or none
    int major = 8, minor = 0;             ///< SIM_COMPUTE_CAPABILITY
    int driver_version = 13000;           ///< SIM_DRIVER_VERSION
    bool jit = true;                      ///< SIM_JIT=no: PTX is not compiled, and there is machine code of 8.x and 9.0
    bool eager = false;                   ///< SIM_STREAMS=eager
    bool hurried = false;                 ///< SIM_STREAMS=hurried
    bool reversed = false;                ///< SIM_ORDER=reverse
    bool hidden = false;                  ///< SIM_HIDDEN=yes: the host cannot touch device memory
    double nccl_timeout = 120;            ///< SIM_NCCL_TIMEOUT, seconds
    int nccl_fault_rank = -1;  ///< SIM_NCCL_FAULT=RANK:AFTER: messages of this rank of the world never arrive once
    unsigned long nccl_fault_after = 0;  ///< it has had so many operations of NCCL; ncclCommGetAsyncError says so
    std::size_t nccl_piece_bytes = std::size_t{1}
                                   << 30;  ///< most bytes of one MPI message; longer ones of NCCL are split
    std::string ptx_file, ptx_folder;      ///< SIM_PTX, SIM_DUMP_PTX
    std::string counts_file;               ///< SIM_COUNTS
    std::string calls_file, mutation;      ///< SIM_CALLS, SIM_MUTATE
    bool watches_calls() const { return !calls_file.empty() || !mutation.empty(); }
};
Settings settings_of_environment();
/// Read once; changed only by tests, through probe.h.
Settings& settings();

/// Appends in one piece, since several ranks may write to one file. variable: whose value the file is.
void append_to_file(const char* variable, const std::string& file, const std::string& lines);

/// A recursive lock that says when the process goes into the API and leaves it.
class ApiLock {
public:
    void lock();
    void unlock();
    /// Called with true behind the first lock and with false before the last unlock; nullptr: nobody.
    void (*crossed)(bool inside) = nullptr;

private:
    std::recursive_mutex mutex_;
    int depth_ = 0;
};
/// Held by every function of the API; released while one waits (idle_moment).
ApiLock& api_lock();
/// Lets other threads and processes run for a moment: ranks that wait do not take the time of those that compute. The
/// caller holds api_lock() once.
void idle_moment();

/// Whether errors are thrown to the caller rather than end the process (probe.h).
extern bool errors_are_thrown;
/// For use inside of a catch block: rethrows, or prints "simulated device: SENTENCE" and ends the process with code 70.
[[noreturn]] void end_with(const std::exception& error);

/// The last error of the calling thread, for cudaGetLastError.
cudaError_t& last_error();

/// What has to hold before a function of the runtime runs: cudaSuccess, or that the driver is too old or no device is
/// there.
cudaError_t usable();

/// Body of every runtime function that needs a device: takes the lock, checks the driver, remembers an error code, ends
/// the process on Misuse and Fault.
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
