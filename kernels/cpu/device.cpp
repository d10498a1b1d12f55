// The CPU as a device. Its arena is ordinary memory that never goes back to the operating system. Work runs at once,
// on the calling thread and its OpenMP threads. So streams are empty whenever the host looks, and events are reached
// when they are recorded.
#include "kernels/device.h"

#include <omp.h>

#include <fstream>

#include "kernels/address_range.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/instruction_set.h"
#include "kernels/host_memory.h"

namespace longlora {
namespace {

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name") && line.find(':') + 2 < line.size()) return line.substr(line.find(':') + 2);
    return "processor";
}

cpu::InstructionSet chosen_set(const std::string& name) {
    const cpu::InstructionSet best = cpu::detect_instruction_set();
    require(name.empty() || name == "avx2" || name == "avx512", "instruction set '", name,
            "' is unknown; take avx2 or avx512");
    if (name == "avx2") return cpu::InstructionSet::avx2;
    require(name.empty() || best == cpu::InstructionSet::avx512,
            "this processor has no AVX-512; take instruction set avx2");
    return best;
}

struct CpuRanges {
    AddressRange memory_range, pinned_range;
};

class CpuDevice : private CpuRanges, public Device {
public:
    explicit CpuDevice(const DeviceOptions& options)
        : CpuRanges{{options.memory_bytes > 0 ? options.memory_bytes : host_memory_bytes(), Access::read_write},
                    {host_memory_bytes(), Access::read_write}},
          Device(memory_range.begin(), memory_range.size_bytes(), pinned_range.begin(), pinned_range.size_bytes()),
          set_(chosen_set(options.instruction_set)),
          bfloat16_(set_ == cpu::InstructionSet::avx512 && (cpu::has_avx512_bf16() || cpu::has_amx_bf16())),
          backend_(*this, set_, bfloat16_) {
        if (options.num_threads > 0) omp_set_num_threads(options.num_threads);
    }

    DeviceKind kind() const override { return DeviceKind::cpu; }
    std::string description() const override {
        const char* set = set_ == cpu::InstructionSet::avx2 ? "AVX2"
                          : !bfloat16_                      ? "AVX-512"
                          : cpu::has_amx_bf16()             ? "AVX-512, AMX bfloat16"
                                                            : "AVX-512 with bfloat16";
        return text(processor_name(), ", ", omp_get_max_threads(),
                    omp_get_max_threads() == 1 ? " thread, " : " threads, ", set);
    }
    bool good_at_bfloat16() const override { return bfloat16_; }

    Stream make_stream() override { return {++num_streams_}; }
    Event record(Stream) override { return {++num_events_}; }
    void wait(Stream, Event) override {}
    void synchronize(Stream) override {}

    void copy_to_device(Tensor device, ConstTensor host, Stream) override {
        check_copy(device, host, "copy_to_device");
        recorder().add("copy_to_device", 0, static_cast<double>(device.size_bytes()));
        copy_rows(device, host);
    }
    void copy_to_host(Tensor host, ConstTensor device, Stream) override {
        check_copy(host, device, "copy_to_host");
        recorder().add("copy_to_host", 0, static_cast<double>(device.size_bytes()));
        copy_rows(host, device);
    }

protected:
    OpsBackend* backend() override { return &backend_; }

private:
    cpu::InstructionSet set_;
    bool bfloat16_;
    cpu::CpuBackend backend_;
    int num_streams_ = 0;
    std::uint64_t num_events_ = 0;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(const DeviceOptions& options) { return std::make_unique<CpuDevice>(options); }

}  // namespace longlora
