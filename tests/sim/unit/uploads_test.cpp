// Tests of Uploads (the integers of micro-batches on their way to the device) on a device whose copies run as late as
// possible: the host continues before the copies have run, and waits before it overwrites memory that a copy has yet to
// read.
#include <boost/test/unit_test.hpp>

#include "model/uploads.h"
#include "sim/runtime/probe.h"

using namespace longlora;

namespace {

constexpr std::int64_t kCount = 5;

ArenaTensor send(Uploads& uploads, std::int32_t value, std::int64_t count = kCount) {
    return uploads.upload({count}, [=](Tensor host) { std::fill_n(host.data<std::int32_t>(), count, value); });
}

std::vector<std::int32_t> values_of(Device& device, const Tensor& x) {
    const ArenaTensor host = device.pinned().tensor(x.dtype, x.shape, Use::batch);
    device.copy_to_host(host, x, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    return {host->data<std::int32_t>(), host->data<std::int32_t>() + x.count()};
}

std::unique_ptr<Device> small_device() {
    return make_cuda_device(
        {.memory_bytes = (std::int64_t{4} << 20) + cuda_own_bytes(), .pinned_bytes = std::int64_t{1} << 20});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(uploads)

BOOST_AUTO_TEST_CASE(the_host_runs_ahead_of_two_micro_batches) {
    const auto device = small_device();
    Uploads uploads(*device);
    std::vector<ArenaTensor> sent;
    const auto copies = sim::probe::totals().copies;
    for (std::int32_t batch = 0; batch < 2; ++batch) {
        uploads.begin(2 * kCount);
        sent.push_back(send(uploads, 10 * batch)), sent.push_back(send(uploads, 10 * batch + 1));
    }
    // No copy of the second micro-batch has run; the simulation runs copies only when a caller waits for them.
    BOOST_TEST(sim::probe::totals().copies <= copies + 2);
    uploads.begin(2 * kCount);
    BOOST_TEST(sim::probe::totals().copies == copies + 2);  // the copies of the first micro-batch have run
}

BOOST_AUTO_TEST_CASE(all_values_arrive) {
    const auto device = small_device();
    std::vector<ArenaTensor> sent;
    // Larger micro-batches need new pinned memory, which may lie where earlier copies have yet to read.
    const std::int64_t counts[] = {kCount, 60 * kCount, 1, 2 * kCount, 3, 0, 90 * kCount, 2 * kCount, kCount};
    {
        Uploads uploads(*device);
        std::int32_t value = 0;
        for (const std::int64_t count : counts) {
            uploads.begin(2 * count);
            sent.push_back(send(uploads, ++value, count)), sent.push_back(send(uploads, -value, count));
        }
    }
    BOOST_TEST(device->pinned().in_use_bytes() == 0);
    // The next owner of the pinned memory overwrites it.
    const ArenaTensor next = device->pinned().tensor(DType::uint8, {1 << 19}, Use::batch);
    std::fill_n(next->data<std::uint8_t>(), next->count(), std::uint8_t{77});
    std::size_t i = 0;
    std::int32_t value = 0;
    for (const std::int64_t count : counts) {
        ++value;
        for (const std::int32_t expected : {value, -value}) {
            if (count > 0)
                BOOST_CHECK(values_of(*device, sent[i]) ==
                            std::vector<std::int32_t>(static_cast<std::size_t>(count), expected));
            ++i;
        }
    }
}

/// The pinned memory depends only on the largest micro-batch, not on which of the two stagings it used. So a plan of
/// one step gives the pinned memory of the later steps as well.
BOOST_AUTO_TEST_CASE(pinned_memory_does_not_depend_on_the_order) {
    std::int64_t pinned = 0;
    for (const bool large_first : {true, false}) {
        const auto device = small_device();
        Uploads uploads(*device);
        for (const bool large : {large_first, !large_first}) uploads.begin(large ? 1000 : 10);
        const std::int64_t before = device->pinned().in_use_bytes();
        for (int turn = 0; turn < 3; ++turn) uploads.begin(1000);
        BOOST_TEST(device->pinned().in_use_bytes() == before);
        if (large_first) pinned = before;
        BOOST_TEST(before == pinned);
    }
}

BOOST_AUTO_TEST_SUITE_END()
