// Tests of the parser of PTX modules: text that it does not know is a Fault with that text and its line; declarations,
// constants, parameters and functions; the source lines in fault messages.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

std::string fault_of(const std::string& body, const std::string& inside = {}, const std::string& before = {}) {
    try {
        ptx::parse_module(module_text(body, 0, inside, before), "a module");
        return {};
    } catch (const ptx::Fault& fault) {
        return fault.what();
    }
}

void refuses(const std::string& body, std::initializer_list<const char*> parts) {
    const std::string fault = fault_of(body);
    BOOST_CHECK_MESSAGE(!fault.empty(), "takes " << body);
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(fault.find(part) != std::string::npos, "'" << fault << "' does not say '" << part << "'");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_parser)

BOOST_AUTO_TEST_CASE(unknown_text_is_refused) {
    refuses("wgmma.fence.sync.aligned;",
            {"a module, PTX line 15 `wgmma.fence.sync.aligned`", "instruction `wgmma` is not known"});
    refuses("add.funny.u32 %r1, %r0, %r0;", {"modifier .funny is not known here", "add.funny.u32 %r1, %r0, %r0"});
    refuses("ret;\nexit;\n@%p1 frobnicate.b32 %r1, %r0;", {"frobnicate"});  // even after a return
    refuses("add.u32 %r1, %r0, %nosuch;", {"`%nosuch` is not declared"});
    refuses("add.u32 %r1, %r0, %r64;", {"`%r64` is not declared"});
    refuses("mov.u32 %r1, %clock;", {"`%clock` is not declared"});
    refuses("add.u32 %r1, %r0;", {"2 operands are too few or too many"});
    refuses("add.u64 %r1, %r0, %r0;", {"cannot hold type u64"});
    refuses("add.u32 %r1, %r0, %rd0;", {"cannot be a source of type u32"});
    refuses("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r1}, {%r1}, {%r1};", {"mma"});
    refuses(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1, %r2, %r3, %r4}, {%r0, %r0}, {%r0, %r0}, {%r0, %r0, "
        "%r0, %r0};",
        {"too few or too many registers"});
    refuses("bra NOWHERE;", {"the label is not there"});
    refuses("ld.global.v2.u32 %r1, [%rd0];", {"the vector has too few or too many elements"});
    refuses("cvt.s32.f32 %r1, %f1;", {"needs .rni"});
    refuses("cp.async.cg.shared.global [%r1], [%rd0], 8;", {"cp.async copies 4, 8 or 16 bytes"});
    refuses("shfl.sync.bfly.b32 %r1, %r0, 1, 31;", {"operands"});
    refuses("st.const.u32 [%rd0], %r0;", {"read only"});
    refuses("griddepcontrol.wait;", {"is not known"});
    refuses("call.uni nobody;", {"function `nobody` has no body here"});
    BOOST_CHECK(fault_of("ret;", {}, ".tex .u64 t;").find("a directive that is not known") != std::string::npos);
    BOOST_CHECK(fault_of("ret;", ".surf .u32 x;").find("a declaration that is not known here") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(comments_labels_and_scopes) {
    BOOST_CHECK_EQUAL(fault_of("/* bra X; */ // wgmma;\nadd.u32 %r1, /* in the middle */ %r0, 1;\n{ .reg .b32 %x; "
                               "mov.u32 %x, 1; { .reg .b16 %x; mov.u16 %x, 2; } add.u32 %x, %x, 1; }"),
                      "");
    BOOST_CHECK_EQUAL(
        fault_of("$L__1: add.u32 %r1, %r0, 1;\n@!%p1 bra $L__1;\n.pragma \"nounroll\";\nbra.uni $L_2;\n$L_2:"), "");
}

BOOST_AUTO_TEST_CASE(variables_and_constants) {
    Buffer out{std::vector<std::uint32_t>(8), false};
    const std::string before =
        ".global .align 4 .u32 counts[3] = {5, 6, 7};\n.const .align 8 .b8 table[8] = {1, 2, 3, 4, 0, 0, 128, 63};\n"
        ".global .align 4 .f32 scale = 0f40000000;\n.global .align 8 .u64 where = counts;\n";
    const Ran ran = run_kernel(module_text(R"(
setp.ne.u32 %p1, %r0, 0; @%p1 ret;
mov.u64 %rd10, counts; ld.global.u32 %r1, [%rd10+8]; st.global.u32 [%rd0], %r1;
ld.global.u32 %r2, [counts+4]; st.global.u32 [%rd0+4], %r2;
ld.const.u8 %rs1, [table+2]; cvt.u32.u16 %r3, %rs1; st.global.u32 [%rd0+8], %r3;
ld.const.f32 %f1, [table+4]; st.global.f32 [%rd0+12], %f1;
ld.global.f32 %f2, [scale]; st.global.f32 [%rd0+16], %f2; ld.global.u64 %rd11, [where];
ld.u32 %r4, [%rd11]; st.global.u32 [%rd0+20], %r4;
mov.u32 %r5, 0x10; add.u32 %r5, %r5, 010; add.u32 %r5, %r5, 0b11; add.u32 %r5, %r5, -1;
st.global.u32 [%rd0+24], %r5; mov.u32 %r6, WARP_SZ; st.global.u32 [%rd0+28], %r6;)",
                                           1, {}, before),
                               {&out});
    BOOST_CHECK_EQUAL(ran.fault, "");
    const std::vector<std::uint32_t> expected{7, 6, 3, 0x3f800000, 0x40000000, 5, 16 + 8 + 3 - 1, 32};
    BOOST_CHECK_EQUAL_COLLECTIONS(out.words.begin(), out.words.end(), expected.begin(), expected.end());
    BOOST_CHECK(run_kernel(module_text("st.global.u32 [%rd0], %r0;", 1), {&out}).fault.find("different values") !=
                std::string::npos);
}

BOOST_AUTO_TEST_CASE(local_memory) {
    Buffer out{std::vector<std::uint32_t>(32), false};
    const std::string head = "mov.u64 %SPL, depot;\ncvta.local.u64 %rd30, %SPL;\n",
                      inside = ".local .align 16 .b8 depot[32];\n.reg .b64 %SPL;";
    const std::string store = "mul.wide.u32 %rd10, %r0, 4;\nadd.u64 %rd11, %rd0, %rd10;\nst.global.u32 [%rd11], %r9;";
    const Ran ran = run_kernel(
        module_text(head +
                        "st.local.u32 [%SPL+8], %r0;\nst.u32 [%rd30+12], %r0;\nand.b32 %r1, %r0, 1;\n"
                        "mul.wide.u32 %rd31, %r1, 4;\nadd.u64 %rd32, %rd30, %rd31;\nld.u32 %r9, [%rd32+8];\n" +
                        store,
                    1, inside),
        {&out});
    BOOST_CHECK_EQUAL(ran.fault, "");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(out.words[l], l);
    BOOST_CHECK(run_kernel(module_text(head + "ld.local.u32 %r9, [%SPL+4];", 1, inside), {&out})
                    .fault.find("local memory, which was never written") != std::string::npos);
    BOOST_CHECK(
        run_kernel(module_text(head + "st.local.u32 [%SPL+32], %r0;", 1, inside), {&out}).fault.find("out of bounds") !=
        std::string::npos);
}

BOOST_AUTO_TEST_CASE(parameters) {
    const std::string text =
        ".version 9.0\n.target sm_80\n.address_size 64\n"
        ".visible .entry _Z3fooIfEvPfi(.param .u64 .ptr .global .align 4 a, .param .align 8 .b8 s[24], "
        ".param .u8 c)\n.maxntid 64, 2, 1\n{ .shared .align 4 .b8 x[20]; .shared .u64 y; ret; }\n";
    const auto module = ptx::parse_module(text, "m");
    const ptx::Kernel* kernel = ptx::find_kernel(*module, "_Z3fooIfEvPfi");
    BOOST_REQUIRE(kernel);
    BOOST_CHECK(!ptx::find_kernel(*module, "foo"));
    const auto parameters = ptx::parameters_of(*kernel);
    BOOST_REQUIRE_EQUAL(parameters.size(), 3);
    BOOST_CHECK(parameters[1].offset == 8 && parameters[1].bytes == 24 && parameters[2].offset == 32 &&
                parameters[2].bytes == 1);
    BOOST_CHECK_EQUAL(ptx::static_shared_bytes_of(*kernel), 32);
    BOOST_CHECK_EQUAL(ptx::max_threads_of(*kernel), 128);
    ptx::GlobalMemory memory;
    ptx::Counts counts;
    ptx::Launch launch{kernel, {}, {33, 4, 1}, 0, std::vector<std::byte>(33)};
    BOOST_CHECK_THROW(ptx::run(launch, memory, counts), ptx::Fault);  // more threads than .maxntid
    launch.block = {32, 1, 1};
    ptx::run(launch, memory, counts);
    launch.parameters.resize(8);
    BOOST_CHECK_THROW(ptx::run(launch, memory, counts), ptx::Fault);
}

BOOST_AUTO_TEST_CASE(parameters_by_address) {
    Buffer out{std::vector<std::uint32_t>(32), false};
    const std::string store = "mul.wide.u32 %rd10, %r0, 4;\nadd.u64 %rd11, %rd0, %rd10;\nst.global.u32 [%rd11], %r9;";
    const std::string place =
        "and.b32 %r1, %r0, 1;\nmul.wide.u32 %rd20, %r1, 4;\nmov.b64 %rd21, p0;\nadd.s64 %rd22, %rd21, %rd20;\n";
    for (const std::string load :
         {"ld.param.u32 %r9, [%rd22];\n", "cvta.param.u64 %rd23, %rd22;\nld.u32 %r9, [%rd23];\n"}) {
        BOOST_CHECK_EQUAL(run_kernel(module_text(place + load + store, 1), {&out}).fault, "");
        const auto address = reinterpret_cast<std::uintptr_t>(out.words.data());
        for (unsigned l = 0; l < 32; ++l)
            BOOST_CHECK_EQUAL(out.words[l], static_cast<std::uint32_t>(l % 2 ? address >> 32 : address));
    }
    BOOST_CHECK(
        run_kernel(module_text("mov.b64 %rd21, p0;\ncvta.param.u64 %rd23, %rd21;\nst.u32 [%rd23], %r0;", 1), {&out})
            .fault.find("read only") != std::string::npos);
    BOOST_CHECK(
        run_kernel(module_text("ld.param.u32 %r9, [p0+8];", 1), {&out}).fault.find("of 8 bytes of parameters") !=
        std::string::npos);
}

BOOST_AUTO_TEST_CASE(functions_that_call_themselves) {
    const std::string even = ".func even() {\n call odd;\n ret; }\n", odd = ".func odd() {\n call even;\n ret; }\n";
    BOOST_CHECK(fault_of("call even;", {}, ".func odd();\n" + even + odd).find("calls itself") != std::string::npos);
    BOOST_CHECK_EQUAL(fault_of("call even;\ncall even;", {}, ".func odd();\n" + even + ".func odd() { ret; }\n"), "");
}

BOOST_AUTO_TEST_CASE(sentences_name_the_source) {
    std::string text = module_text(".loc 1 42 7\ntrap;", 0);
    text = text.substr(0, text.find(".visible")) +
           ".visible .entry _Z3fooIfEvPfi(.param .u64 p0)\n{\n"
           ".loc 2 42 7, function_name $L__info_string0, inlined_at 1 3 3\ntrap;\nret;\n}\n"
           ".file 2 \"/some/where/kernel.cu\"\n.section .debug_str\n{\n$L__info_string0:\n.b8 95,90,0\n}\n";
    const auto module = ptx::parse_module(text, "m");
    ptx::GlobalMemory memory;
    ptx::Counts counts;
    try {
        ptx::run({ptx::find_kernel(*module, "_Z3fooIfEvPfi"), {}, {32, 1, 1}, 0, std::vector<std::byte>(8)}, memory,
                 counts);
        BOOST_ERROR("no fault");
    } catch (const ptx::Fault& fault) {
        BOOST_CHECK_EQUAL(fault.what(),
                          "foo<float>, block (0,0,0), threads (0,0,0) and 31 others of warp 0, PTX line 8 `trap` "
                          "(kernel.cu:42): trap");
    }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
