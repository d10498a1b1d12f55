// What the tests of io and of adapters share: a scratch folder, the sentence of an Error, the bytes of files. No
// tests here.
#pragma once

#include <stdlib.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.h"

namespace longlora::io_testing {

/// A folder of its own for every test, removed at its end.
struct Scratch {
    std::string folder;
    Scratch() {
        std::string name = (std::filesystem::temp_directory_path() / "longlora-io-XXXXXX").string();
        BOOST_REQUIRE(mkdtemp(name.data()));
        folder = name;
    }
    ~Scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
    }
    std::string operator/(const std::string& name) const { return folder + "/" + name; }
};

inline std::string slurp(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void spill(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// The sentence of the Error that `work` throws; "" if it throws none. Any other exception passes through and fails
/// the test.
template <class Work> std::string sentence_of(Work work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace longlora::io_testing

/// Checks that the statement throws an Error whose sentence contains `part`.
#define REFUSED(part, ...)                                                                                    \
    do {                                                                                                      \
        const std::string said = ::longlora::io_testing::sentence_of([&] { __VA_ARGS__; });                   \
        BOOST_TEST(::longlora::io_testing::has(said, part), "said '" << said << "', not '" << (part) << "'"); \
    } while (false)
