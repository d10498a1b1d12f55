// Helpers of the tests of the PTX interpreter: they build a kernel around one instruction or around a given body, run
// it with buffers as parameters, and compare results. This file has no tests.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "sim/ptx/launch.h"

namespace sim::unit {

using Values = std::vector<std::uint64_t>;

/// A module with one entry "k" with this body. The entry has parameters .param .u64 p0, p1 ... and 64 registers of each
/// of %r, %rd, %f, %fd, %rs, %p. %rd0, %rd1 ... hold the parameters, %r0 holds %tid.x. `before`: declarations outside
/// of the entry; `inside`: declarations at the head of its body.
std::string module_text(const std::string& body, unsigned num_parameters, const std::string& inside = {},
                        const std::string& before = {});

/// A buffer of device memory.
struct Buffer {
    std::vector<std::uint32_t> words;
    bool written = true;  ///< false: the words count as never written
};

struct Ran {
    ptx::Counts counts;
    std::string fault;  ///< the message of the fault; empty if there was none
};

/// Runs entry "k" with the addresses of the buffers as parameters. The kernel's results are in the buffers afterwards.
Ran run_kernel(const std::string& text, std::vector<Buffer*> buffers, ptx::Extent grid = {},
               ptx::Extent block = {32, 1, 1}, std::size_t dynamic_shared = 0, bool reversed = false);

/// Runs an instruction "op %d, %s0, %s1 ..." for each set of operands and returns the results, zero-extended to 64
/// bits. `text` names the registers %d, %s0, %s1, %s2, %s3. Widths are in bits; 1 is a predicate (0 or 1).
/// `operands[n]` are the values of source n.
Values run_instruction(const std::string& text, unsigned result_bits, const std::vector<unsigned>& source_bits,
                       const std::vector<Values>& operands);

/// Combinations of edge values of these widths (all of them, or a part if they are more than 4096), then random values.
std::vector<Values> operands_of(const std::vector<unsigned>& bits, std::size_t random = 256);
/// The same with edge values of floating-point types (halves: of bf16 and f16).
std::vector<Values> floats_of(unsigned sources, std::size_t random = 256);
std::vector<Values> doubles_of(unsigned sources, std::size_t random = 256);
std::vector<Values> halves_of(unsigned sources, std::size_t random = 256);

inline float as_float(std::uint64_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits)); }
inline double as_double(std::uint64_t bits) { return std::bit_cast<double>(bits); }
inline std::uint64_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
inline std::uint64_t bits_of(double x) { return std::bit_cast<std::uint64_t>(x); }

/// a + b in long double, where an addend that is lost below the 64 bits of the sum still decides ties. The sum is
/// correct after a further rounding to at most 60 bits.
inline long double decided_sum(long double a, long double b) {
    const long double sum = a + b, other = sum == a ? b : a;
    if ((sum != a && sum != b) || other == 0 || std::isinf(sum)) return sum;
    return sum * ((other > 0) == (sum > 0) ? 1 + 0x1p-60L : 1 - 0x1p-60L);
}

/// Checks every result against formula(s0, s1, s2, s3), bit by bit; the arguments before it are those of
/// run_instruction.
template <class Formula>
void check_instruction(const std::string& instruction, unsigned result_bits, const std::vector<unsigned>& source_bits,
                       const std::vector<Values>& operands, Formula formula);

/// The text "{%r10, %r11 ...}" with `number` registers, the first of which is %r`first`.
std::string names(unsigned first, std::size_t number);

/// Entries of matrices for products: small integers, so that the products are exact in every type and order of sums.
inline int a_value(unsigned r, unsigned k) { return static_cast<int>((r * 7 + k * 3) % 11) - 5; }
inline int b_value(unsigned k, unsigned n) { return static_cast<int>((k * 5 + n * 13) % 9) - 4; }
inline int c_value(unsigned r, unsigned n) { return static_cast<int>(r * 8 + n) - 100; }
/// Bits of a small integer in bf16 or f16.
std::uint32_t half(bool is_bf16, int x);

std::string hexadecimal(std::uint64_t value);
void require_equal(const std::string& instruction, const Values& operands, std::uint64_t got, std::uint64_t expected);

template <class Formula>
void check_instruction(const std::string& instruction, unsigned result_bits, const std::vector<unsigned>& source_bits,
                       const std::vector<Values>& operands, Formula formula) {
    const Values got = run_instruction(instruction, result_bits, source_bits, operands);
    for (std::size_t k = 0; k < got.size(); ++k) {
        Values s(4, 0);
        for (std::size_t n = 0; n < operands.size(); ++n) s[n] = operands[n][k];
        const std::uint64_t mask = result_bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << result_bits) - 1;
        require_equal(instruction, s, got[k], static_cast<std::uint64_t>(formula(s[0], s[1], s[2], s[3])) & mask);
    }
}

}  // namespace sim::unit
