// Tests of the faults of global memory in the interpreter: races between warps and between blocks, bounds, alignment,
// reads of bytes that were never written; and of GlobalMemory, which the copies of the simulated runtime ask as well.
// ptx_shared_test.cpp tests shared memory.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

/// Addresses in buffer 0. %rd10: 4 bytes that only this thread of all blocks has; %rd11: 4 bytes that only this thread
/// of its block has; %rd12: 2 bytes that only this thread of all blocks has.
const std::string kAddresses =
    "mov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %ntid.x;\nmad.lo.u32 %r3, %r1, %r2, %r0;\nmul.wide.u32 %rd20, %r3, 4;\n"
    "add.u64 %rd10, %rd0, %rd20;\nmul.wide.u32 %rd21, %r0, 4;\nadd.u64 %rd11, %rd0, %rd21;\n"
    "mul.wide.u32 %rd22, %r3, 2;\nadd.u64 %rd12, %rd0, %rd22;\ncvt.u16.u32 %rs1, %r0;\n";

std::string run(const std::string& body, unsigned blocks, unsigned threads, bool written = true) {
    Buffer buffer{std::vector<std::uint32_t>(256), written};
    return run_kernel(module_text(kAddresses + body, 1), {&buffer}, {blocks, 1, 1}, {threads, 1, 1}).fault;
}
void fine(const std::string& body, unsigned blocks = 2, unsigned threads = 64, bool written = true) {
    BOOST_CHECK_EQUAL(run(body, blocks, threads, written), "");
}
void faults(const std::string& body, std::initializer_list<const char*> parts, unsigned blocks = 2,
            unsigned threads = 64, bool written = true) {
    const std::string fault = run(body, blocks, threads, written);
    BOOST_CHECK_MESSAGE(!fault.empty(), "no fault in " << body);
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(fault.find(part) != std::string::npos, "'" << fault << "' does not say '" << part << "'");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_global)

BOOST_AUTO_TEST_CASE(between_blocks) {
    fine("st.global.u32 [%rd10], %r0;");
    fine("ld.global.u32 %r5, [%rd11];");
    faults("st.global.u32 [%rd11], %r0;", {"block (1,0,0)", "st.global.u32 [%rd11], %r0",
                                           "another block of this launch wrote at PTX line", "between blocks"});
    faults("ld.global.u32 %r5, [%rd11];\nsetp.ne.u32 %p1, %r1, 1;\n@%p1 bra E;\nst.global.u32 [%rd11], %r0;\nE:",
           {"another block of this launch read at PTX line"});
    faults("setp.ne.u32 %p1, %r1, 0;\n@!%p1 st.global.u32 [%rd11], %r0;\n@%p1 ld.global.u32 %r5, [%rd11];",
           {"reads byte", "another block of this launch wrote"});
    fine("ld.global.u32 %r5, [%rd10];\nadd.u32 %r5, %r5, 1;\nst.global.u32 [%rd10], %r5;\nld.global.u32 %r6, [%rd10];");
    // Both blocks read the word, then the block that read last writes it.
    faults("ld.global.u32 %r5, [%rd0];\nbar.sync 0;\nsetp.eq.u32 %p1, %r3, 64;\n@%p1 st.global.u32 [%rd0], %r0;",
           {"another block of this launch read"});
}

BOOST_AUTO_TEST_CASE(between_warps) {
    const std::string other = "xor.b64 %rd23, %rd21, 128;\nadd.u64 %rd13, %rd0, %rd23;\n";
    faults(other + "st.global.u32 [%rd11], %r0;\nld.global.u32 %r5, [%rd13];",
           {"of the same block", "without a barrier between them: race in global memory"}, 1);
    fine(other + "st.global.u32 [%rd11], %r0;\nbar.sync 0;\nld.global.u32 %r5, [%rd13];", 1);
    faults(other + "ld.global.u32 %r5, [%rd13];\nst.global.u32 [%rd11], %r0;", {"race in global memory"}, 1);
    fine(other + "ld.global.u32 %r5, [%rd13];\nbar.sync 0;\nst.global.u32 [%rd11], %r0;", 1);
    // Both warps read, then the first one writes.
    const std::string both =
        "ld.global.u32 %r5, [%rd0];\nsetp.lt.u32 %p1, %r0, 32;\nbar.sync 0;\nld.global.u32 %r5, [%rd0];\n"
        "setp.eq.u32 %p2, %r0, 0;\n@!%p1 bar.sync 1, 32;\n";
    faults(both + "@%p1 bar.sync 2, 32;\n@%p2 st.global.u32 [%rd0], %r0;", {"race in global memory"}, 1);
    fine(both + "bar.sync 0;\n@%p2 st.global.u32 [%rd0], %r0;", 1);
    faults("st.global.u32 [%rd0], %r0;", {"lanes of one store write different values"}, 1, 32);
    fine("mov.u32 %r5, 3;\nst.global.u32 [%rd0], %r5;", 1, 32);
}

BOOST_AUTO_TEST_CASE(parts_of_words) {
    // With 33 threads a block, the halves of one word belong to two blocks.
    fine("st.global.u16 [%rd12], %rs1;", 3, 33);
    fine("ld.global.u16 %rs2, [%rd12];\nst.global.u16 [%rd12], %rs2;\nld.global.u16 %rs3, [%rd12];", 3, 33);
    faults("st.global.u16 [%rd12], %rs1;\nsetp.eq.u32 %p1, %r3, 33;\n@%p1 ld.global.u16 %rs2, [%rd12+-2];",
           {"another block of this launch wrote"}, 2, 33);
    faults("st.global.u16 [%rd12], %rs1;\nsetp.eq.u32 %p1, %r3, 33;\n@%p1 ld.global.u32 %r5, [%rd12+-2];",
           {"another block of this launch wrote"}, 2, 33);
    fine("st.global.u16 [%rd12], %rs1;\nld.global.u16 %rs2, [%rd12];", 3, 33, false);
    faults("st.global.u16 [%rd12], %rs1;\nsetp.eq.u32 %p1, %r3, 32;\n@%p1 ld.global.u16 %rs2, [%rd12+2];",
           {"never written"}, 1, 33, false);
}

BOOST_AUTO_TEST_CASE(halves_that_two_blocks_read) {
    const std::string read = "ld.global.u16 %rs2, [%rd0];\nbar.sync 0;\n";
    faults(read + "setp.eq.u32 %p1, %r3, 32;\n@%p1 st.global.u16 [%rd0], %rs1;", {"another block of this launch read"},
           2, 32);
    fine(read + "setp.eq.u32 %p1, %r3, 32;\n@%p1 st.global.u16 [%rd0+2], %rs1;", 2, 32);
}

BOOST_AUTO_TEST_CASE(a_launch_forgets_the_accesses_of_earlier_ones) {
    // In the first launch two blocks write the halves of a word. In the second launch one block writes the whole word.
    // Then the first launch runs again.
    std::vector<std::uint32_t> words(64);
    ptx::GlobalMemory memory;
    memory.add(words.data(), 256);
    memory.wrote(words.data(), 256);
    const auto halves = ptx::parse_module(module_text(kAddresses + "st.global.u16 [%rd12], %rs1;", 1), "halves");
    const auto whole = ptx::parse_module(
        module_text(kAddresses + "ld.global.u32 %r5, [%rd10];\nadd.u32 %r5, %r5, 1;\nst.global.u32 [%rd10], %r5;", 1),
        "whole");
    const auto launch = [&](const auto& module, unsigned blocks, unsigned threads) {
        std::vector<std::byte> parameters(8);
        const std::uint64_t address = reinterpret_cast<std::uintptr_t>(words.data());
        std::memcpy(parameters.data(), &address, 8);
        ptx::Counts counts;
        ptx::run({ptx::find_kernel(*module, "k"), {blocks, 1, 1}, {threads, 1, 1}, 0, parameters}, memory, counts);
    };
    for (int k = 0; k < 3; ++k) {
        launch(halves, 3, 33);
        launch(whole, 2, 32);
    }
    BOOST_CHECK_EQUAL(words[16], (32u | 0u << 16) + 1);
}

BOOST_AUTO_TEST_CASE(atomics) {
    fine("red.global.add.u32 [%rd0], 1;");
    faults("red.global.add.u32 [%rd0], 1;\nsetp.eq.u32 %p1, %r3, 64;\n@%p1 ld.global.u32 %r5, [%rd0];",
           {"atomically changes", "race in global memory"});
    faults(
        "setp.eq.u32 %p1, %r3, 0;\n@%p1 st.global.u32 [%rd0], %r0;\nsetp.eq.u32 %p1, %r3, 64;\n"
        "@%p1 red.global.add.u32 [%rd0], 1;",
        {"atomically changes", "another block of this launch wrote"});
    Buffer sums{{0, 0, 100, 0xffffffffu, 5, 0, 0, 0}};
    const Ran ran = run_kernel(module_text(R"(
red.global.add.u32 [%rd0], %r0; red.global.max.u32 [%rd0+4], %r0;
red.global.min.u32 [%rd0+8], %r0; red.global.and.b32 [%rd0+12], 0xf0;
atom.global.exch.b32 %r1, [%rd0+16], 77; atom.global.cas.b32 %r2, [%rd0+20], %r0, 9;
red.global.inc.u32 [%rd0+24], 9; mov.f32 %f1, 0f3F000000; red.global.add.f32 [%rd0+28], %f1;)",
                                           1),
                               {&sums}, {2, 1, 1}, {32, 1, 1});
    BOOST_CHECK_EQUAL(ran.fault, "");
    BOOST_CHECK_EQUAL(sums.words[0], 2 * 31 * 32 / 2);
    BOOST_CHECK_EQUAL(sums.words[1], 31);
    BOOST_CHECK_EQUAL(sums.words[2], 0);
    BOOST_CHECK_EQUAL(sums.words[3], 0xf0);
    BOOST_CHECK_EQUAL(sums.words[4], 77);
    BOOST_CHECK_EQUAL(sums.words[5], 9);
    BOOST_CHECK_EQUAL(sums.words[6], 64 % 10);
    BOOST_CHECK_EQUAL(as_float(sums.words[7]), 32.0f);
}

BOOST_AUTO_TEST_CASE(strong_accesses) {
    // Blocks and warps pass flags to one another. Strong accesses and atomics are no race, plain accesses are one.
    const std::string first = "setp.eq.u32 %p1, %r3, 0;\nsetp.eq.u32 %p2, %r3, 64;\nsetp.eq.u32 %p3, %r3, 32;\n";
    for (const char* order : {"volatile", "relaxed.gpu", "relaxed.sys"}) {
        const std::string load = std::string("ld.") + order + ".global.u32 %r5, [%rd0];\n",
                          store = std::string("st.") + order + ".global.u32 [%rd0], %r0;\n";
        fine(first + load + "@%p1 " + store + load);
        fine(first + "@%p1 " + store + "@%p2 " + load + "@%p2 " + store + "@%p3 " + load + "@%p3 " + store, 3);
        fine(first + load + "red.global.add.u32 [%rd0], 1;\n" + load + "@%p1 " + store);
        faults(first + "@%p1 " + store + "@%p2 ld.global.u32 %r5, [%rd0];",
               {"reads byte", "another block of this launch changed by an atomic or strong store"});
        faults(first + "@%p1 " + store + "@%p2 st.global.u32 [%rd0], %r0;", {"writes byte", "between blocks"});
        faults(first + "@%p1 st.global.u32 [%rd0], %r0;\n@%p2 " + load,
               {"reads byte", "another block of this launch wrote"});
        faults(first + "@%p1 st.global.u32 [%rd0], %r0;\n@%p2 " + store,
               {"writes byte", "another block of this launch wrote"});
        faults(first + "@%p1 ld.global.u32 %r5, [%rd0];\n@%p2 " + store,
               {"writes byte", "another block of this launch read"});
        faults(first + "@%p1 " + load + "@%p2 " + load + "@%p2 st.global.u32 [%rd0], %r0;",
               {"writes byte", "another block of this launch read"});
        faults(first + "@%p1 " + store + "@%p3 ld.global.u32 %r5, [%rd0];", {"without a barrier between them"}, 1);
        fine(first + "@%p1 " + store + "@%p3 " + load + "bar.sync 0;\n@%p3 st.global.u32 [%rd0], %r0;", 1);
        fine("mov.u32 %r5, 1;\n" + load + "ld.global.u32 %r6, [%rd0];", 3);
    }
    // Accesses with the scope of a block are not strong between blocks.
    faults(first + "@%p1 st.relaxed.cta.global.u32 [%rd0], %r0;\n@%p2 ld.relaxed.cta.global.u32 %r5, [%rd0];",
           {"between blocks"});
}

BOOST_AUTO_TEST_CASE(constant_during_the_launch) {
    fine("ld.global.nc.u32 %r5, [%rd10];");
    fine("ld.global.nc.u32 %r5, [%rd10];\nst.global.u32 [%rd10], %r5;");
    faults("st.global.u32 [%rd10], %r0;\nld.global.nc.u32 %r5, [%rd10];",
           {"by ld.global.nc", "was written at PTX line", "st.global.u32 [%rd10], %r0"});
    fine("st.global.u32 [%rd10], %r0;\nld.global.u32 %r5, [%rd10];");
}

BOOST_AUTO_TEST_CASE(bounds_and_alignment) {
    faults("ld.global.u32 %r5, [%rd0+1024];", {"out of bounds", "thread", "byte 1024 of an allocation of 1024 bytes"});
    faults("ld.global.u32 %r5, [%rd0+-4];", {"out of bounds", "4 bytes before an allocation"});
    faults("ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd0+1016];", {"out of bounds"});
    faults("ld.global.u32 %r5, [%rd0+2];", {"misaligned"});
    faults("ld.global.v2.u32 {%r5, %r6}, [%rd0+4];", {"misaligned"}, 1, 32);
    faults("mov.u64 %rd30, 64;\nst.global.u32 [%rd30], %r0;", {"0x40", "not device memory"});
    faults("ld.global.u32 %r5, [%rd10];", {"never written (uninitialised)", "byte 0 of an allocation"}, 2, 64, false);
    fine("ld.global.u32 %r5, [%rd0+1020];");
}

BOOST_AUTO_TEST_CASE(copies_and_the_shadow) {
    std::vector<std::byte> bytes(1000);
    ptx::GlobalMemory memory;
    memory.add(bytes.data(), bytes.size());
    BOOST_CHECK(memory.contains(bytes.data(), 1000) && !memory.contains(bytes.data(), 1001) &&
                !memory.contains(bytes.data() - 1, 2));
    memory.wrote(bytes.data() + 3, 500);
    memory.require_written(bytes.data() + 3, 500, "copy");
    for (const auto& [first, number, missing] :
         {std::tuple<int, int, const char*>{2, 10, "byte 0 "}, {3, 501, "byte 500 "}, {900, 1, "byte 0 "}})
        try {
            memory.require_written(bytes.data() + first, static_cast<std::size_t>(number), "a copy");
            BOOST_ERROR("no fault");
        } catch (const ptx::Fault& fault) {
            BOOST_CHECK(std::string(fault.what()).find("a copy reads") != std::string::npos &&
                        std::string(fault.what()).find(missing) != std::string::npos);
        }
    BOOST_CHECK_THROW(memory.wrote(bytes.data() + 999, 2), ptx::Fault);
    BOOST_CHECK_THROW(memory.add(bytes.data() + 10, 10), ptx::Fault);
    memory.remove(bytes.data());
    BOOST_CHECK(!memory.contains(bytes.data(), 1));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
