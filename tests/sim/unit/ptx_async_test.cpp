// Tests of asynchronous copies (cp.async) and of the barriers of a block: bytes in flight, waits and groups, barriers
// that some threads do not reach.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

/// Addresses of 16 bytes. %r1: this thread's in `tile`; %r2: the neighbour's in `tile`; %rd10: this thread's in buffer
/// 0; %rd11: this thread's in buffer 1.
const std::string kAddresses =
    "mov.u32 %r10, tile;\nshl.b32 %r11, %r0, 4;\nadd.u32 %r1, %r10, %r11;\nxor.b32 %r12, %r11, 16;\n"
    "add.u32 %r2, %r10, %r12;\ncvt.u64.u32 %rd20, %r11;\nadd.u64 %rd10, %rd0, %rd20;\nadd.u64 %rd11, %rd1, %rd20;\n";
const std::string kCopy = "cp.async.cg.shared.global [%r1], [%rd10], 16;\n", kCommit = "cp.async.commit_group;\n",
                  kWait = "cp.async.wait_group 0;\n";

struct Result {
    std::string fault;
    std::vector<std::uint32_t> out;
};

Result run(const std::string& body, unsigned threads = 64) {
    Buffer in{std::vector<std::uint32_t>(256)}, out{std::vector<std::uint32_t>(256, 0xeeu), false};
    for (unsigned k = 0; k < 256; ++k) in.words[k] = 1000 + k;
    const std::string fault = run_kernel(module_text(kAddresses + body, 2, ".shared .align 16 .b8 tile[2048];"),
                                         {&in, &out}, {}, {threads, 1, 1})
                                  .fault;
    return {fault, out.words};
}
void fine(const std::string& body) { BOOST_CHECK_EQUAL(run(body).fault, ""); }
void faults(const std::string& body, std::initializer_list<const char*> parts, unsigned threads = 64) {
    const std::string fault = run(body, threads).fault;
    BOOST_CHECK_MESSAGE(!fault.empty(), "no fault in " << body);
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(fault.find(part) != std::string::npos, "'" << fault << "' does not say '" << part << "'");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_async)

BOOST_AUTO_TEST_CASE(copies_land_when_waited_for) {
    const Result result = run(kCopy + kCommit + kWait +
                              "bar.sync 0;\nld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r2];\n"
                              "st.global.v4.u32 [%rd11], {%r20, %r21, %r22, %r23};");
    BOOST_CHECK_EQUAL(result.fault, "");
    for (unsigned k = 0; k < 256; ++k) BOOST_CHECK_EQUAL(result.out[k], 1000 + (k ^ 4));
    fine(kCopy + kCommit + kWait + "ld.shared.u32 %r20, [%r1];");
    fine(kCopy + "cp.async.wait_all;\nld.shared.u32 %r20, [%r1];");
    faults(kCopy + kCommit + "ld.shared.u32 %r20, [%r1];",
           {"cp.async at PTX line", "in flight", "cp.async.cg.shared.global [%r1], [%rd10], 16"});
    faults(kCopy + kCommit + "cp.async.wait_group 1;\nld.shared.u32 %r20, [%r1];", {"in flight"});
    faults(kCopy + kWait, {"not committed"});
    faults(kCopy + kCommit + kWait + "ld.shared.u32 %r20, [%r2];", {"race in shared memory"});
    faults(kCopy + kCommit, {"leaves while cp.async is in flight"});
    faults(kCopy, {"leaves while cp.async is in flight"});
    faults(kCopy + kCommit + "st.shared.u32 [%r1], %r0;", {"in flight"});
}

BOOST_AUTO_TEST_CASE(groups_land_in_order) {
    const std::string second = "cp.async.ca.shared.global [%r1+1024], [%rd10], 16;\n";
    fine(kCopy + kCommit + second + kCommit + "cp.async.wait_group 1;\nld.shared.u32 %r20, [%r1];\n" + kWait +
         "ld.shared.u32 %r21, [%r1+1024];");
    faults(kCopy + kCommit + second + kCommit + "cp.async.wait_group 1;\nld.shared.u32 %r20, [%r1+1024];\n" + kWait,
           {"in flight"});
    fine(kCopy + kCommit + kCommit + "cp.async.wait_group 1;\nld.shared.u32 %r20, [%r1];");  // an empty group counts
}

BOOST_AUTO_TEST_CASE(refilled_too_early) {
    const std::string begin =
        kCopy + kCommit + kWait +
        "bar.sync 0;\nxor.b32 %r13, %r11, 512;\nadd.u32 %r3, %r10, %r13;\nld.shared.u32 %r20, [%r3];\n";
    faults(begin + kCopy + kCommit + kWait, {"race in shared memory", "cp.async"});
    fine(begin + "bar.sync 0;\n" + kCopy + kCommit + kWait);
}

BOOST_AUTO_TEST_CASE(sizes) {
    const Result result =
        run("mov.u32 %r5, 4;\ncp.async.cg.shared.global [%r1], [%rd10], 16, %r5;\ncp.async.wait_all;\n"
            "ld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [%r1];\nst.global.v4.u32 [%rd11], {%r20, %r21, %r22, %r23};");
    BOOST_CHECK_EQUAL(result.fault, "");
    for (unsigned k = 0; k < 256; ++k) BOOST_CHECK_EQUAL(result.out[k], k % 4 ? 0 : 1000 + k);
    // A copy of size 0 reads nothing, so its address may be invalid.
    fine(
        "mov.u64 %rd30, 16;\ncp.async.cg.shared.global [%r1], [%rd30], 16, 0;\ncp.async.wait_all;\n"
        "ld.shared.u32 %r20, [%r1];");
    fine(
        "setp.eq.u32 %p1, 0, 0;\nmov.u64 %rd30, 16;\ncp.async.ca.shared.global [%r1], [%rd30], 4, %p1;\n"
        "cp.async.wait_all;\nld.shared.u32 %r20, [%r1];");
    fine(
        "cp.async.ca.shared.global [%r1], [%rd10], 4;\ncp.async.ca.shared.global [%r1+8], [%rd10+8], 8;\n"
        "cp.async.wait_all;\nld.shared.u32 %r20, [%r1];\nld.shared.u32 %r20, [%r1+12];");
    faults("cp.async.ca.shared.global [%r1], [%rd10], 4;\ncp.async.wait_all;\nld.shared.u32 %r20, [%r1+4];",
           {"never written"});
    faults("cp.async.cg.shared.global [%r1+8], [%rd10], 16;\n", {"misaligned"});
    faults("cp.async.cg.shared.global [%r1], [%rd10+8], 16;\n", {"misaligned"});
    faults("cp.async.cg.shared.global [%r1+2048], [%rd10], 16;\n", {"out of bounds"});
    faults("cp.async.cg.shared.global [%r1], [%rd10+1024], 16;\n", {"out of bounds"});
    faults("cp.async.cg.shared.global [%r1], [%rd11], 16;\n", {"never written"});
    faults("mov.u32 %r5, 17;\ncp.async.cg.shared.global [%r1], [%rd10], 16, %r5;\n", {"copies 17 bytes of 16"});
}

BOOST_AUTO_TEST_CASE(barriers_need_all) {
    faults("setp.lt.u32 %p1, %r0, 16;\n@%p1 bra E;\nbar.sync 0;\nE:", {"bar.sync 0", "divergence", "lanes 0xffff0000"});
    faults("setp.lt.u32 %p1, %r0, 32;\n@%p1 bra E;\nbar.sync 0;\nE:",
           {"bar.sync 0", "32 of 64 threads", "a part of the block"});
    faults("setp.lt.u32 %p1, %r0, 16;\n@%p1 ret;\nbar.sync 0;", {"after these threads have left"}, 32);
    faults("setp.lt.u32 %p1, %r0, 32;\n@%p1 bar.sync 1;\n@!%p1 bar.sync 2;", {"waits at barrier 1 for ever"});
    faults("setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nbar.sync 0;\nbra E;\nA:\nbar.sync 0;\nE:", {"wait at PTX line"},
           32);
    fine("setp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nadd.u32 %r20, %r0, 1;\nA:\nbar.sync 0;");
    fine("bar.sync 3;\nbarrier.sync 4, 64;\nsetp.lt.u32 %p1, %r0, 32;\n@%p1 bar.sync 5, 32;");
}

BOOST_AUTO_TEST_CASE(named_barriers_order_only_the_warps_that_arrive) {
    // Warps 0 and 1 meet at barrier 1, warps 2 and 3 at barrier 2.
    const std::string pair =
        "shr.u32 %r20, %r0, 6;\nadd.u32 %r20, %r20, 1;\nxor.b32 %r21, %r11, 512;\nadd.u32 %r22, %r10, %r21;\n"
        "st.shared.u32 [%r1], %r0;\n";
    const auto ran = [&](const std::string& body) {
        Buffer in{std::vector<std::uint32_t>(512)}, out{std::vector<std::uint32_t>(512)};
        return run_kernel(module_text(kAddresses + pair + body, 2, ".shared .align 16 .b8 tile[2048];"), {&in, &out},
                          {}, {128, 1, 1})
            .fault;
    };
    BOOST_CHECK_EQUAL(ran("bar.sync %r20, 64;\nld.shared.u32 %r23, [%r22];"), "");
    BOOST_CHECK(ran("bar.sync 0;\nst.shared.u32 [%r1], %r0;\nbar.sync %r20, 64;\nxor.b32 %r24, %r11, 1024;\n"
                    "add.u32 %r24, %r24, %r10;\nld.shared.u32 %r23, [%r24];")
                    .find("race in shared memory") != std::string::npos);
    // The second pair reads what the first pair wrote. The first pair does not take part in the barrier of the second
    // pair, so that barrier does not order the two.
    const std::string second =
        "bar.sync 0;\nst.shared.u32 [%r1], %r0;\nbar.sync %r20, 64;\nsetp.gt.u32 %p1, %r0, 63;\n"
        "xor.b32 %r24, %r11, 1024;\nadd.u32 %r24, %r24, %r10;\n";
    BOOST_CHECK(ran(second + "@%p1 ld.shared.u32 %r23, [%r24];").find("race in shared memory") != std::string::npos);
    BOOST_CHECK_EQUAL(ran(second + "bar.sync 0;\n@%p1 ld.shared.u32 %r23, [%r24];"), "");
    // A producer arrives and continues, a consumer waits.
    BOOST_CHECK_EQUAL(ran("bar.sync 0;\nsetp.lt.u32 %p1, %r0, 32;\nsetp.lt.u32 %p2, %r0, 64;\n"
                          "@%p1 st.shared.u32 [%r1], %r0;\n@%p1 bar.arrive 7, 64;\n@%p1 ret;\n@!%p2 ret;\n"
                          "bar.sync 7, 64;\nld.shared.u32 %r23, [%r22];"),
                      "");
}

BOOST_AUTO_TEST_CASE(reductions_at_barriers) {
    const Result result =
        run("setp.lt.u32 %p1, %r0, 40;\nbar.red.popc.u32 %r20, 0, %p1;\nbar.red.and.pred %p2, 0, %p1;\n"
            "bar.red.or.pred %p3, 0, %p1;\nselp.u32 %r21, 1, 0, %p2;\nselp.u32 %r22, 1, 0, %p3;\nmov.u32 %r23, 5;\n"
            "st.global.v4.u32 [%rd11], {%r20, %r21, %r22, %r23};");
    BOOST_CHECK_EQUAL(result.fault, "");
    for (unsigned t = 0; t < 64; ++t) {
        BOOST_CHECK_EQUAL(result.out[4 * t], 40);
        BOOST_CHECK_EQUAL(result.out[4 * t + 1], 0);
        BOOST_CHECK_EQUAL(result.out[4 * t + 2], 1);
    }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
