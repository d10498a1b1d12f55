// Tests of find_ptx (sim/runtime/modules.h): which PTX text of a fat binary it takes, and the error when there is none.
#include <cstring>

#include "runtime_testing.h"
#include "sim/runtime/modules.h"

namespace {

struct Entry {
    std::uint16_t kind;     ///< 1: PTX, 2: machine code
    std::uint32_t version;  ///< 80: compute capability 8.0
    std::string content;
};

/// Builds a fat binary as in the objects of nvcc: a header, then entries, each with its own header.
std::string fat_binary(const std::vector<Entry>& entries) {
    const auto put = [](std::string& to, std::size_t offset, auto value) {
        std::memcpy(to.data() + offset, &value, sizeof value);
    };
    std::string body;
    for (const Entry& entry : entries) {
        std::string header(64, '\0');
        put(header, 0, entry.kind);
        put(header, 4, std::uint32_t{64});
        put(header, 8, std::uint64_t{entry.content.size()});
        put(header, 28, entry.version);
        body += header + entry.content;
    }
    std::string header(16, '\0');
    put(header, 0, std::uint32_t{0xBA55ED50});
    put(header, 6, std::uint16_t{16});
    put(header, 8, std::uint64_t{body.size()});
    return header + body;
}

std::pair<std::string, std::string> text_and_problem(const std::vector<Entry>& entries, int major = 8, int minor = 0) {
    std::string problem;
    const std::string binary = fat_binary(entries);
    const std::string text(sim::runtime::find_ptx(binary.data(), major, minor, problem));
    return {text, problem};
}

const Entry kMachineCode{2, 80,
                         "\x7f"
                         "ELF"},
    kText80{1, 80, std::string(".version 8.0\n.target sm_80\n\0\0\0", 31)},
    kText90{1, 90, ".version 8.0\n.target sm_90\n"};
const Entry kCompressed{1, 80, "\x01\x02\x03"};

}  // namespace

BOOST_AUTO_TEST_SUITE(runtime_modules)

BOOST_AUTO_TEST_CASE(the_newest_text_that_runs_is_taken) {
    BOOST_TEST(text_and_problem({kMachineCode, kText80}).first == ".version 8.0\n.target sm_80\n");
    BOOST_TEST(text_and_problem({kText90, kText80}).first == ".version 8.0\n.target sm_80\n");
    BOOST_TEST(text_and_problem({kText80, kText90}, 9, 0).first == kText90.content);
    BOOST_TEST(text_and_problem({kCompressed, kText80}).second == "");
}

BOOST_AUTO_TEST_CASE(errors_without_a_text) {
    BOOST_TEST(text_and_problem({kMachineCode}).second.find("holds no PTX text") != std::string::npos);
    BOOST_TEST(text_and_problem({kCompressed}).second.find("--compress-mode=none") != std::string::npos);
    BOOST_TEST(text_and_problem({kText80}, 7, 5).second.find("newer GPU") != std::string::npos);
    std::string problem;
    sim::runtime::find_ptx("nothing of that kind", 8, 0, problem);
    BOOST_TEST(problem.find("unknown format") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
