// Token files: contents, identity by content, reading by threads, and every way in which a file can be wrong.
#include <numeric>
#include <thread>

#include "core/random.h"
#include "io/token_file.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(token_file)

static std::vector<std::vector<std::int32_t>> documents_of(std::vector<std::int64_t> lengths, std::int64_t vocabulary) {
    std::vector<std::vector<std::int32_t>> documents;
    std::uint64_t i = 0;
    for (std::int64_t n : lengths) {
        documents.emplace_back();
        for (std::int64_t k = 0; k < n; ++k)
            documents.back().push_back(
                static_cast<std::int32_t>(random_below(static_cast<std::uint64_t>(vocabulary), 1, 1, i++)));
    }
    return documents;
}

static std::vector<std::int32_t> joined(const std::vector<std::vector<std::int32_t>>& documents) {
    std::vector<std::int32_t> all;
    for (const auto& d : documents) all.insert(all.end(), d.begin(), d.end());
    return all;
}

static TokenFileInfo info_of(std::int64_t vocabulary) {
    return {"sentencepiece", "abc", vocabulary, 1, 2, "[{\"name\": \"x\"}]"};
}

BOOST_AUTO_TEST_CASE(tokens_and_documents_come_back_for_both_widths) {
    Scratch scratch;
    for (std::int64_t vocabulary : {3, 65536, 65537, 128256}) {
        const auto documents = documents_of({5, 0, 700'000, 1}, vocabulary);
        write_token_file(scratch / "t.h5", info_of(vocabulary), documents, {"first", "", "third \xc3\xa9"});
        const TokenFile file(scratch / "t.h5");
        BOOST_TEST((file.token_dtype() == (vocabulary <= 65536 ? DType::uint16 : DType::uint32)));
        BOOST_TEST(file.num_tokens() == 700'006);
        BOOST_TEST(file.document_begin() == (std::vector<std::uint64_t>{0, 5, 5, 700'005, 700'006}));
        BOOST_TEST(file.document_name(0) == "first");
        BOOST_TEST(file.document_name(1) == "");
        BOOST_TEST(file.document_name(2) == "third \xc3\xa9");
        BOOST_TEST(file.document_name(3) == "document 3");
        BOOST_TEST(file.document_of(4) == 0);
        BOOST_TEST(file.document_of(5) == 2);
        BOOST_TEST(file.document_of(700'005) == 3);
        BOOST_TEST(file.bos() == 1);
        BOOST_TEST(file.eos() == 2);
        BOOST_TEST(file.vocabulary() == vocabulary);
        BOOST_TEST(file.info().sources == "[{\"name\":\"x\"}]");
        const auto all = joined(documents);
        for (auto [begin, n] :
             {std::pair<std::int64_t, std::int64_t>{0, 700'006}, {524'280, 20}, {700'006, 0}, {700'005, 1}}) {
            std::vector<std::int32_t> out(static_cast<std::size_t>(n));
            file.read(begin, n, out.data());
            BOOST_TEST((std::equal(out.begin(), out.end(), all.begin() + begin)));
        }
        file.verify_all();
        std::int32_t one[2];
        REFUSED("cannot read tokens 700005 to 700007 of 700006", file.read(700'005, 2, one));
        REFUSED("cannot read tokens -1 to 0 of 700006", file.read(-1, 1, one));
    }
}

BOOST_AUTO_TEST_CASE(a_file_without_documents_can_be_read) {
    Scratch scratch;
    write_token_file(scratch / "t.h5", {"none", "", 9, -1, -1, "[]"}, {});
    const TokenFile file(scratch / "t.h5");
    BOOST_TEST(file.num_tokens() == 0);
    BOOST_TEST(file.num_documents() == 0);
    file.verify_all();
}

BOOST_AUTO_TEST_CASE(the_content_hash_depends_on_the_content_alone) {
    Scratch scratch;
    auto documents = documents_of({50, 60}, 100);
    const auto hash = [&](const std::string& name, const TokenFileInfo& info,
                          const std::vector<std::string>& names = {}) {
        write_token_file(scratch / name, info, documents, names);
        return TokenFile(scratch / name).content_hash();
    };
    const std::string first = hash("a.h5", info_of(100));
    BOOST_TEST(first.size() == 64u);
    TokenFileInfo other = info_of(100);
    other.sources = "[]";
    BOOST_TEST(hash("b.h5", other, {"another", "name"}) == first);
    BOOST_TEST(hash("c.h5", info_of(101)) != first);
    documents[1][3] ^= 1;
    BOOST_TEST(hash("d.h5", info_of(100)) != first);
    documents[1][3] ^= 1;
    documents[1].insert(documents[1].begin(), documents[0].back());
    documents[0].pop_back();  // the same tokens with another border between the documents
    BOOST_TEST(hash("e.h5", info_of(100)) != first);
}

BOOST_AUTO_TEST_CASE(threads_read_the_same_file) {
    Scratch scratch;
    const auto documents = documents_of({3'000'000}, 32000);
    write_token_file(scratch / "t.h5", info_of(32000), documents);
    const TokenFile file(scratch / "t.h5");
    std::vector<std::thread> threads;
    std::vector<int> wrong(4, 0);
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            std::vector<std::int32_t> out(5000);
            for (std::uint64_t i = 0; i < 60; ++i) {
                const auto begin =
                    static_cast<std::int64_t>(random_below(2'995'000, 4, static_cast<std::uint64_t>(t), i));
                file.read(begin, 5000, out.data());
                wrong[static_cast<std::size_t>(t)] += !std::equal(out.begin(), out.end(), documents[0].begin() + begin);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    BOOST_TEST(wrong == std::vector<int>(4, 0), boost::test_tools::per_element());
}

/// Writes a token file from the tensors as they are, also such that write_token_file refuses.
static void write_raw(const std::string& path, const std::vector<std::uint16_t>& tokens,
                      const std::vector<std::uint64_t>& begin, const std::string& attributes,
                      const std::vector<std::uint64_t>& name_begin) {
    auto tensors = token_file_tensors(100, static_cast<std::int64_t>(tokens.size()),
                                      static_cast<std::int64_t>(begin.size()) - 1, 0);
    tensors[3].shape = {static_cast<std::int64_t>(name_begin.size())};
    const auto layout = create_named_tensor_file(path, kTokenFileFormat, kTokenFileVersion, tensors, attributes);
    const FileHandle file = FileHandle::open_write(path);
    std::vector<ChecksumPiece> pieces;
    write_slice(file, layout, kTokens, 0, tokens.data(), tensors[0].size_bytes(), pieces);
    write_slice(file, layout, kDocumentBegin, 0, begin.data(), tensors[1].size_bytes(), pieces);
    write_slice(file, layout, kDocumentNameBegin, 0, name_begin.data(), tensors[3].size_bytes(), pieces);
    write_checksums(file, layout, pieces);
}

BOOST_AUTO_TEST_CASE(a_file_that_contradicts_itself_is_refused_when_opened) {
    Scratch scratch;
    const std::string good = token_file_attributes(info_of(100)), path = scratch / "t.h5";
    const auto with = [&](std::vector<std::uint64_t> begin, const std::string& attributes,
                          std::vector<std::uint64_t> names = {0, 0, 0}) {
        write_raw(path, {1, 2, 3, 4}, begin, attributes, names);
        TokenFile file(path);
    };
    with({0, 1, 4}, good);
    for (const auto& begin :
         std::vector<std::vector<std::uint64_t>>{{0, 1, 5}, {0, 1, 3}, {1, 1, 4}, {0, 5, 4}, {0, ~0ull, 4}}) {
        REFUSED("t.h5: document_begin must rise from 0 to 4", with(begin, good));
    }
    REFUSED("2 documents but 1 names", with({0, 1, 4}, good, {0, 0}));
    REFUSED("document_name_begin must rise", with({0, 1, 4}, good, {0, 1, 1}));
    REFUSED("is not valid JSON", with({0, 1, 4}, "{"));
    REFUSED("has no \"tokenizer_kind\"", with({0, 1, 4}, "{}"));
    REFUSED("\"vocabulary\" is 0", with({0, 1, 4}, token_file_attributes(info_of(0))));
    REFUSED("\"bos\" is 1, beyond the vocabulary of 1", with({0, 1, 4}, token_file_attributes(info_of(1))));
    REFUSED("tokens should be a list of uint32", with({0, 1, 4}, token_file_attributes(info_of(70000))));
}

BOOST_AUTO_TEST_CASE(ids_beyond_the_vocabulary_name_file_and_position) {
    Scratch scratch;
    write_raw(scratch / "t.h5", {1, 99, 100, 4}, {0, 4}, token_file_attributes(info_of(100)), {0, 0});
    const TokenFile file(scratch / "t.h5");
    std::int32_t out[4];
    file.read(0, 2, out);
    REFUSED("t.h5: token 2 is 100, beyond its vocabulary of 100", file.read(1, 3, out));
    REFUSED("document 0 has the id 100", write_token_file(scratch / "u.h5", info_of(100), {{100}}));
    BOOST_TEST(!std::filesystem::exists(scratch / "u.h5"));
}

BOOST_AUTO_TEST_CASE(damaged_tokens_are_found_when_they_are_read) {
    Scratch scratch;
    write_token_file(scratch / "t.h5", info_of(32000), documents_of({2'000'000}, 32000));
    std::string bytes = slurp(scratch / "t.h5");
    const std::int64_t offset = NamedTensorReader(scratch / "t.h5", kTokenFileFormat, 1).entry("tokens").offset;
    bytes[static_cast<std::size_t>(offset) + 2 * 1'000'000] ^= 4;
    spill(scratch / "t.h5", bytes);
    const TokenFile file(scratch / "t.h5");
    std::vector<std::int32_t> out(100);
    file.read(0, 100, out.data());
    REFUSED("t.h5, tokens, is damaged", file.read(999'000, 100, out.data()));
    REFUSED("t.h5, tokens, is damaged", file.verify_all());
}

BOOST_AUTO_TEST_SUITE_END()
