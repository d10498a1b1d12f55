// Tests of mma.sync, ldmatrix and movmatrix in the interpreter. The tests fill the fragments by the tables of the PTX
// ISA, which stand here element by element, and compare the products with plain sums. ptx_wmma_test.cpp tests wmma and
// mma of bytes.
#include <boost/test/unit_test.hpp>
#include <functional>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

struct Place {
    unsigned row, col;
};

/// PTX ISA, "Matrix Fragments for mma.m16n8k16 with .f16 / .bf16": the place of element i of A; a lane has 8 elements.
Place a16(unsigned lane, unsigned i) {
    const unsigned group = lane >> 2, in_group = lane % 4;
    const unsigned row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
    const unsigned col = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    return {row, col};
}
Place b16(unsigned lane, unsigned i) { return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8u : 0u), lane >> 2}; }
Place c(unsigned lane, unsigned i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }
/// m16n8k8 with 16 bits: a lane has 4 elements of A and 2 of B.
Place a8(unsigned lane, unsigned i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }
Place b8(unsigned lane, unsigned i) { return {lane % 4 * 2 + i, lane >> 2}; }
/// m16n8k8 with tf32: a lane has 4 elements of A and 2 of B.
Place a_tf32(unsigned lane, unsigned i) {
    return {i == 0 || i == 2 ? lane >> 2 : (lane >> 2) + 8, i < 2 ? lane % 4 : lane % 4 + 4};
}
Place b_tf32(unsigned lane, unsigned i) { return {i == 0 ? lane % 4 : lane % 4 + 4, lane >> 2}; }

using Map = std::function<Place(unsigned, unsigned)>;
/// The registers of one lane with its fragment of an operand.
std::vector<std::uint32_t> fragment(const std::string& type, const Map& place, unsigned elements,
                                    int (*value)(unsigned, unsigned), unsigned lane) {
    std::vector<std::uint32_t> words;
    for (unsigned i = 0; i < elements; ++i) {
        const Place p = place(lane, i);
        const int x = value(p.row, p.col);
        if (type == "f32" || type == "tf32") words.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(x)));
        else if (i % 2 == 0) words.push_back(half(type == "bf16", x));
        else words.back() |= half(type == "bf16", x) << 16;
    }
    return words;
}

void check_mma(const std::string& shape, const std::string& type, unsigned depth, const Map& a_place,
               unsigned a_elements, const Map& b_place, unsigned b_elements, const std::string& sums = "f32") {
    const std::size_t number_c = sums == "f16" ? 2 : 4;  // registers
    Buffer in, out{std::vector<std::uint32_t>(number_c * 32), false};
    std::size_t number_a = 0, number_b = 0, stride = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
        const auto a = fragment(type, a_place, a_elements, &a_value, lane),
                   b = fragment(type, b_place, b_elements, &b_value, lane), sum = fragment(sums, &c, 4, &c_value, lane);
        for (const auto& part : {a, b, sum}) in.words.insert(in.words.end(), part.begin(), part.end());
        number_a = a.size(), number_b = b.size(), stride = a.size() + b.size() + number_c;
    }
    std::string body = "mul.wide.u32 %rd10, %r0, " + std::to_string(4 * stride) + ";\nadd.u64 %rd11, %rd0, %rd10;\n";
    for (unsigned k = 0; k < stride; ++k)
        body += "ld.global.b32 %r" + std::to_string(10 + k) + ", [%rd11+" + std::to_string(4 * k) + "];\n";
    const auto b_first = static_cast<unsigned>(10 + number_a), c_first = static_cast<unsigned>(b_first + number_b);
    body += "mma.sync.aligned." + shape + ".row.col." + sums + "." + type + "." + type + "." + sums + " " +
            names(40, number_c) + ", " + names(10, number_a) + ", " + names(b_first, number_b) + ", " +
            names(c_first, number_c) + ";\n";
    body += "mul.wide.u32 %rd12, %r0, " + std::to_string(4 * number_c) + ";\nadd.u64 %rd13, %rd1, %rd12;\nst.global.v" +
            std::to_string(number_c) + ".b32 [%rd13], " + names(40, number_c) + ";\n";
    const Ran ran = run_kernel(module_text(body, 2), {&in, &out});
    BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned i = 0; i < 4; ++i) {
            const Place p = c(lane, i);
            int expected = c_value(p.row, p.col);
            for (unsigned k = 0; k < depth; ++k) expected += a_value(p.row, k) * b_value(k, p.col);
            if (sums == "f16")
                BOOST_CHECK_EQUAL(out.words[2 * lane + i / 2] >> i % 2 * 16 & 0xffff, half(false, expected));
            else BOOST_CHECK_EQUAL(std::bit_cast<float>(out.words[4 * lane + i]), static_cast<float>(expected));
        }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_matrix)

BOOST_AUTO_TEST_CASE(products) {
    for (const std::string type : {"bf16", "f16"}) {
        check_mma("m16n8k16", type, 16, &a16, 8, &b16, 4);
        check_mma("m16n8k8", type, 8, &a8, 4, &b8, 2);
    }
    check_mma("m16n8k16", "f16", 16, &a16, 8, &b16, 4, "f16");
    check_mma("m16n8k8", "f16", 8, &a8, 4, &b8, 2, "f16");
    check_mma("m16n8k8", "tf32", 8, &a_tf32, 4, &b_tf32, 2);
    check_mma(
        "m16n8k4", "tf32", 4,
        [](unsigned lane, unsigned i) {
            return Place{i == 0 ? lane >> 2 : (lane >> 2) + 8, lane % 4};
        },
        2,
        [](unsigned lane, unsigned) {
            return Place{lane % 4, lane >> 2};
        },
        1);
}

BOOST_AUTO_TEST_CASE(matrices_from_shared_memory) {
    // Element (row, col) of matrix m is 1000 m + 10 row + col. The rows lie 48 bytes apart, so that no wrong address
    // gives the right value by chance.
    for (const unsigned number : {1u, 2u, 4u})
        for (const unsigned form : {0u, 1u, 2u, 3u}) {
            const bool transposed = form % 2, generic = form >= 2;
            Buffer in{std::vector<std::uint32_t>(32 * 4)}, out{std::vector<std::uint32_t>(32 * number), false};
            for (unsigned l = 0; l < 32; ++l)
                for (unsigned k = 0; k < 4; ++k)
                    in.words[4 * l + k] = (l / 8 * 1000 + l % 8 * 10 + 2 * k) | (l / 8 * 1000 + l % 8 * 10 + 2 * k + 1)
                                                                                    << 16;
            std::string body =
                "mul.wide.u32 %rd10, %r0, 16;\nadd.u64 %rd11, %rd0, %rd10;\n"
                "ld.global.v4.b32 {%r10, %r11, %r12, %r13}, [%rd11];\nmov.u32 %r1, tile;\n"
                "mad.lo.u32 %r2, %r0, 48, %r1;\n";
            body +=
                "st.shared.v4.b32 [%r2], {%r10, %r11, %r12, %r13};\nbar.sync 0;\ncvt.u64.u32 %rd20, %r2;\n"
                "cvta.shared.u64 %rd21, %rd20;\nldmatrix.sync.aligned.m8n8.x" +
                std::to_string(number) + (transposed ? ".trans" : "") + (generic ? ".b16 " : ".shared.b16 ") +
                names(20, number) + (generic ? ", [%rd21];\n" : ", [%r2];\n");
            body += "mul.wide.u32 %rd12, %r0, " + std::to_string(4 * number) + ";\nadd.u64 %rd13, %rd1, %rd12;\n";
            for (unsigned k = 0; k < number; ++k)
                body += "st.global.b32 [%rd13+" + std::to_string(4 * k) + "], %r" + std::to_string(20 + k) + ";\n";
            const Ran ran = run_kernel(module_text(body, 2, ".shared .align 16 .b8 tile[1536];"), {&in, &out});
            BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
            for (unsigned l = 0; l < 32; ++l)
                for (unsigned m = 0; m < number; ++m) {
                    const unsigned first = transposed ? 2 * (l % 4) * 10 + l / 4 : l / 4 * 10 + 2 * (l % 4),
                                   second = transposed ? first + 10 : first + 1;
                    BOOST_CHECK_EQUAL(out.words[l * number + m], (1000 * m + first) | (1000 * m + second) << 16);
                }
        }
}

BOOST_AUTO_TEST_CASE(ldmatrix_from_global_memory_is_refused) {
    Buffer in{std::vector<std::uint32_t>(128)};
    const Ran ran = run_kernel(module_text("mul.wide.u32 %rd10, %r0, 16;\nadd.u64 %rd11, %rd0, %rd10;\n"
                                           "ldmatrix.sync.aligned.m8n8.x4.b16 {%r1, %r2, %r3, %r4}, [%rd11];",
                                           1),
                               {&in});
    BOOST_CHECK(ran.fault.find("ldmatrix reads shared memory only") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_transposed_fragment) {
    // Lane l holds the elements (l / 4, 2 (l % 4)) and (l / 4, 2 (l % 4) + 1). Element (row, col) is 10 row + col.
    std::vector<Values> operands(1);
    for (unsigned l = 0; l < 32; ++l)
        operands[0].push_back((l / 4 * 10 + 2 * (l % 4)) | (l / 4 * 10 + 2 * (l % 4) + 1) << 16);
    const Values got = run_instruction("movmatrix.sync.aligned.m8n8.trans.b16 %d, %s0", 32, {32}, operands);
    for (unsigned l = 0; l < 32; ++l)
        BOOST_CHECK_EQUAL(got[l], (2 * (l % 4) * 10 + l / 4) | ((2 * (l % 4) + 1) * 10 + l / 4) << 16);
}

BOOST_AUTO_TEST_CASE(whole_warps_only) {
    const std::string mma =
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1, %r2, %r3, %r4}, {%r0, %r0, %r0, %r0}, {%r0, %r0}, "
        "{%r0, %r0, %r0, %r0};\n";
    BOOST_CHECK(run_kernel(module_text("setp.lt.u32 %p1, %r0, 31;\n@%p1 bra M;\nret;\nM:\n" + mma, 0), {})
                    .fault.find("divergence") != std::string::npos);
    BOOST_CHECK(run_kernel(module_text(mma, 0), {}, {}, {24, 1, 1}).fault.find("do not exist in this block") !=
                std::string::npos);
    BOOST_CHECK_EQUAL(run_kernel(module_text(mma, 0), {}).fault, "");
    BOOST_CHECK(run_kernel(module_text("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1, %r2, %r3, %r4}, "
                                       "{%r0, %r0, %r9, %r0}, {%r0, %r0}, {%r0, %r0, %r0, %r0};\n",
                                       0),
                           {})
                    .fault.find("a fragment was never written") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
