// The warning about a token file that was made with another tokenizer than the model's.
#include "jobs/command_line/tokenizer_note.h"

#include "io/checksum.h"
#include "tests/unit/io/io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

namespace {

TokenFile file_by(const Scratch& folder, const std::string& name, const std::string& hash) {
    TokenFileInfo info;
    info.tokenizer_kind = hash.empty() ? "none" : "sentencepiece";
    info.tokenizer_hash = hash;
    info.vocabulary = 10;
    write_token_file(folder / name, info, {{1, 2, 3}});
    return TokenFile(folder / name);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tokenizer_notes)

BOOST_AUTO_TEST_CASE(same_other_and_unknown) {
    const Scratch folder;
    const TokenFile same = file_by(folder, "same.h5", sha256_of("a tokenizer")),
                    other = file_by(folder, "other.h5", sha256_of("another")), ready = file_by(folder, "ready.h5", "");
    BOOST_TEST(tokenizer_note(folder.folder, other) == "");  // the model has no tokenizer to compare with
    spill(folder / "tokenizer.json", "something else");
    spill(folder / "tokenizer.model", "a tokenizer");
    BOOST_TEST(tokenizer_note(folder.folder, same) == "");
    BOOST_TEST(tokenizer_note(folder.folder, ready) == "");
    const std::string note = tokenizer_note(folder.folder, other);
    BOOST_TEST(note.find("warning: ") == 0u);
    BOOST_TEST(note.find("other.h5") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
