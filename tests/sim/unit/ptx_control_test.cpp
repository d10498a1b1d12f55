// Tests of control flow in the interpreter: divergent branches and where the lanes join again, loops, nesting, indexed
// branches, calls; special registers; and reads of registers that were never written.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

/// Runs `body` in one warp, which must leave a result in %r9 of each lane. Returns the results by lane.
std::vector<std::uint32_t> lanes_of(const std::string& body, const std::string& before = {}) {
    Buffer out{std::vector<std::uint32_t>(32), false};
    const Ran ran = run_kernel(
        module_text(body + "\nmul.wide.u32 %rd10, %r0, 4;\nadd.u64 %rd11, %rd0, %rd10;\nst.global.u32 [%rd11], %r9;\n",
                    1, {}, before),
        {&out});
    BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
    return out.words;
}

std::string fault_of(const std::string& body) {
    Buffer out{std::vector<std::uint32_t>(64), false};
    return run_kernel(module_text(body, 1), {&out}).fault;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_control)

BOOST_AUTO_TEST_CASE(both_ways) {
    const auto got = lanes_of(
        "and.b32 %r1, %r0, 1;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra EVEN;\nmul.lo.u32 %r9, %r0, 10;\nbra JOIN;\nEVEN:\n"
        "add.u32 %r9, %r0, 1000;\nJOIN:\nadd.u32 %r9, %r9, 1;\n");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(got[l], (l % 2 ? 10 * l : 1000 + l) + 1);
}

BOOST_AUTO_TEST_CASE(loops_of_different_length) {
    const auto got = lanes_of(
        "mov.u32 %r9, 0;\nmov.u32 %r1, 0;\nLOOP:\nadd.u32 %r9, %r9, %r1;\nadd.u32 %r1, %r1, 1;\n"
        "setp.le.u32 %p1, %r1, %r0;\n@%p1 bra LOOP;\n");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(got[l], l * (l + 1) / 2);
}

BOOST_AUTO_TEST_CASE(nested_divergence_with_inner_loop) {
    const auto got = lanes_of(R"(
mov.u32 %r9, 0; mov.u32 %r1, 0;
OUTER: and.b32 %r2, %r1, 1; setp.ne.u32 %p1, %r2, 0; @%p1 bra ODD;
mov.u32 %r3, 0;
INNER: add.u32 %r9, %r9, 1; add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, %r0; @%p2 bra INNER;
bra NEXT;
ODD: setp.gt.u32 %p3, %r0, 20; @%p3 add.u32 %r9, %r9, 100;
NEXT: add.u32 %r1, %r1, 1; and.b32 %r4, %r0, 7; setp.le.u32 %p4, %r1, %r4; @%p4 bra OUTER;
)");
    for (unsigned l = 0; l < 32; ++l) {
        unsigned expected = 0;
        for (unsigned i = 0; i <= l % 8; ++i) expected += i % 2 ? (l > 20 ? 100 : 0) : std::max(1u, l);
        BOOST_CHECK_EQUAL(got[l], expected);
    }
}

BOOST_AUTO_TEST_CASE(lanes_join_again) {
    // After the branch all lanes run together again: the numbers of instructions show it.
    Buffer out{std::vector<std::uint32_t>(32), false};
    const Ran ran = run_kernel(
        module_text("setp.lt.u32 %p1, %r0, 5;\n@%p1 bra A;\nadd.u32 %r1, %r0, 1;\nbra J;\nA:\nadd.u32 %r1, %r0, 2;\n"
                    "J:\nactivemask.b32 %r9;\nmul.wide.u32 %rd10, %r0, 4;\nadd.u64 %rd11, %rd0, %rd10;\n"
                    "st.global.u32 [%rd11], %r9;",
                    1),
        {&out});
    BOOST_CHECK_EQUAL(ran.fault, "");
    BOOST_CHECK_EQUAL(out.words[3], 0xffffffffu);
    // ld.param, mov, setp, bra | add, bra | add | activemask, mul, add, st, ret
    BOOST_CHECK_EQUAL(ran.counts.warp_instructions, 12);
    BOOST_CHECK_EQUAL(ran.counts.by_opcode.at("bra"), 2);
    BOOST_CHECK_EQUAL(ran.counts.by_opcode.at("st.global"), 1);
}

BOOST_AUTO_TEST_CASE(indexed_branches) {
    const auto got = lanes_of(
        "and.b32 %r1, %r0, 3;\nTS: .branchtargets L0, L1, L2, L1;\nbrx.idx %r1, TS;\nL0: mov.u32 %r9, 70; bra E;\n"
        "L1: mov.u32 %r9, 71; bra E;\nL2: mov.u32 %r9, 72;\nE:\n");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(got[l], l % 4 == 0 ? 70 : l % 4 == 2 ? 72 : 71);
}

BOOST_AUTO_TEST_CASE(calls) {
    const std::string function = R"(
.func (.param .b32 result) twice(.param .b32 x) {
.reg .b32 %r<4>; .reg .pred %p<2>;
ld.param.b32 %r1, [x]; setp.gt.u32 %p1, %r1, 9; @%p1 bra BIG; add.u32 %r2, %r1, %r1; st.param.b32 [result], %r2; ret;
BIG: add.u32 %r3, %r1, 1000; st.param.b32 [result+0], %r3; ret;
})";
    const auto got = lanes_of(
        "{ .param .b32 a; st.param.b32 [a+0], %r0;\n.param .b32 b;\ncall.uni (b), twice, (a);\n"
        "ld.param.b32 %r9, [b+0]; }\nadd.u32 %r9, %r9, 1;",
        function);
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(got[l], (l > 9 ? l + 1000 : 2 * l) + 1);
    const auto some = lanes_of(
        "mov.u32 %r9, 5;\nsetp.lt.u32 %p1, %r0, 12;\n@!%p1 bra S;\n{ .param .b32 a; st.param.b32 [a+0], %r0;\n"
        ".param .b32 b;\ncall (b), twice, (a);\nld.param.b32 %r9, [b+0]; }\nS:\nadd.u32 %r9, %r9, 1;",
        function);
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(some[l], (l > 11 ? 5 : l > 9 ? l + 1000 : 2 * l) + 1);
}

BOOST_AUTO_TEST_CASE(special_registers) {
    Buffer out{std::vector<std::uint32_t>(2 * 3 * 2 * 24), false};
    const Ran ran = run_kernel(module_text(R"(
mov.u32 %r1, %tid.y; mov.u32 %r2, %ntid.x; mov.u32 %r3, %ctaid.x;
mov.u32 %r4, %ctaid.y; mov.u32 %r5, %nctaid.x; mov.u32 %r6, %ntid.y;
mad.lo.u32 %r7, %r1, %r2, %r0; mad.lo.u32 %r8, %r4, %r5, %r3;
mul.lo.u32 %r10, %r2, %r6; mad.lo.u32 %r11, %r8, %r10, %r7;
mul.lo.u32 %r12, %r8, 1000; add.u32 %r12, %r12, %laneid; mov.u32 %r13, %lanemask_lt; add.u32 %r12, %r12, %r13;
mul.wide.u32 %rd10, %r11, 4; add.u64 %rd11, %rd0, %rd10; st.global.u32 [%rd11], %r12;)",
                                           1),
                               {&out}, {2, 3, 1}, {12, 4, 1});
    BOOST_CHECK_EQUAL(ran.fault, "");
    for (unsigned block = 0; block < 6; ++block)
        for (unsigned t = 0; t < 48; ++t)
            BOOST_CHECK_EQUAL(out.words[block * 48 + t], block * 1000 + t % 32 + (1u << t % 32) - 1);
}

BOOST_AUTO_TEST_CASE(registers_of_the_driver) {
    // These registers are 0 without a cooperative launch.
    const auto values = lanes_of("mov.u32 %r9, %envreg2;\nmov.b32 %r8, %envreg31;\nadd.u32 %r9, %r9, %r8;");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(values[l], 0u);
    BOOST_CHECK_THROW(ptx::parse_module(module_text("mov.u32 %r9, %envreg32;", 0), "k"), ptx::Fault);
}

BOOST_AUTO_TEST_CASE(never_written) {
    BOOST_CHECK(fault_of("st.global.u32 [%rd0], %r5;").find("stores a register that was never written") !=
                std::string::npos);
    BOOST_CHECK(
        fault_of("add.u32 %r6, %r5, 1;\nxor.b32 %r7, %r6, %r0;\nst.global.u32 [%rd0], %r7;").find("never written") !=
        std::string::npos);
    BOOST_CHECK(fault_of("ld.global.u32 %r5, [%rd9];").find("the address was never written") != std::string::npos);
    BOOST_CHECK(fault_of("@%p3 add.u32 %r5, %r0, 1;").find("the predicate was never written") != std::string::npos);
    BOOST_CHECK(
        fault_of("setp.eq.u32 %p1, %r5, 1;\n@%p1 add.u32 %r6, %r0, 1;").find("the predicate was never written") !=
        std::string::npos);
    // One half of a pair of registers was never written: the other half is usable, the whole pair is not.
    BOOST_CHECK_EQUAL(fault_of("mov.b64 %rd10, {%r0, %r5};\ncvt.u32.u64 %r6, %rd10;\nmul.wide.u32 %rd11, %r6, 4;\n"
                               "add.u64 %rd12, %rd0, %rd11;\nst.global.u32 [%rd12], %r6;"),
                      "");
    BOOST_CHECK_EQUAL(fault_of("mov.b64 %rd10, {%r5, %r0};\nmov.b64 {%r7, %r6}, %rd10;\nmul.wide.u32 %rd11, %r6, 4;\n"
                               "add.u64 %rd12, %rd0, %rd11;\nst.global.u32 [%rd12], %r6;"),
                      "");
    BOOST_CHECK_EQUAL(fault_of("mov.b64 %rd10, {%r5, %r0};\nshr.u64 %rd11, %rd10, 32;\nadd.u64 %rd11, %rd11, %rd11;\n"
                               "add.u64 %rd11, %rd11, %rd11;\nadd.u64 %rd12, %rd0, %rd11;\n"
                               "st.global.u32 [%rd12], %r0;"),
                      "");
    BOOST_CHECK(fault_of("mov.b64 %rd10, {%r5, %r0};\nshr.u64 %rd11, %rd10, 31;\ncvt.u32.u64 %r6, %rd11;\n"
                         "st.global.u32 [%rd0], %r6;")
                    .find("never written") != std::string::npos);
    for (const char* body : {"mov.b64 %rd10, {%r5, %r0};\ncvt.u32.u64 %r6, %rd10;\nst.global.u32 [%rd0], %r6;",
                             "mov.b64 %rd10, {%r0, %r5};\nst.global.u64 [%rd0], %rd10;",
                             "mov.b64 %rd10, {%r5, %r0};\nmov.b64 {%r7, %r6}, %rd10;\nst.global.u32 [%rd0], %r7;"})
        BOOST_CHECK(fault_of(body).find("stores a register that was never written") != std::string::npos);
    // Only some lanes write the register.
    BOOST_CHECK(fault_of("setp.lt.u32 %p1, %r0, 4;\n@%p1 mov.u32 %r5, 1;\nmul.wide.u32 %rd10, %r0, 4;\n"
                         "add.u64 %rd11, %rd0, %rd10;\nst.global.u32 [%rd11], %r5;")
                    .find("thread") != std::string::npos);
    BOOST_CHECK_EQUAL(fault_of("setp.lt.u32 %p1, %r0, 4;\n@%p1 mov.u32 %r5, 1;\n@!%p1 mov.u32 %r5, 2;\n"
                               "mul.wide.u32 %rd10, %r0, 4;\nadd.u64 %rd11, %rd0, %rd10;\nst.global.u32 [%rd11], %r5;"),
                      "");
}

BOOST_AUTO_TEST_CASE(registers_of_the_block_before) {
    Buffer out{std::vector<std::uint32_t>(32)};
    const std::string body =
        "mov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 mov.u32 %r5, 7;\nsetp.eq.u32 %p2, %r1, 1;\n"
        "setp.ne.u32 %p3, %r0, 0;\n@%p3 ret;\n@!%p2 ret;\nst.global.u32 [%rd0], %r5;";
    BOOST_CHECK(run_kernel(module_text(body, 1), {&out}, {2, 1, 1}).fault.find("block (1,0,0), thread (0,0,0)") !=
                std::string::npos);
}

BOOST_AUTO_TEST_CASE(reversed_order_of_blocks_and_warps) {
    // An atomic counter numbers the warps in the order in which they run.
    const std::string body =
        "and.b32 %r1, %r0, 31;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 ret;\nmov.u32 %r2, %ctaid.x;\nshl.b32 %r3, %r2, 1;\n"
        "shr.u32 %r4, %r0, 5;\nadd.u32 %r3, %r3, %r4;\natom.global.add.u32 %r5, [%rd0], 1;\n"
        "mul.wide.u32 %rd10, %r3, 4;\nadd.u64 %rd11, %rd0, %rd10;\nst.global.u32 [%rd11+4], %r5;";
    for (const bool reversed : {false, true}) {
        Buffer out{std::vector<std::uint32_t>(7)};
        const Ran ran = run_kernel(module_text(body, 1), {&out}, {3, 1, 1}, {64, 1, 1}, 0, reversed);
        BOOST_CHECK_EQUAL(ran.fault, "");
        for (unsigned k = 0; k < 6; ++k) BOOST_CHECK_EQUAL(out.words[1 + k], reversed ? 5 - k : k);
    }
}

BOOST_AUTO_TEST_CASE(traps) {
    BOOST_CHECK(fault_of("setp.eq.u32 %p1, %r0, 9;\n@%p1 trap;").find("thread (9,0,0), PTX line") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
