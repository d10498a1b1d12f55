// Tests of the faults of shared memory in the interpreter: races between warps and between lanes, bounds, alignment,
// reads of bytes that were never written. Each faulty kernel stands beside a similar correct one. ptx_global_test.cpp
// tests global memory.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

/// Addresses of 4 bytes in `tile` (4096 bytes). %r1: this thread's; %r2: those of the thread 32 further, modulo 64;
/// %r3: those of the neighbour (lane ^ 1).
const std::string kAddresses =
    "mov.u32 %r10, tile;\nshl.b32 %r11, %r0, 2;\nadd.u32 %r1, %r10, %r11;\nxor.b32 %r12, %r11, 128;\n"
    "add.u32 %r2, %r10, %r12;\nxor.b32 %r13, %r11, 4;\nadd.u32 %r3, %r10, %r13;\n";

Ran run(const std::string& body, unsigned threads = 64, std::size_t dynamic = 0) {
    return run_kernel(module_text(kAddresses + body, 0, ".shared .align 16 .b8 tile[4096];",
                                  ".extern .shared .align 16 .b8 dynamic[];"),
                      {}, {}, {threads, 1, 1}, dynamic);
}
void fine(const std::string& body, unsigned threads = 64, std::size_t dynamic = 0) {
    BOOST_CHECK_EQUAL(run(body, threads, dynamic).fault, "");
}
void faults(const std::string& body, std::initializer_list<const char*> parts, unsigned threads = 64,
            std::size_t dynamic = 0) {
    const std::string fault = run(body, threads, dynamic).fault;
    BOOST_CHECK_MESSAGE(!fault.empty(), "no fault in " << body);
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(fault.find(part) != std::string::npos, "'" << fault << "' does not say '" << part << "'");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_shared)

BOOST_AUTO_TEST_CASE(read_after_write) {
    const std::string first = "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nsetp.lt.u32 %p1, %r0, 32;\n";
    faults(first + "@%p1 st.shared.u32 [%r1], %r0;\n@!%p1 ld.shared.u32 %r5, [%r2];",
           {"k, block (0,0,0), thread (32,0,0), PTX line 26 `@!%p1 ld.shared.u32 %r5, [%r2]`: reads byte 0 of shared "
            "memory",
            "which thread (0,0,0) wrote at PTX line 25 `@%p1 st.shared.u32 [%r1], %r0`, without a barrier between "
            "them: race in shared memory"});
    faults("st.shared.u32 [%r1], %r0;\nld.shared.u32 %r5, [%r2];", {"never written"});
    fine("st.shared.u32 [%r1], %r0;\nbar.sync 0;\nld.shared.u32 %r5, [%r2];");
    fine("st.shared.u32 [%r1], %r0;\nld.shared.u32 %r5, [%r1];");
}

BOOST_AUTO_TEST_CASE(write_after_read) {
    const std::string begin = "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nld.shared.u32 %r5, [%r2];\n";
    faults(begin + "st.shared.u32 [%r1], %r5;",
           {"race in shared memory", "st.shared.u32 [%r1], %r5", "ld.shared.u32 %r5, [%r2]"});
    faults(
        "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nsetp.lt.u32 %p1, %r0, 32;\n@%p1 ld.shared.u32 %r5, [%r2];\n"
        "@!%p1 st.shared.u32 [%r1], %r0;",
        {"thread (32,0,0)", "which warp 0 reads at PTX line"});
    fine(begin + "bar.sync 0;\nst.shared.u32 [%r1], %r5;");
}

BOOST_AUTO_TEST_CASE(write_after_write) {
    faults("st.shared.u32 [%r1], %r0;\nst.shared.u32 [%r2], %r0;", {"race in shared memory", "writes byte"});
    fine("st.shared.u32 [%r1], %r0;\nbar.sync 0;\nst.shared.u32 [%r2], %r0;");
}

BOOST_AUTO_TEST_CASE(lanes_of_one_warp) {
    faults("st.shared.u32 [%r1], %r0;\nld.shared.u32 %r5, [%r3];",
           {"race in shared memory", "thread (0,0,0)", "thread (1,0,0) wrote"}, 32);
    fine("st.shared.u32 [%r1], %r0;\nbar.warp.sync -1;\nld.shared.u32 %r5, [%r3];", 32);
    const std::string begin = "st.shared.u32 [%r1], %r0;\nbar.warp.sync -1;\nld.shared.u32 %r5, [%r3];\n";
    faults(begin + "st.shared.u32 [%r1], %r5;", {"race in shared memory"}, 32);
    fine(begin + "bar.warp.sync -1;\nst.shared.u32 [%r1], %r5;", 32);
    // A barrier of a warp orders no accesses between warps.
    faults(
        "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nst.shared.u32 [%r1], %r0;\nbar.warp.sync -1;\n"
        "ld.shared.u32 %r5, [%r2];",
        {"race in shared memory"});
}

BOOST_AUTO_TEST_CASE(a_part_of_a_warp) {
    // %p1: the lane is in the lower half; %r4: the address of the lane 16 further, modulo 32; %r6: the mask of the
    // lane's half.
    const std::string begin =
        "setp.lt.u32 %p1, %r0, 16;\nsetp.eq.u32 %p2, %r0, 0;\nxor.b32 %r14, %r11, 64;\nadd.u32 %r4, %r10, %r14;\n"
        "selp.b32 %r6, 65535, 4294901760, %p1;\nst.shared.u32 [%r1], %r0;\n";
    const std::string lower = begin + "@%p1 bar.warp.sync 65535;\n", halves = begin + "bar.warp.sync %r6;\n";
    faults(lower + "@!%p1 ld.shared.u32 %r5, [%r4];",
           {"race in shared memory", "thread (16,0,0)", "thread (0,0,0) wrote"}, 32);
    faults(lower + "@!%p1 ld.shared.u32 %r5, [%r3];", {"race in shared memory"}, 32);
    faults(lower + "@!%p1 ld.shared.u32 %r5, [tile];", {"race in shared memory"}, 32);
    faults(lower + "@%p1 ld.shared.u32 %r5, [%r4];", {"race in shared memory"}, 32);
    fine(lower + "@%p1 ld.shared.u32 %r5, [%r3];", 32);
    fine(lower + "@%p1 ld.shared.u32 %r5, [tile];", 32);
    fine(lower + "bar.warp.sync -1;\nld.shared.u32 %r5, [%r4];", 32);
    fine(lower + "bar.sync 0;\nld.shared.u32 %r5, [%r2];\nld.shared.u32 %r5, [%r4];");
    fine(halves + "ld.shared.u32 %r5, [%r3];", 32);
    faults(halves + "ld.shared.u32 %r5, [%r4];", {"race in shared memory"}, 32);
    // A lane passes what it has seen on to the lanes that it meets at a barrier.
    const std::string met = lower +
                            "setp.eq.u32 %p3, %r0, 15;\nsetp.eq.u32 %p4, %r0, 16;\nsetp.eq.u32 %p5, %r0, 17;\n"
                            "or.pred %p6, %p3, %p4;\n@%p6 bar.warp.sync 98304;\n";
    fine(met + "@%p4 ld.shared.u32 %r5, [tile];", 32);
    faults(met + "@%p5 ld.shared.u32 %r5, [tile];", {"race in shared memory"}, 32);
    // One lane writes a word that all lanes of its half have read.
    const std::string read = lower + "@%p1 ld.shared.u32 %r5, [tile+4];\n";
    faults(read + "@%p2 st.shared.u32 [tile+4], %r0;", {"race in shared memory", "reads at"}, 32);
    fine(read + "@%p1 bar.warp.sync 65535;\n@%p2 ld.shared.u32 %r5, [tile+4];\n@%p2 st.shared.u32 [tile+4], %r0;", 32);
    // ldmatrix reads for all lanes of the warp.
    const std::string matrix =
        "and.b32 %r7, %r0, 7;\nmad.lo.u32 %r8, %r7, 16, %r10;\nldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r8];";
    faults(lower + matrix, {"race in shared memory"}, 32);
    fine(lower + "bar.warp.sync -1;\n" + matrix, 32);
}

BOOST_AUTO_TEST_CASE(halves_of_a_warp_add_apart) {
    // Libraries reduce within 16 lanes like this: they add pairs, with a barrier of the half after every store and
    // every load; then all lanes read the sum of the first one.
    std::string body =
        "and.b32 %r24, %r0, 16;\nshl.b32 %r6, 65535, %r24;\nand.b32 %r7, %r0, 15;\nand.b32 %r8, %r11, 4294967232;\n"
        "add.u32 %r9, %r10, %r8;\nmov.u32 %r20, %r0;\n";
    for (const int delta : {8, 4, 2, 1}) {
        const std::string d = std::to_string(delta);
        body += "st.shared.u32 [%r1], %r20;\nbar.warp.sync %r6;\nadd.u32 %r15, %r7, " + d +
                ";\nand.b32 %r15, %r15, 15;\nmad.lo.u32 %r16, %r15, 4, %r9;\n" +
                "ld.shared.u32 %r21, [%r16];\nadd.u32 %r20, %r20, %r21;\nbar.warp.sync %r6;\n";
    }
    body +=
        "st.shared.u32 [%r1], %r20;\nbar.warp.sync %r6;\nld.shared.u32 %r22, [%r9];\nbar.warp.sync %r6;\n"
        "st.shared.u32 [%r1], %r22;\n";
    fine(body + "bar.warp.sync -1;\nld.shared.u32 %r23, [tile];\n", 32);
    fine(body + "bar.sync 0;\nld.shared.u32 %r23, [%r2];\n", 64);
    faults(body + "ld.shared.u32 %r23, [tile];\n", {"race in shared memory"}, 32);
}

BOOST_AUTO_TEST_CASE(one_store_to_one_place) {
    faults("st.shared.u32 [tile], %r0;", {"lanes of one store write different values"}, 32);
    fine("mov.u32 %r5, 7;\nst.shared.u32 [tile], %r5;", 32);
}

BOOST_AUTO_TEST_CASE(many_readers) {
    const std::string begin =
        "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nld.shared.u32 %r5, [tile];\nsetp.ne.u32 %p1, %r0, 0;\n@%p1 bra E;\n";
    faults(begin + "st.shared.u32 [tile], %r5;\nE:", {"race in shared memory"}, 32);
    faults(
        "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nld.shared.u32 %r5, [tile];\nbar.warp.sync -1;\n"
        "setp.ne.u32 %p1, %r0, 0;\n@%p1 bra E;\nst.shared.u32 [tile], %r5;\nE:",
        {"race in shared memory"}, 64);
    fine(
        "st.shared.u32 [%r1], %r0;\nbar.sync 0;\nld.shared.u32 %r5, [tile];\nbar.sync 0;\nsetp.ne.u32 %p1, %r0, 0;\n"
        "@%p1 bra E;\nst.shared.u32 [tile], %r5;\nE:",
        64);
}

BOOST_AUTO_TEST_CASE(the_first_of_two_readers) {
    // Lane 0 reads a word, then lane 1 reads it, then lane 1 writes it.
    const std::string begin =
        "st.shared.u32 [%r1], %r0;\nbar.warp.sync -1;\nsetp.eq.u32 %p1, %r0, 0;\nsetp.eq.u32 %p2, %r0, 1;\n"
        "@%p1 ld.shared.u32 %r5, [tile];\n@%p2 ld.shared.u32 %r5, [tile];\n";
    faults(begin + "@%p2 st.shared.u32 [tile], %r0;", {"race in shared memory"}, 32);
    fine(begin + "bar.warp.sync -1;\n@%p2 st.shared.u32 [tile], %r0;", 32);
    fine(
        "st.shared.u32 [%r1], %r0;\nbar.warp.sync -1;\nsetp.eq.u32 %p2, %r0, 1;\n@%p2 ld.shared.u32 %r5, [tile];\n"
        "@%p2 ld.shared.u32 %r5, [tile];\n@%p2 st.shared.u32 [tile], %r0;",
        32);
}

BOOST_AUTO_TEST_CASE(parts_of_words) {
    // Neighbours write the halves of one word, which is no race. Then threads read the whole word, with and without a
    // barrier in between.
    const std::string halves =
        "shr.u32 %r20, %r11, 1;\nadd.u32 %r21, %r10, %r20;\ncvt.u16.u32 %rs1, %r0;\nst.shared.u16 [%r21], %rs1;\n";
    fine(halves);
    fine(halves + "ld.shared.u16 %rs2, [%r21];");
    faults(halves + "xor.b32 %r22, %r20, 2;\nadd.u32 %r22, %r22, %r10;\nld.shared.u16 %rs2, [%r22];",
           {"race in shared memory"});
    fine(halves + "bar.sync 0;\nand.b32 %r22, %r20, 124;\nadd.u32 %r22, %r22, %r10;\nld.shared.u32 %r5, [%r22];");
    faults(halves + "and.b32 %r22, %r20, 124;\nadd.u32 %r22, %r22, %r10;\nld.shared.u32 %r5, [%r22];",
           {"race in shared memory"});
    faults(halves +
               "bar.sync 0;\nand.b32 %r22, %r20, 124;\nadd.u32 %r22, %r22, %r10;\nld.shared.u32 %r5, [%r22];\n"
               "st.shared.u16 [%r21], %rs1;",
           {"race in shared memory"});
    // The first warp reads a half of a word, and the second warp writes the whole word.
    const std::string read =
        halves +
        "bar.sync 0;\nsetp.eq.u32 %p1, %r0, 0;\nsetp.eq.u32 %p2, %r0, 33;\n@%p1 ld.shared.u16 %rs2, [tile+4];\n";
    faults(read + "@%p2 st.shared.u32 [tile+4], %r0;", {"race in shared memory"});
    fine(read + "bar.sync 0;\n@%p2 st.shared.u32 [tile+4], %r0;");
    faults(halves + "bar.sync 0;\nld.shared.u16 %rs2, [tile+130];", {"never written"});
}

BOOST_AUTO_TEST_CASE(atomics) {
    const std::string zero = "mov.u32 %r5, 0;\nst.shared.u32 [%r1], %r5;\nbar.sync 0;\n";
    fine(zero + "atom.shared.add.u32 %r6, [tile], 1;\nbar.sync 0;\nld.shared.u32 %r7, [tile];");
    faults(zero + "atom.shared.add.u32 %r6, [tile], 1;\nld.shared.u32 %r7, [tile];",
           {"race in shared memory", "atomically changed"});
    faults("atom.shared.add.u32 %r6, [tile], 1;", {"never written"});
}

BOOST_AUTO_TEST_CASE(bounds_and_alignment) {
    faults("ld.shared.u32 %r5, [tile+4096];", {"out of bounds", "has 4096 bytes", "byte 4096"});
    faults("st.shared.u32 [%r1+4094], %r0;", {"out of bounds"});
    faults("st.shared.u32 [tile+2], %r0;", {"misaligned"});
    faults("st.shared.v4.u32 [tile+8], {%r0, %r0, %r0, %r0};", {"misaligned"});
    faults("st.shared.u32 [tile+-4], %r0;", {"out of bounds"});
    fine("mov.u32 %r5, 1;\nst.shared.v4.u32 [tile+4080], {%r5, %r5, %r5, %r5};", 32);
    fine("mov.u32 %r5, 1;\nst.shared.u32 [dynamic+252], %r5;\nbar.warp.sync -1;\nld.shared.u32 %r6, [dynamic+252];", 32,
         256);
    faults("mov.u32 %r5, 1;\nst.shared.u32 [dynamic+256], %r5;", {"out of bounds", "has 4352 bytes"}, 64, 256);
    faults("ld.shared.u32 %r5, [tile+12];", {"never written (uninitialised)"});
}

BOOST_AUTO_TEST_CASE(generic_addresses) {
    fine(
        "cvt.u64.u32 %rd10, %r1;\ncvta.shared.u64 %rd11, %rd10;\nst.u32 [%rd11], %r0;\nbar.sync 0;\n"
        "ld.u32 %r5, [%rd11];\ncvta.to.shared.u64 %rd12, %rd11;\ncvt.u32.u64 %r6, %rd12;\nld.shared.u32 %r7, [%r6];");
    faults(
        "cvt.u64.u32 %rd10, %r1;\ncvta.shared.u64 %rd11, %rd10;\nst.u32 [%rd11], %r0;\nbar.sync 0;\n"
        "st.u32 [%rd11], %r0;\nld.shared.u32 %r5, [%r2];",
        {"race in shared memory"});
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
