// Tests of the interpreter's counts of bank conflicts and sectors, against numbers that were counted by hand.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

ptx::Counts counts_of(const std::string& body) {
    Buffer buffer{std::vector<std::uint32_t>(4096)};
    const Ran ran = run_kernel(module_text(body, 1, ".shared .align 128 .b8 tile[16384];"), {&buffer});
    BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
    return ran.counts;
}

/// Each lane stores `bytes` bytes at tile + lane * stride. Checks the wavefronts, the wavefronts without conflicts
/// (`ideal`) and the worst ratio of the two.
void check_banks(unsigned bytes, unsigned stride, unsigned wavefronts, unsigned ideal) {
    const std::string vector = bytes == 16  ? ".v4.u32 [%r2], {%r0, %r0, %r0, %r0}"
                               : bytes == 8 ? ".v2.u32 [%r2], {%r0, %r0}"
                               : bytes == 4 ? ".u32 [%r2], %r0"
                                            : ".u16 [%r2], %rs1";
    const ptx::Counts counts = counts_of("cvt.u16.u32 %rs1, %r0;\nmov.u32 %r1, tile;\nmad.lo.u32 %r2, %r0, " +
                                         std::to_string(stride) + ", %r1;\nst.shared" + vector + ";");
    BOOST_TEST_CONTEXT(bytes << " bytes, stride " << stride) {
        BOOST_CHECK_EQUAL(counts.shared_requests, 1);
        BOOST_CHECK_EQUAL(counts.shared_wavefronts, wavefronts);
        BOOST_CHECK_EQUAL(counts.shared_ideal_wavefronts, ideal);
        BOOST_CHECK_EQUAL(counts.worst_bank_conflict.empty() ? 1.0 : counts.worst_bank_conflict.begin()->second,
                          double(wavefronts) / ideal);
        if (!counts.worst_bank_conflict.empty()) BOOST_CHECK_EQUAL(counts.worst_bank_conflict.begin()->first, 19);
    }
}

/// Each lane loads 4 bytes at the first sector of the buffer + lane * stride. Checks the sectors, and the sectors of
/// coalesced accesses (`ideal`).
void check_sectors(unsigned stride, unsigned sectors, unsigned ideal) {
    const ptx::Counts counts =
        counts_of("add.u64 %rd5, %rd0, 31;\nand.b64 %rd5, %rd5, -32;\nmul.wide.u32 %rd1, %r0, " +
                  std::to_string(stride) + ";\nadd.u64 %rd2, %rd5, %rd1;\nld.global.u32 %r3, [%rd2];");
    BOOST_TEST_CONTEXT("stride " << stride) {
        BOOST_CHECK_EQUAL(counts.global_requests, 1);
        BOOST_CHECK_EQUAL(counts.global_sectors, sectors);
        BOOST_CHECK_EQUAL(counts.global_ideal_sectors, ideal);
        BOOST_CHECK_EQUAL(counts.global_read_bytes, 128);
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_counts)

BOOST_AUTO_TEST_CASE(banks) {
    check_banks(4, 4, 1, 1);
    check_banks(4, 8, 2, 1);
    check_banks(4, 12, 1, 1);  // a stride of an odd number of words
    check_banks(4, 64, 16, 1);
    check_banks(4, 128, 32, 1);
    check_banks(4, 132, 1, 1);
    check_banks(2, 2, 1, 1);
    check_banks(2, 128, 32, 1);
    check_banks(8, 8, 2, 2);  // a wavefront serves half a warp
    check_banks(8, 16, 4, 2);
    check_banks(8, 128, 32, 2);
    check_banks(16, 16, 4, 4);  // a wavefront serves a quarter of a warp
    check_banks(16, 32, 8, 4);
    check_banks(16, 128, 32, 4);
    check_banks(16, 144, 4, 4);  // rows padded by 16 bytes
}

BOOST_AUTO_TEST_CASE(words_that_lanes_share) {
    const ptx::Counts all =
        counts_of("mov.u32 %r1, 5;\nst.shared.u32 [tile], %r1;\nbar.warp.sync -1;\nld.shared.u32 %r2, [tile];");
    BOOST_CHECK_EQUAL(all.shared_wavefronts, 2);
    BOOST_CHECK(all.worst_bank_conflict.empty());
    // ldmatrix reads 8 rows of 8 elements of 16 bits. Rows that lie 128 bytes apart give an 8-way conflict, swizzled
    // rows none.
    for (const bool swizzled : {false, true}) {
        std::string body =
            "mov.u32 %r1, tile;\nshl.b32 %r2, %r0, 7;\nand.b32 %r2, %r2, 1023;\nand.b32 %r3, %r0, 7;\n"
            "shl.b32 %r3, %r3, 4;\nadd.u32 %r4, %r1, %r2;\n";
        body += swizzled ? "add.u32 %r4, %r4, %r3;\n" : "";
        body +=
            "mov.u32 %r5, 1;\nst.shared.v4.u32 [%r4], {%r5, %r5, %r5, %r5};\nbar.sync 0;\n"
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r6}, [%r4];";
        const ptx::Counts counts = counts_of(body);
        BOOST_CHECK_EQUAL(counts.worst_bank_conflict.empty() ? 1 : counts.worst_bank_conflict.rbegin()->second,
                          swizzled ? 1 : 8);
    }
}

BOOST_AUTO_TEST_CASE(sectors) {
    check_sectors(4, 4, 4);
    check_sectors(8, 8, 4);
    check_sectors(32, 32, 4);
    check_sectors(128, 32, 4);
    check_sectors(0, 1, 1);
    // 128 bytes that begin 4 bytes after the start of a sector.
    const ptx::Counts counts = counts_of(
        "mul.wide.u32 %rd1, %r0, 4;\nadd.u64 %rd2, %rd0, %rd1;\nand.b64 %rd3, %rd0, 31;\nsub.u64 %rd2, %rd2, %rd3;\n"
        "st.global.u32 [%rd2+68], %r0;");
    BOOST_CHECK_EQUAL(counts.global_sectors, 5);
    BOOST_CHECK_EQUAL(counts.global_ideal_sectors, 4);
    BOOST_CHECK_EQUAL(counts.global_written_bytes, 128);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
