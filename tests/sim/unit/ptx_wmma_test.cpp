// Tests of the tensor-core instructions that ptx_matrix_test.cpp does not test: mma of bytes, with fragments by the
// tables of the PTX ISA, and wmma, which loads and stores fragments as a whole. The results are compared with plain
// sums.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

/// Checks mma.m16n8k32 and m16n8k16 of bytes. The places of a lane's elements are those in the PTX ISA, "Matrix
/// Fragments for mma.m16n8k32".
void check_bytes(unsigned depth, bool a_signed, bool b_signed, bool saturates) {
    const unsigned a_words = depth / 8, b_words = depth / 16, stride = a_words + b_words + 4;
    Buffer in{std::vector<std::uint32_t>(32 * stride)}, out{std::vector<std::uint32_t>(32 * 4), false};
    const auto a = [&](unsigned r, unsigned k) { return a_signed ? a_value(r, k) * 25 : (a_value(r, k) + 5) * 25; };
    const auto b = [&](unsigned k, unsigned n) { return b_signed ? b_value(k, n) * 31 : (b_value(k, n) + 4) * 31; };
    const auto c = [&](unsigned r, unsigned n) { return saturates ? INT32_MAX - 1000 : c_value(r, n); };
    for (unsigned lane = 0; lane < 32; ++lane) {
        const unsigned group = lane >> 2, in_group = lane % 4;
        std::uint32_t* to = &in.words[lane * stride];
        for (unsigned i = 0; i < 4 * a_words; ++i) {
            const unsigned row = i < 4 || (i >= 8 && i < 12) ? group : group + 8,
                           col = in_group * 4 + (i & 3) + (i >= 8 ? 16 : 0);
            to[i / 4] |= std::uint32_t{static_cast<std::uint8_t>(a(row, col))} << i % 4 * 8;
        }
        for (unsigned i = 0; i < 4 * b_words; ++i)
            to[a_words + i / 4] |=
                std::uint32_t{static_cast<std::uint8_t>(b(in_group * 4 + (i & 3) + (i >= 4 ? 16 : 0), group))}
                << i % 4 * 8;
        for (unsigned i = 0; i < 4; ++i)
            to[a_words + b_words + i] = static_cast<std::uint32_t>(c(group + (i >= 2 ? 8 : 0), in_group * 2 + (i & 1)));
    }
    std::string body = "mul.wide.u32 %rd10, %r0, " + std::to_string(4 * stride) + ";\nadd.u64 %rd11, %rd0, %rd10;\n";
    for (unsigned k = 0; k < stride; ++k)
        body += "ld.global.b32 %r" + std::to_string(10 + k) + ", [%rd11+" + std::to_string(4 * k) + "];\n";
    body += "mma.sync.aligned.m16n8k" + std::to_string(depth) + ".row.col" + (saturates ? ".satfinite" : "") + ".s32." +
            (a_signed ? "s8." : "u8.") + (b_signed ? "s8" : "u8") + ".s32 " + names(40, 4) + ", " + names(10, a_words) +
            ", " + names(10 + a_words, b_words) + ", " + names(10 + a_words + b_words, 4) + ";\n";
    body +=
        "mul.wide.u32 %rd12, %r0, 16;\nadd.u64 %rd13, %rd1, %rd12;\nst.global.v4.b32 [%rd13], " + names(40, 4) + ";\n";
    const Ran ran = run_kernel(module_text(body, 2), {&in, &out});
    BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned i = 0; i < 4; ++i) {
            const unsigned row = (lane >> 2) + (i >= 2 ? 8 : 0), col = lane % 4 * 2 + (i & 1);
            std::int64_t sum = c(row, col);
            for (unsigned k = 0; k < depth; ++k) sum += a(row, k) * b(k, col);
            if (saturates) sum = std::min<std::int64_t>(sum, INT32_MAX);
            BOOST_CHECK_EQUAL(static_cast<std::int32_t>(out.words[4 * lane + i]), sum);
        }
}

struct Form {
    unsigned m, n;
    bool is_bf16, a_by_column, b_by_column, d_by_column, f32;
};

/// Multiplies with wmma. A and B lie in shared memory with gaps between their rows or columns, C and D in global memory
/// without gaps.
Ran run_wmma(const Form& form, Buffer& out, const std::string& before_load = "bar.sync 0;\n") {
    const unsigned inner_a = form.a_by_column ? form.m : 16, outer_a = form.a_by_column ? 16 : form.m,
                   inner_b = form.b_by_column ? 16 : form.n, outer_b = form.b_by_column ? form.n : 16,
                   stride_a = inner_a + 8, stride_b = inner_b + 24, words_a = outer_a * stride_a / 2,
                   words_b = outer_b * stride_b / 2;
    Buffer in{std::vector<std::uint32_t>(words_a + words_b + form.m * form.n)};
    const auto put = [&](std::size_t first, std::size_t at, std::uint32_t bits) {
        in.words[first + at / 2] |= bits << at % 2 * 16;
    };
    for (unsigned r = 0; r < form.m; ++r)
        for (unsigned k = 0; k < 16; ++k)
            put(0, form.a_by_column ? k * stride_a + r : r * stride_a + k, half(form.is_bf16, a_value(r, k)));
    for (unsigned k = 0; k < 16; ++k)
        for (unsigned n = 0; n < form.n; ++n)
            put(words_a, form.b_by_column ? n * stride_b + k : k * stride_b + n, half(form.is_bf16, b_value(k, n)));
    for (unsigned r = 0; r < form.m; ++r)
        for (unsigned n = 0; n < form.n; ++n) {
            const unsigned at = form.d_by_column ? n * form.m + r : r * form.n + n;
            if (form.f32)
                in.words[words_a + words_b + at] = std::bit_cast<std::uint32_t>(static_cast<float>(c_value(r, n)));
            else put(words_a + words_b, at, half(false, c_value(r, n)));
        }
    out = {std::vector<std::uint32_t>(form.m * form.n / (form.f32 ? 1 : 2)), false};
    const std::string shape = ".m" + std::to_string(form.m) + "n" + std::to_string(form.n) + "k16",
                      type = form.is_bf16 ? "bf16" : "f16", sum = form.f32 ? "f32" : "f16";
    const std::string a = form.a_by_column ? ".col" : ".row", b = form.b_by_column ? ".col" : ".row",
                      d = form.d_by_column ? ".col" : ".row";
    const unsigned regs_a = form.is_bf16 ? form.m / 4 : 8, regs_b = form.is_bf16 ? form.n / 4 : 8,
                   regs_c = form.f32 ? 8 : 4;
    std::string body =
        "mov.u32 %r1, tile;\nmov.u32 %r2, %r0;\nL:\nmul.wide.u32 %rd10, %r2, 4;\nadd.u64 %rd11, %rd0, %rd10;\n"
        "ld.global.b32 %r3, [%rd11];\nmad.lo.u32 %r4, %r2, 4, %r1;\nst.shared.b32 [%r4], %r3;\n"
        "add.u32 %r2, %r2, 32;\nsetp.lt.u32 %p1, %r2, " +
        std::to_string(words_a + words_b) + ";\n@%p1 bra L;\n" + before_load;
    body += "wmma.load.a.sync.aligned" + a + shape + ".shared." + type + " " + names(10, regs_a) + ", [%r1], " +
            std::to_string(stride_a) + ";\n";
    body += "cvt.u64.u32 %rd20, %r1;\ncvta.shared.u64 %rd21, %rd20;\nmov.u32 %r5, " + std::to_string(stride_b) + ";\n";
    body += "wmma.load.b.sync.aligned" + b + shape + "." + type + " " + names(20, regs_b) + ", [%rd21+" +
            std::to_string(4 * words_a) + "], %r5;\n";
    body += "wmma.load.c.sync.aligned" + d + shape + ".global." + sum + " " + names(30, regs_c) + ", [%rd0+" +
            std::to_string(4 * (words_a + words_b)) + "];\n";
    body += "wmma.mma.sync.aligned" + a + b + shape +
            (form.is_bf16 ? ".f32.bf16.bf16.f32 " : "." + sum + "." + sum + " ") + names(40, regs_c) + ", " +
            names(10, regs_a) + ", " + names(20, regs_b) + ", " + names(30, regs_c) + ";\n";
    body += "wmma.store.d.sync.aligned" + d + shape + ".global." + sum + " [%rd1], " + names(40, regs_c) + ", " +
            std::to_string(form.d_by_column ? form.m : form.n) + ";\n";
    return run_kernel(module_text(body, 2, ".shared .align 32 .b8 tile[8192];"), {&in, &out});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_wmma)

BOOST_AUTO_TEST_CASE(products_of_bytes) {
    for (const unsigned depth : {16u, 32u})
        for (const unsigned kind : {0u, 1u, 2u, 3u, 7u}) check_bytes(depth, kind & 1, kind & 2, kind & 4);
}

BOOST_AUTO_TEST_CASE(loaded_multiplied_and_stored) {
    for (const auto& [m, n] : {std::pair{16u, 16u}, {8u, 32u}, {32u, 8u}})
        for (unsigned kind = 0; kind < 32; ++kind) {
            const Form form{m, n, (kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0, (kind & 8) != 0, (kind & 16) != 0};
            if (form.is_bf16 && !form.f32) continue;
            Buffer out;
            const Ran ran = run_wmma(form, out);
            BOOST_REQUIRE_MESSAGE(ran.fault.empty(), ran.fault);
            for (unsigned r = 0; r < m; ++r)
                for (unsigned c = 0; c < n; ++c) {
                    int expected = c_value(r, c);
                    for (unsigned k = 0; k < 16; ++k) expected += a_value(r, k) * b_value(k, c);
                    const unsigned at = form.d_by_column ? c * m + r : r * n + c;
                    if (form.f32)
                        BOOST_REQUIRE_EQUAL(std::bit_cast<float>(out.words[at]), static_cast<float>(expected));
                    else BOOST_REQUIRE_EQUAL(out.words[at / 2] >> at % 2 * 16 & 0xffff, half(false, expected));
                }
        }
}

BOOST_AUTO_TEST_CASE(accesses_are_checked) {
    Buffer out;
    const Form form{16, 16, false, false, false, false, true};
    BOOST_CHECK(run_wmma(form, out, "").fault.find("race in shared memory") != std::string::npos);
    BOOST_CHECK(run_wmma(form, out, "bar.sync 0;\nadd.u32 %r1, %r1, 8000;\n").fault.find("shared memory") !=
                std::string::npos);
    BOOST_CHECK(run_wmma(form, out, "bar.sync 0;\nadd.u32 %r1, %r1, %r0;\n").fault.find("differ") != std::string::npos);
    BOOST_CHECK(run_wmma(form, out, "bar.sync 0;\nadd.u64 %rd1, %rd1, 16;\n").fault.find("out of bounds") !=
                std::string::npos);
    BOOST_CHECK(run_wmma(form, out, "setp.lt.u32 %p1, %r0, 31;\n@%p1 bra M;\nret;\nM:\n").fault.find("divergence") !=
                std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
