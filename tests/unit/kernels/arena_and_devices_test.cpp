// The arena (first fit, coalescing, marks, exhaustion), copies and streams of the device under test and of the plan
// device, and the end of a process that touches the memory of a plan device.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>

#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(arena_and_devices)

static ArenaTensor bytes_of(Arena& arena, std::int64_t n, Use use = Use::workspace) {
    return arena.tensor(DType::uint8, {n}, use);
}

BOOST_AUTO_TEST_CASE(first_fit_and_coalescing) {
    std::byte* base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);  // never touched
    Arena arena(base, 4096, "test memory");
    ArenaTensor a = bytes_of(arena, 1), b = bytes_of(arena, 300), c = bytes_of(arena, 256), d = bytes_of(arena, 256);
    BOOST_TEST((a->bytes == base && b->bytes == base + 256 && c->bytes == base + 768 && d->bytes == base + 1024));
    BOOST_TEST(arena.in_use_bytes() == 1280);
    b.release();
    ArenaTensor small = bytes_of(arena, 10);
    BOOST_TEST((small->bytes == base + 256));  // the first hole that is large enough
    ArenaTensor big = bytes_of(arena, 512);
    BOOST_TEST((big->bytes == base + 1280));    // 256 bytes of the hole are left: not enough
    small.release(), a.release(), c.release();  // the holes 0..256, 256..768, 768..1024 become one
    ArenaTensor joined = bytes_of(arena, 1024);
    BOOST_TEST((joined->bytes == base));
    BOOST_TEST(arena.high_water_bytes() == 1792);
    ArenaTensor moved = std::move(joined);
    BOOST_TEST(!joined);
    moved = bytes_of(arena, 2048);  // the old piece is given back only after the new one was taken
    BOOST_TEST(arena.in_use_bytes() == 2048 + 256 + 512);
    moved.release(), d.release(), big.release();
    BOOST_TEST(arena.in_use_bytes() == 0);
    BOOST_TEST((bytes_of(arena, 4096)->bytes == base));  // all of it is one hole again
}

BOOST_AUTO_TEST_CASE(high_water_marks) {
    Arena arena(nullptr, 1 << 20, "test memory");
    const ArenaTensor weights = arena.tensor(kFloat, {64, 8}, Use::weights);
    { const ArenaTensor activations = arena.tensor(kBfloat, {1024}, Use::activations); }
    const ArenaTensor workspace = arena.tensor(kFloat, {256}, Use::workspace);
    const auto peak = [&](Use use) { return arena.at_peak()[static_cast<std::size_t>(use)]; };
    BOOST_TEST(peak(Use::weights) == 2048);
    BOOST_TEST(peak(Use::activations) == 2048);
    BOOST_TEST(peak(Use::workspace) == 0);
    BOOST_TEST(arena.high_water_bytes() == 4096);
    arena.reset_marks();
    BOOST_TEST(peak(Use::activations) == 0);
    BOOST_TEST(peak(Use::workspace) == 1024);
    BOOST_TEST(arena.high_water_bytes() == 3072);
}

BOOST_AUTO_TEST_CASE(exhaustion_is_exit_code_3) {
    Arena arena(nullptr, 1 << 20, "device memory");
    const ArenaTensor half = bytes_of(arena, 1 << 19);
    BOOST_CHECK_EXCEPTION(bytes_of(arena, (1 << 19) + 1, Use::gradients), Error, [](const Error& error) {
        const std::string sentence = error.what();
        return error.code == ExitCode::does_not_fit && sentence.find("device memory") != std::string::npos &&
               sentence.find("gradients") != std::string::npos;
    });
    BOOST_TEST(arena.in_use_bytes() == 1 << 19);
}

BOOST_AUTO_TEST_CASE(copies_and_streams) {
    const auto plan = make_plan_device({.memory_bytes = 1 << 24});
    for_devices([&](Device& cpu) {
        for (Device* device : {&cpu, plan.get()}) {
            const Stream stream = device->make_stream();
            BOOST_TEST(stream.index != Device::compute_stream().index);
            const ArenaTensor host = device->pinned().tensor(kFloat, {3, 8}, Use::exchange),
                              back = device->pinned().tensor(kFloat, {3, 8}, Use::exchange);
            const ArenaTensor memory = device->memory().tensor(kFloat, {3, 20}, Use::exchange);
            for (int i = 0; i < 24; ++i)
                host->data<float>()[i] = static_cast<float>(i + 1), back->data<float>()[i] = -1;
            device->copy_to_device(memory->columns(4, 5), host->columns(1, 5), stream);
            device->wait(Device::compute_stream(), device->record(stream));
            device->copy_to_host(back->columns(2, 5), memory->columns(4, 5), Device::compute_stream());
            device->synchronize(Device::compute_stream());
            const bool plans = device->kind() == DeviceKind::plan;
            for (int i = 0; i < 24; ++i) {
                const bool inside = i % 8 >= 2 && i % 8 < 7;
                BOOST_TEST(back->data<float>()[i] == (!inside ? -1.0f : plans ? 0.0f : static_cast<float>(i)));
            }
            BOOST_CHECK_THROW(device->copy_to_host(back, memory, stream), std::logic_error);
            BOOST_TEST(!device->description().empty());
            BOOST_TEST(device->memory().capacity() >= 1 << 24);
        }
    });
}

/// The pinned memory of a plan may be larger than the computer's memory, so a copy to it must not take pages.
BOOST_AUTO_TEST_CASE(planned_pinned_memory_costs_nothing) {
    const auto resident_pages = [] {
        std::ifstream file("/proc/self/statm");
        std::int64_t all = 0, resident = 0;
        file >> all >> resident;
        return resident;
    };
    const auto plan = make_plan_device();
    const ArenaTensor there = plan->memory().tensor(kFloat, {std::int64_t{1} << 28}, Use::activations),
                      here = plan->pinned().tensor(kFloat, {std::int64_t{1} << 28}, Use::activations);
    here->data<float>()[5] = 1;
    const std::int64_t before = resident_pages();
    plan->copy_to_host(here, there, Device::compute_stream());
    BOOST_TEST(here->data<float>()[5] == 0);
    BOOST_TEST(resident_pages() - before < 4096);  // of 262144 pages
}

BOOST_AUTO_TEST_CASE(a_touch_of_plan_memory_ends_the_process) {
    const auto plan = make_plan_device();
    BOOST_TEST(plan->memory().capacity() >= std::int64_t{1} << 40);
    const ArenaTensor x = plan->memory().tensor(kFloat, {std::int64_t{1} << 30, 16}, Use::weights);
    for (const std::int64_t at : {std::int64_t{0}, x->count() - 1})
        for (const bool write : {false, true}) {
            const pid_t child = fork();
            if (child == 0) {
                std::signal(SIGSEGV, SIG_DFL);
                volatile float* place = x->data<float>() + at;
                if (write) *place = 1;
                else (void)*place;
                _exit(0);
            }
            int status = 0;
            BOOST_REQUIRE(waitpid(child, &status, 0) == child);
            BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
        }
}

BOOST_AUTO_TEST_SUITE_END()

/// This suite runs only when it is named. tests/gpu/run.sh uses it to ask whether a tool that knows the tensors finds
/// a write behind the end of a tensor that stays inside the arena.
BOOST_AUTO_TEST_SUITE(for_tools, *boost::unit_test::disabled())

BOOST_AUTO_TEST_CASE(an_overrun) {
    const auto device = make_test_device();
    const ArenaTensor x = device->memory().tensor(kFloat, {100}, Use::workspace);
    device->ops().fill(Tensor(x->bytes, kFloat, {101}), 1);
    device->synchronize(Device::compute_stream());
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
