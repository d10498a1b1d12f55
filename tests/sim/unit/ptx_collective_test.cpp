// Tests of the instructions that the lanes of a warp execute together: shuffles, votes, matches, reductions; and of the
// faults when some lanes do not take part.
#include <boost/test/unit_test.hpp>

#include "sim/unit/ptx_support.h"

namespace sim::unit {

namespace {

constexpr std::uint64_t kSpread = 0x9e3779b9;
std::uint64_t value_of(unsigned lane) { return lane * kSpread & 0xffffffffu; }

/// Runs `text` in 64 threads with %s0 = value_of(lane) and %s1 = lane. Returns the result of each thread.
Values lanes_of(const std::string& text, unsigned result_bits = 32) {
    std::vector<Values> operands(2);
    for (unsigned l = 0; l < 64; ++l) operands[0].push_back(value_of(l % 32)), operands[1].push_back(l % 32);
    return run_instruction(text, result_bits, {32, 32}, operands);
}

std::string fault_of(const std::string& body) {
    Buffer out{std::vector<std::uint32_t>(64), true};
    return run_kernel(module_text(body, 1), {&out}).fault;
}

void require_fault(const std::string& fault, std::initializer_list<const char*> parts) {
    BOOST_CHECK(!fault.empty());
    for (const char* part : parts)
        BOOST_CHECK_MESSAGE(fault.find(part) != std::string::npos, "'" << fault << "' does not say '" << part << "'");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ptx_collective)

BOOST_AUTO_TEST_CASE(shuffles) {
    // As __shfl_*_sync does it: operand c holds the segment mask and the clamp.
    for (const unsigned width : {32u, 16u, 8u, 2u}) {
        const unsigned segment = (32 - width) << 8, first_mask = ~(width - 1);
        for (const unsigned delta : {0u, 1u, 3u, 16u, 31u}) {
            const auto check = [&](const std::string& mode, unsigned clamp, auto source) {
                const std::string c = std::to_string(segment | clamp), b = std::to_string(delta);
                const Values got = lanes_of("shfl.sync." + mode + ".b32 %d, %s0, " + b + ", " + c + ", -1");
                const Values inside =
                    lanes_of("{ .reg .b32 %x; shfl.sync." + mode + ".b32 %x|%d, %s0, " + b + ", " + c + ", -1; }", 1);
                for (unsigned l = 0; l < 32; ++l) {
                    const int from = source(static_cast<int>(l));
                    BOOST_CHECK_EQUAL(got[l], value_of(from < 0 ? l : static_cast<unsigned>(from)));
                    BOOST_CHECK_EQUAL(inside[l], from >= 0);
                }
            };
            const auto begin = [&](int l) { return static_cast<int>(static_cast<unsigned>(l) & first_mask); };
            const int w = static_cast<int>(width), d = static_cast<int>(delta);
            check("up", 0, [&](int l) { return l - d >= begin(l) ? l - d : -1; });
            check("down", 31, [&](int l) { return l + d < begin(l) + w ? l + d : -1; });
            check("bfly", 31, [&](int l) { return (l ^ d) < begin(l) + w ? l ^ d : -1; });
            check("idx", 31, [&](int l) { return begin(l) + d % w; });
        }
    }
}

BOOST_AUTO_TEST_CASE(votes) {
    const auto vote = [](const std::string& what, const std::string& relation, unsigned bits) {
        return lanes_of("{ .reg .pred %q; setp." + relation + " %q, %s1, 7; vote.sync." + what + " %d, %q, -1; }",
                        bits)[3];
    };
    BOOST_CHECK_EQUAL(vote("ballot.b32", "lt.u32", 32), 0x7f);
    BOOST_CHECK_EQUAL(vote("any.pred", "eq.u32", 1), 1);
    BOOST_CHECK_EQUAL(vote("any.pred", "gt.s32", 1), 1);
    BOOST_CHECK_EQUAL(vote("all.pred", "lt.u32", 1), 0);
    BOOST_CHECK_EQUAL(lanes_of("{ .reg .pred %q; setp.lt.u32 %q, %s1, 77; vote.sync.all.pred %d, %q, -1; }", 1)[0], 1);
    BOOST_CHECK_EQUAL(lanes_of("{ .reg .pred %q; setp.lt.u32 %q, %s1, 77; vote.sync.any.pred %d, !%q, -1; }", 1)[0], 0);
    BOOST_CHECK_EQUAL(lanes_of("{ .reg .pred %q; setp.lt.u32 %q, %s1, 7; vote.sync.uni.pred %d, %q, -1; }", 1)[0], 0);
    BOOST_CHECK_EQUAL(lanes_of("{ .reg .pred %q; setp.gt.u32 %q, %s1, 77; vote.sync.uni.pred %d, %q, -1; }", 1)[0], 1);
    const Values active = lanes_of("activemask.b32 %d");
    BOOST_CHECK_EQUAL(active[5], 0xffffffffu);
}

BOOST_AUTO_TEST_CASE(halves_of_a_warp_vote_apart) {
    const Values got = lanes_of(
        "{ .reg .pred %q; .reg .b32 %m; and.b32 %m, %s1, 16; shl.b32 %m, 65535, %m; setp.lt.u32 %q, %s1, 18; "
        "vote.sync.ballot.b32 %d, %q, %m; }");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(got[l], l < 16 ? 0xffffu : 0x30000u);
}

BOOST_AUTO_TEST_CASE(matches_and_reductions) {
    const Values any = lanes_of("{ .reg .b32 %x; and.b32 %x, %s1, 3; match.any.sync.b32 %d, %x, -1; }");
    for (unsigned l = 0; l < 32; ++l) BOOST_CHECK_EQUAL(any[l], 0x11111111u << l % 4);
    BOOST_CHECK_EQUAL(lanes_of("match.all.sync.b32 %d, %s0, -1")[4], 0);
    BOOST_CHECK_EQUAL(lanes_of("{ .reg .b32 %x; .reg .pred %q; mov.b32 %x, 9; match.all.sync.b32 %d|%q, %x, -1; }")[4],
                      0xffffffffu);
    const auto reduced = [&](auto f) {
        std::uint32_t result = static_cast<std::uint32_t>(value_of(0));
        for (unsigned l = 1; l < 32; ++l) result = f(result, static_cast<std::uint32_t>(value_of(l)));
        return result;
    };
    const auto check = [&](const std::string& op, std::uint32_t expected) {
        BOOST_CHECK_EQUAL(lanes_of("redux.sync." + op + " %d, %s0, -1")[17], expected);
    };
    check("add.s32", reduced([](std::uint32_t a, std::uint32_t b) { return a + b; }));
    check("min.u32", reduced([](std::uint32_t a, std::uint32_t b) { return std::min(a, b); }));
    check("max.s32", reduced([](std::uint32_t a, std::uint32_t b) {
              return static_cast<std::int32_t>(a) > static_cast<std::int32_t>(b) ? a : b;
          }));
    check("xor.b32", reduced([](std::uint32_t a, std::uint32_t b) { return a ^ b; }));
    check("or.b32", reduced([](std::uint32_t a, std::uint32_t b) { return a | b; }));
    check("and.b32", reduced([](std::uint32_t a, std::uint32_t b) { return a & b; }));
}

BOOST_AUTO_TEST_CASE(missing_lanes_are_faults) {
    const std::string half = "setp.lt.u32 %p1, %r0, 16;\n@!%p1 bra DONE;\n";
    require_fault(fault_of(half + "shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;\nDONE: ret;"),
                  {"shfl.sync.bfly", "0x0000ffff", "PTX line", "have left", "divergence"});
    BOOST_CHECK_EQUAL(fault_of(half + "shfl.sync.bfly.b32 %r1, %r0, 1, 31, 65535;\nDONE: ret;"), "");
    require_fault(fault_of(half + "bar.warp.sync -1;\nDONE: ret;"), {"bar.warp.sync", "have left"});
    require_fault(fault_of(half + "shfl.sync.bfly.b32 %r1, %r0, 16, 31, 65535;\nDONE: ret;"),
                  {"shuffles from lane 16, which does not take part"});
    // Both halves execute the same shuffle, each with its own mask.
    const std::string halves = "setp.lt.u32 %p1, %r0, 16;\nselp.b32 %r3, 65535, 4294901760, %p1;\n";
    require_fault(fault_of(halves + "shfl.sync.bfly.b32 %r1, %r0, 16, 31, %r3;"),
                  {"shuffles from lane 16, which does not take part: it is not in the member mask 0x0000ffff"});
    BOOST_CHECK_EQUAL(fault_of(halves + "shfl.sync.bfly.b32 %r1, %r0, 8, 31, %r3;"), "");
    require_fault(fault_of(half + "vote.sync.ballot.b32 %r1, 1, 1;\nDONE: ret;"), {"does not name the lane itself"});
    // Lanes that take different branches meet at the shuffle.
    BOOST_CHECK_EQUAL(fault_of("setp.lt.u32 %p1, %r0, 16;\nmov.u32 %r2, 1;\n@%p1 bra SLOW;\n"
                               "BACK: shfl.sync.bfly.b32 %r1, %r2, 16, 31, -1;\nret;\nSLOW: mov.u32 %r2, 2;\n"
                               "bra BACK;"),
                      "");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace sim::unit
