// Tests of the streams and events of the simulated runtime: an operation runs only when a caller waits for it, and then
// only the operations that it depends on run as well. Settings `eager`, `hurried` and `reversed` change the order.
#include "runtime_testing.h"

using namespace sim::testing;
using sim::probe::queued_operations;

namespace {

/// A byte on the device that streams write, and a pinned byte into which they copy it.
struct Cell {
    DeviceBuffer<unsigned char> device{std::vector<unsigned char>{1}};
    PinnedBuffer<unsigned char> host{1, 0};
    void write(int value, cudaStream_t stream) const { ok(cudaMemsetAsync(device.get(), value, 1, stream)); }
    void read(cudaStream_t stream) const {
        ok(cudaMemcpyAsync(host.get(), device.get(), 1, cudaMemcpyDeviceToHost, stream));
    }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_stream)

BOOST_AUTO_TEST_CASE(without_an_event_the_old_value_is_read) {
    const Cell cell;
    const TestStream writer, reader;
    cell.write(2, writer);
    cell.read(reader);
    reader.synchronize();
    BOOST_TEST(cell.host[0] == 1);
    writer.synchronize();
    BOOST_TEST(cell.device.values()[0] == 2);
}

BOOST_AUTO_TEST_CASE(with_an_event_the_new_value_is_read) {
    const Cell cell;
    const TestStream writer, reader;
    const TestEvent written;
    cell.write(2, writer);
    ok(cudaEventRecord(written, writer));
    ok(cudaStreamWaitEvent(reader, written, 0));
    cell.read(reader);
    reader.synchronize();
    BOOST_TEST(cell.host[0] == 2);
}

BOOST_AUTO_TEST_CASE(an_eager_run_hides_the_missing_event) {
    const sim::probe::ChangedSettings eager([](auto& settings) { settings.eager = true; });
    const Cell cell;
    const TestStream writer, reader;
    cell.write(2, writer);
    cell.read(reader);
    BOOST_TEST(queued_operations() == 0U);
    BOOST_TEST(cell.host[0] == 2);
}

/// In lazy order the writer would run first, since the caller waits for it.
BOOST_AUTO_TEST_CASE(hurried_streams_do_not_wait_for_the_first_one_unasked) {
    const sim::probe::ChangedSettings hurried([](auto& settings) { settings.hurried = true; });
    for (const bool waits : {false, true}) {
        const Cell cell;
        const TestStream writer, reader;
        const TestEvent written, read;
        cell.write(2, writer);
        ok(cudaEventRecord(written, writer));
        if (waits) ok(cudaStreamWaitEvent(reader, written, 0));
        cell.read(reader);
        BOOST_TEST((queued_operations() > 2U) == waits);
        ok(cudaEventRecord(read, reader));
        ok(cudaStreamWaitEvent(writer, read, 0));
        writer.synchronize();
        BOOST_TEST((cell.host[0] == 2) == waits);
    }
}

BOOST_AUTO_TEST_CASE(a_wait_is_for_the_recording_before_it_not_for_later_ones) {
    const Cell cell;
    const TestStream writer, reader;
    const TestEvent written;
    cell.write(2, writer);
    ok(cudaEventRecord(written, writer));
    ok(cudaStreamWaitEvent(reader, written, 0));
    cell.write(3, writer);
    ok(cudaEventRecord(written, writer));
    cell.read(reader);
    reader.synchronize();
    BOOST_TEST(cell.host[0] == 2);
    ok(cudaEventSynchronize(written));
    BOOST_TEST(cell.device.values()[0] == 3);
}

BOOST_AUTO_TEST_CASE(an_event_never_recorded_is_ready_and_waits_for_nothing) {
    const TestStream stream;
    const TestEvent event;
    ok(cudaEventQuery(event));
    ok(cudaEventSynchronize(event));
    ok(cudaStreamWaitEvent(stream, event, 0));
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(three_streams_in_a_row) {
    const Cell a, b;
    const TestStream first, second, third;
    const TestEvent one, two;
    PinnedBuffer<unsigned char> seven(1, 7);
    ok(cudaMemcpyAsync(a.device.get(), seven.get(), 1, cudaMemcpyHostToDevice, first));
    ok(cudaEventRecord(one, first));
    ok(cudaStreamWaitEvent(second, one, 0));
    ok(cudaMemcpyAsync(b.device.get(), a.device.get(), 1, cudaMemcpyDeviceToDevice, second));
    ok(cudaEventRecord(two, second));
    a.write(9, first);  // queued after the event, so the second stream does not wait for it
    ok(cudaStreamWaitEvent(third, two, 0));
    b.read(third);
    third.synchronize();
    BOOST_TEST(b.host[0] == 7);
    BOOST_TEST(queued_operations() == 1U);
    BOOST_TEST(a.device.values()[0] == 7);
    first.synchronize();
    BOOST_TEST(a.device.values()[0] == 9);
}

BOOST_AUTO_TEST_CASE(forcing_runs_dependencies_alone) {
    const Cell a, b, c;
    const TestStream first, second, third;
    const TestEvent event;
    a.write(2, first);
    ok(cudaEventRecord(event, first));
    a.write(3, first);
    b.write(4, second);
    ok(cudaStreamWaitEvent(third, event, 0));
    c.write(5, third);
    BOOST_TEST(queued_operations() == 6U);
    third.synchronize();
    BOOST_TEST(queued_operations() == 2U);
    BOOST_TEST(a.device.values()[0] == 2);
    BOOST_TEST(b.device.values()[0] == 1);
    ok(cudaDeviceSynchronize());
    BOOST_TEST(queued_operations() == 0U);
    BOOST_TEST(a.device.values()[0] == 3);
}

BOOST_AUTO_TEST_CASE(streams_that_wait_for_each_other_in_turn) {
    const Cell cell;
    const TestStream ping, pong;
    const TestEvent event;
    for (int i = 0; i < 1000; ++i) {
        const cudaStream_t from = i % 2 ? pong : ping, to = i % 2 ? ping : pong;
        cell.write(i & 0xFF, from);
        ok(cudaEventRecord(event, from));
        ok(cudaStreamWaitEvent(to, event, 0));
    }
    cell.read(ping);
    ping.synchronize();
    BOOST_TEST(cell.host[0] == (999 & 0xFF));
}

BOOST_AUTO_TEST_CASE(each_query_runs_one_operation) {
    const Cell cell;
    const TestStream stream;
    const TestEvent event;
    for (int value = 2; value < 6; ++value) cell.write(value, stream);
    ok(cudaEventRecord(event, stream));
    BOOST_TEST(cudaEventQuery(event) == cudaErrorNotReady);
    BOOST_TEST(cell.device.values()[0] == 2);
    int asked = 1;
    while (cudaStreamQuery(stream) == cudaErrorNotReady) ++asked;
    BOOST_TEST(asked == 4);
    ok(cudaEventQuery(event));
    BOOST_TEST(cudaGetLastError() == cudaSuccess);  // not ready is not an error
}

BOOST_AUTO_TEST_CASE(destroyed_streams_and_events_finish_their_work) {
    const Cell cell;
    cudaStream_t writer = nullptr;
    cudaEvent_t event = nullptr;
    const TestStream reader;
    ok(cudaStreamCreateWithFlags(&writer, cudaStreamNonBlocking));
    ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    cell.write(2, writer);
    ok(cudaEventRecord(event, writer));
    ok(cudaStreamWaitEvent(reader, event, 0));
    ok(cudaEventDestroy(event));
    ok(cudaStreamDestroy(writer));
    cell.read(reader);
    reader.synchronize();
    BOOST_TEST(cell.host[0] == 2);
    throws<sim::probe::Misuse>([&] { return cudaStreamSynchronize(writer); }, "is not a stream");
}

BOOST_AUTO_TEST_CASE(destroyed_events_are_no_events) {
    using sim::probe::Misuse;
    const TestStream stream;
    cudaEvent_t event = nullptr, later = nullptr;
    float milliseconds = 0;
    ok(cudaEventCreate(&event));
    ok(cudaEventRecord(event, stream));
    ok(cudaEventDestroy(event));
    ok(cudaEventCreate(&later));
    throws<Misuse>([&] { return cudaEventDestroy(event); }, "cudaEventDestroy: ");
    throws<Misuse>([&] { return cudaEventRecord(event, stream); }, "is not an event (or a destroyed one)");
    throws<Misuse>([&] { return cudaEventQuery(event); }, "is not an event");
    throws<Misuse>([&] { return cudaEventSynchronize(event); }, "is not an event");
    throws<Misuse>([&] { return cudaStreamWaitEvent(stream, event, 0); }, "is not an event");
    throws<Misuse>([&] { return cudaEventElapsedTime(&milliseconds, later, event); }, "is not an event");
    throws<Misuse>([&] { return cudaEventQuery(reinterpret_cast<cudaEvent_t>(&milliseconds)); }, "is not an event");
    BOOST_TEST(cudaEventDestroy(nullptr) == cudaErrorInvalidResourceHandle);
    BOOST_TEST(cudaGetLastError() == cudaErrorInvalidResourceHandle);
    ok(cudaEventDestroy(later));
    stream.synchronize();
}

BOOST_AUTO_TEST_CASE(without_an_event_the_order_of_a_device_wide_wait_shows) {
    for (const bool reversed : {false, true}) {
        const sim::probe::ChangedSettings order([reversed](auto& settings) { settings.reversed = reversed; });
        const Cell cell;
        const TestStream older, younger;
        cell.write(2, younger);
        cell.write(3, older);
        ok(cudaDeviceSynchronize());
        BOOST_TEST(cell.device.values()[0] == (reversed ? 3 : 2));
    }
}

BOOST_AUTO_TEST_CASE(freeing_waits_for_the_device) {
    const TestStream stream;
    const Cell cell;
    unsigned char* gone = nullptr;
    ok(cudaMalloc(reinterpret_cast<void**>(&gone), 1));
    ok(cudaMemsetAsync(gone, 5, 1, stream));
    ok(cudaMemcpyAsync(cell.host.get(), gone, 1, cudaMemcpyDeviceToHost, stream));
    ok(cudaFree(gone));
    BOOST_TEST(cell.host[0] == 5);
}

BOOST_AUTO_TEST_CASE(the_null_stream_is_refused) {
    const Cell cell;
    const TestEvent event;
    for (const cudaStream_t stream : {cudaStream_t{}, cudaStreamLegacy, cudaStreamPerThread}) {
        throws<sim::probe::Misuse>([&] { return cudaMemsetAsync(cell.device.get(), 0, 1, stream); }, "NULL stream");
        throws<sim::probe::Misuse>([&] { return cudaEventRecord(event, stream); }, "NULL stream");
        throws<sim::probe::Misuse>([&] { return cudaStreamSynchronize(stream); }, "NULL stream");
    }
}

BOOST_AUTO_TEST_CASE(blocking_calls_wait_for_streams_that_block_and_for_no_others) {
    const Cell a, b;
    const TestStream blocking(cudaStreamDefault), other;
    a.write(2, blocking);
    b.write(2, other);
    BOOST_TEST(a.device.values()[0] == 2);
    BOOST_TEST(b.device.values()[0] == 1);
    ok(cudaMemset(a.device.get(), 3, 1));
    a.read(blocking);
    blocking.synchronize();
    BOOST_TEST(a.host[0] == 3);
    // cudaMemset is queued like other operations, and a non-blocking stream does not wait for it.
    ok(cudaMemset(b.device.get(), 4, 1));
    b.read(other);
    other.synchronize();
    BOOST_TEST(b.host[0] == 2);
}

BOOST_AUTO_TEST_CASE(times_between_events) {
    const Cell cell;
    const TestStream stream;
    const TestEvent start(cudaEventDefault), end(cudaEventDefault), untimed;
    float milliseconds = -1;
    ok(cudaEventRecord(start, stream));
    cell.write(2, stream);
    ok(cudaEventRecord(end, stream));
    BOOST_TEST(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorNotReady);
    ok(cudaEventSynchronize(end));
    ok(cudaEventElapsedTime(&milliseconds, start, end));
    BOOST_TEST(milliseconds >= 0);
    BOOST_TEST(cudaEventElapsedTime(&milliseconds, untimed, end) == cudaErrorInvalidResourceHandle);
    BOOST_TEST(cudaGetLastError() == cudaErrorInvalidResourceHandle);
    BOOST_TEST(cudaGetLastError() == cudaSuccess);
}

BOOST_AUTO_TEST_CASE(host_functions_run_in_order) {
    const Cell cell;
    const TestStream stream;
    bool called = false;
    ok(cudaLaunchHostFunc(
        stream, [](void* flag) { *static_cast<bool*>(flag) = true; }, &called));
    BOOST_TEST(!called);
    stream.synchronize();
    BOOST_TEST(called);
}

BOOST_AUTO_TEST_CASE(priorities_and_flags) {
    int least = -1, greatest = 1, priority = 1;
    unsigned flags = 0;
    cudaStream_t stream = nullptr;
    ok(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    BOOST_TEST(least == 0);
    BOOST_TEST(greatest < 0);
    ok(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest - 3));
    ok(cudaStreamGetPriority(stream, &priority));
    ok(cudaStreamGetFlags(stream, &flags));
    BOOST_TEST(priority == greatest);
    BOOST_TEST(flags == unsigned{cudaStreamNonBlocking});
    ok(cudaStreamDestroy(stream));
    BOOST_TEST(cudaStreamCreateWithFlags(&stream, 77) == cudaErrorInvalidValue);
    cudaGetLastError();
}

BOOST_AUTO_TEST_SUITE_END()
