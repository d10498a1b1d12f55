// The device that computes nothing, for `longlora plan`. Addresses, offsets and the checks of aliasing are real, but
// there is no memory behind the addresses. A training step on this device gives the high water of the arena and the
// FLOPs of the recorder. Host code that touches device memory ends the process here, as it would on a GPU.
#include "kernels/address_range.h"
#include "kernels/device.h"

namespace longlora {
namespace {

struct PlanRanges {
    AddressRange memory_range, pinned_range;
};

class PlanDevice : private PlanRanges, public Device {
public:
    explicit PlanDevice(const DeviceOptions& options)
        : PlanRanges{{options.memory_bytes > 0 ? options.memory_bytes : kReserved, Access::none},
                     {kPinned, Access::read_write}},
          Device(memory_range.begin(), memory_range.size_bytes(), pinned_range.begin(), pinned_range.size_bytes()) {
        if (options.own_bytes > 0) own_ = memory().tensor(DType::uint8, {options.own_bytes}, Use::workspace);
    }

    DeviceKind kind() const override { return DeviceKind::plan; }
    std::string description() const override { return "plan (computes nothing)"; }
    bool good_at_bfloat16() const override { return true; }  // plan stands for any device; --dtype can say otherwise

    Stream make_stream() override { return {++num_streams_}; }
    Event record(Stream) override { return {++num_events_}; }
    void wait(Stream, Event) override {}
    void synchronize(Stream) override {}
    void mark_progress() override { progress(); }  // planned work is done at once

    void copy_to_device(Tensor device, ConstTensor host, Stream) override {
        check_copy(device, host, "copy_to_device");
        recorder().add("copy_to_device", 0, static_cast<double>(device.size_bytes()));
    }
    void copy_to_host(Tensor host, ConstTensor device, Stream) override {
        check_copy(host, device, "copy_to_host");
        recorder().add("copy_to_host", 0, static_cast<double>(device.size_bytes()));
        const std::int64_t size = size_of(host.dtype), rows = host.contiguous() ? 1 : host.num_rows();
        for (std::int64_t row = 0; row < rows; ++row)
            forget_bytes(host.bytes + row * host.row_stride * size,
                         host.contiguous() ? host.size_bytes() : host.width() * size);
    }

protected:
    OpsBackend* backend() override { return nullptr; }

private:
    static constexpr std::int64_t kReserved = std::int64_t{1} << 46, kPinned = std::int64_t{1} << 40;
    ArenaTensor own_;
    int num_streams_ = 0;
    std::uint64_t num_events_ = 0;
};

}  // namespace

std::unique_ptr<Device> make_plan_device(const DeviceOptions& options) { return std::make_unique<PlanDevice>(options); }

}  // namespace longlora
