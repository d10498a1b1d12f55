// `longlora prepare` on as many ranks as mpirun started: the bytes that one rank writes, the contents that a plain loop
// gives, restarts after a failure, and errors that all ranks report alike and that leave no files. Checks do not throw:
// a rank that left early would hang the others.
#include <zlib.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/random.h"
#include "io/checksum.h"
#include "io/json.h"
#include "io/token_file.h"
#include "io/tokenizer.h"
#include "jobs/prepare/units.h"
#include "prepare_testing.h"

using namespace longlora;
using namespace longlora::prepare_testing;
using parallel::HostGroup;

namespace {

const std::string kTokenizer = SOURCE_FOLDER "/tests/golden/tokenizers/sentencepiece";

std::string slurp(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::string words(std::uint64_t seed, std::size_t bytes) {
    std::string out;
    for (std::uint64_t i = 0; out.size() < bytes; ++i)
        out += text("word", random_below(1000, seed, 1, i), i % 11 ? " " : "\n");
    return out;
}

struct Expected {
    std::vector<std::vector<std::int32_t>> documents;
    std::vector<std::string> names;
};

/// Writes inputs of every kind, about 2 MB, and returns the documents and names that the output must have.
Expected make_inputs(const Shared& shared) {
    const auto tokenizer = open_tokenizer(kTokenizer);
    Expected expected;
    const auto is_text = [&](const std::string& name, const std::string& content) {
        std::vector<std::int32_t> ids = tokenizer->encode(content);
        ids.insert(ids.begin(), tokenizer->bos());
        ids.push_back(tokenizer->eos());
        expected.documents.push_back(ids);
        expected.names.push_back(name);
    };
    const auto is_ready = [&](const std::string& name, const std::vector<std::int32_t>& ids) {
        expected.documents.push_back(ids), expected.names.push_back(name);
    };
    shared.spill("in/empty.txt", "");
    std::string lines;
    for (int i = 0; i < 3000; ++i) {
        const std::string content = words(static_cast<std::uint64_t>(i), static_cast<std::size_t>(i % 900));
        if (i % 5 == 0) {
            lines += text("{\"tokens\": [", i % 600, ", 5, 599]}\n");
            is_ready(text("lines.jsonl:", i + 1), {i % 600, 5, 599});
        } else {
            lines += to_line({{"text", content}, {"id", i}}) + "\n";
            if (!content.empty()) is_text(std::to_string(i), content);
        }
    }
    shared.spill("in/lines.jsonl", lines);
    std::string bin;
    std::vector<std::int32_t> ids;
    for (std::uint64_t i = 0; i < 700'000; ++i) {
        ids.push_back(static_cast<std::int32_t>(random_below(600, 3, 3, i)));
        bin += static_cast<char>(ids.back()), bin += static_cast<char>(ids.back() >> 8);
    }
    shared.spill("in/many.bin", bin);
    is_ready("many.bin", ids);
    for (int i = 0; i < 5; ++i) {
        const std::string content = words(static_cast<std::uint64_t>(100 + i), 60'000);
        shared.spill(text("in/sub/t", i, ".txt"), content + (i == 2 ? "\xff" : ""));
        is_text(text("sub/t", i, ".txt"), content + (i == 2 ? "\xef\xbf\xbd" : ""));
    }
    if (shared.lead()) {
        gzFile file = gzopen((shared / "more.jsonl.gz").c_str(), "wb");
        gzputs(file, "{\"text\": \"packed\", \"title\": \"t\"}\n");
        gzclose(file);
    }
    is_text("t", "packed");
    shared.group.barrier();
    return expected;
}

PrepareOptions options_of(const Shared& shared, const std::string& output) {
    PrepareOptions options;
    options.output = shared / output;
    options.inputs = {shared / "in", shared / "more.jsonl.gz"};
    options.tokenizer = kTokenizer;
    return options;
}

std::size_t files_in(const std::string& folder) {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(prepare)

BOOST_AUTO_TEST_CASE(any_number_of_ranks_writes_the_file_that_one_rank_writes) {
    Shared shared;
    const Expected expected = make_inputs(shared);
    BOOST_TEST(run_prepare(options_of(shared, "all.h5"), shared.group) == 0);
    HostGroup alone(MPI_COMM_SELF);
    if (shared.lead()) run_prepare(options_of(shared, "one.h5"), alone);
    shared.group.barrier();
    BOOST_TEST((slurp(shared / "all.h5") == slurp(shared / "one.h5")));
    BOOST_TEST(!std::filesystem::exists(shared / "all.h5.parts"));
    BOOST_TEST(!std::filesystem::exists(shared / "all.h5.partial"));
    const TokenFile file(shared / "all.h5");
    file.verify_all();
    BOOST_TEST(file.num_documents() == static_cast<std::int64_t>(expected.documents.size()));
    std::int64_t wrong = 0;
    for (std::size_t d = 0; d < expected.documents.size() && d < static_cast<std::size_t>(file.num_documents()); ++d) {
        const std::uint64_t begin = file.document_begin()[d], end = file.document_begin()[d + 1];
        std::vector<std::int32_t> ids(end - begin);
        file.read(static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end - begin), ids.data());
        wrong += ids != expected.documents[d] || file.document_name(static_cast<std::int64_t>(d)) != expected.names[d];
    }
    BOOST_TEST(wrong == 0);
    BOOST_TEST(file.tokenizer_kind() == "sentencepiece");
    BOOST_TEST(file.tokenizer_hash() == sha256_of_file(kTokenizer + "/tokenizer.model"));
    BOOST_TEST(file.vocabulary() == 600);
    BOOST_TEST(file.bos() == 1);
    const Json sources = parse_json(file.info().sources, "sources");
    BOOST_TEST(sources.size() == 9u);
    BOOST_TEST(sources[1]["name"] == "lines.jsonl");
    BOOST_TEST(sources[1]["sha256"] == sha256_of_file(shared / "in/lines.jsonl"));
}

BOOST_AUTO_TEST_CASE(finished_units_are_not_made_again) {
    Shared shared;
    make_inputs(shared);
    const std::string good = [&] {
        run_prepare(options_of(shared, "good.h5"), shared.group);
        return slurp(shared / "good.h5");
    }();
    // As after a kill: the spool folder exists when prepare starts, and stays when prepare fails.
    PrepareOptions options = options_of(shared, "out.h5");
    options.inputs = {shared / "in", shared / "bad.jsonl"};
    shared.spill("bad.jsonl", std::string(300'000, ' ') + "\n{\"text\": 5}\n");
    shared.spill("out.h5.parts/unit-000099.tokens.partial", "rest of something");
    const std::string said = sentence_of(options, shared.group);
    BOOST_TEST(said.find("bad.jsonl, line 2: \"text\" is not a string") != std::string::npos, said);
    BOOST_TEST(!std::filesystem::exists(options.output));
    BOOST_TEST(!std::filesystem::exists(options.output + ".partial"));
    BOOST_TEST(std::filesystem::exists(unit_result_path(options.output + ".parts", 0)));
    // Changes a finished unit together with its checksum. If the output has the change, the unit was not made again.
    options = options_of(shared, "out.h5");
    if (shared.lead()) {
        const std::string tokens_path = unit_tokens_path(options.output + ".parts", 0),
                          result_path = unit_result_path(options.output + ".parts", 0);
        std::string tokens = slurp(tokens_path);
        tokens[4] = static_cast<char>(tokens[4] ^ 1);
        std::ofstream(tokens_path, std::ios::binary) << tokens;
        Json result = read_json_file(result_path);
        result["tokens_crc"] = crc32c(tokens.data(), tokens.size());
        std::ofstream(result_path) << result.dump();
    }
    shared.group.barrier();
    BOOST_TEST(run_prepare(options, shared.group) == 0);
    BOOST_TEST((slurp(options.output) != good));
    // A finished unit of another option or another content is made again.
    for (const bool change_options : {true, false}) {
        shared.spill("out.h5.parts/unit-000099.tokens.partial", "rest of something");
        shared.spill("out.h5.parts/unit-000000.json", "{\"document_ends\":[],\"key\":\"of something else\"}");
        PrepareOptions changed = options_of(shared, "out.h5");
        changed.eos = !change_options;
        BOOST_TEST(run_prepare(changed, shared.group) == 0);
        BOOST_TEST((slurp(options.output) == good) == !change_options);
    }
    BOOST_TEST(!std::filesystem::exists(options.output + ".parts"));
}

BOOST_AUTO_TEST_CASE(a_damaged_spool_is_noticed) {
    Shared shared;
    make_inputs(shared);
    PrepareOptions options = options_of(shared, "out.h5");
    options.inputs = {shared / "in", shared / "bad.jsonl"};
    shared.spill("bad.jsonl", std::string(300'000, ' ') + "\nnonsense\n");
    shared.spill("out.h5.parts/x", "");
    sentence_of(options, shared.group);
    BOOST_TEST(std::filesystem::exists(shared / "out.h5.parts/x"));  // it may be anybody's
    if (shared.lead()) {
        const std::string path = unit_tokens_path(options.output + ".parts", 0);
        std::string tokens = slurp(path);
        tokens[4] = static_cast<char>(tokens[4] ^ 1);
        std::ofstream(path, std::ios::binary) << tokens;
    }
    shared.group.barrier();
    const std::string said = sentence_of(options_of(shared, "out.h5"), shared.group);
    BOOST_TEST(said.find("unit-000000.tokens is damaged; remove its folder and start again") != std::string::npos,
               said);
    BOOST_TEST(!std::filesystem::exists(options.output + ".lock"));
    BOOST_TEST(!std::filesystem::exists(options.output));
    BOOST_TEST(!std::filesystem::exists(options.output + ".partial"));
}

BOOST_AUTO_TEST_CASE(errors_are_one_sentence_on_all_ranks_and_leave_nothing) {
    Shared shared;
    shared.spill("good.txt", "some text");
    shared.spill("ids.jsonl", "{\"tokens\": [1, 2]}\n{\"tokens\": [3, 600]}\n");
    shared.spill("negative.jsonl", "{\"tokens\": [-1]}\n");
    shared.spill("text.jsonl", "{\"text\": \"x\"}\n");
    shared.spill("ids.bin", std::string("\1\0\377\377", 4));
    shared.spill("empty.txt", "");
    shared.spill("blank.jsonl", "\n\n{\"text\": \"\"}\n");
    shared.spill("cut.jsonl.gz", "\x1f\x8b\x08");
    shared.spill("other.md", "x");
    shared.spill("folder/other.md", "x");
    shared.spill("garbage.model", "garbage");
    const std::size_t before = files_in(shared.folder);
    const auto check = [&](const std::string& part, std::vector<std::string> inputs, const std::string& tokenizer,
                           std::int64_t vocabulary, const std::string& output = "out.h5",
                           const std::string& bin_type = "uint16", const std::string& bos = "auto") {
        PrepareOptions options;
        options.output = shared / output;
        for (std::string& input : inputs) input = shared / input;
        options.inputs = inputs;
        options.tokenizer = tokenizer;
        options.vocabulary = vocabulary;
        options.bin_type = bin_type;
        options.bos = bos;
        const std::string said = sentence_of(options, shared.group);
        BOOST_TEST(said.find(part) != std::string::npos, "said '" << said << "', not '" << part << "'");
        shared.group.barrier();
        BOOST_TEST(files_in(shared.folder) == before, "after '" << part << "'");
        shared.group.barrier();
    };
    check("exclude each other", {"good.txt"}, kTokenizer, 5);
    check("give --tokenizer for texts, or --vocabulary", {"good.txt"}, "", 0);
    check("--vocabulary is -5", {"ids.jsonl"}, "", -5);
    check("--bos is maybe; it must be auto, true or false", {"good.txt"}, kTokenizer, 0, "out.h5", "uint16", "maybe");
    check("--bin-type is int8", {"ids.jsonl"}, "", 5, "out.h5", "int8");
    check("no input is given", {}, kTokenizer, 0);
    check("nothing.txt does not exist", {"nothing.txt"}, kTokenizer, 0);
    check("other.md has an extension that prepare does not read", {"other.md"}, kTokenizer, 0);
    check("folder has no file that prepare reads (.txt, .jsonl, .jsonl.gz, .jsonl.zst, .bin)", {"good.txt", "folder"},
          kTokenizer, 0);
    check("the tokenizer /none does not exist", {"good.txt"}, "/none", 0);
    check("garbage.model is not a SentencePiece model", {"good.txt"}, shared / "garbage.model", 0);
    check("good.txt is a text; give --tokenizer", {"good.txt"}, "", 600);
    check("text.jsonl, line 1 is a text; give --tokenizer", {"text.jsonl"}, "", 600);
    check("ids.jsonl, line 2: token 1 is 600, beyond the vocabulary of 600", {"good.txt", "ids.jsonl"}, kTokenizer, 0);
    check("ids.jsonl, line 1: token 1 is 2, beyond the vocabulary of 2", {"ids.jsonl"}, "", 2);
    check("negative.jsonl, line 1: token 0 is -1", {"negative.jsonl"}, "", 2);
    check("ids.bin: token 1 is 65535, beyond the vocabulary of 600", {"ids.bin"}, "", 600);
    check("cut.jsonl.gz is cut short", {"good.txt", "cut.jsonl.gz"}, kTokenizer, 0);
    check("have no tokens: all their 2 documents are empty", {"empty.txt", "blank.jsonl"}, kTokenizer, 0);
    check("of the output does not exist", {"good.txt"}, kTokenizer, 0, "no/out.h5");
    check("is a folder; name a file", {"good.txt"}, kTokenizer, 0, "folder");
}

/// A pattern that gives up on some texts: the sentence names the document, not only the tokenizer.
BOOST_AUTO_TEST_CASE(a_document_that_cannot_be_tokenized_is_named) {
    Shared shared;
    const Json split = {{"type", "Split"},
                        {"pattern", {{"Regex", "(a+)+b"}}},
                        {"behavior", "Isolated"},
                        {"invert", false}},
               bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const Json model = {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}}}, {"merges", Json::array()}},
               both = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
    shared.spill("tokenizer.json", Json({{"model", model}, {"pre_tokenizer", both}}).dump());
    const std::string hard = std::string(60, 'a') + "cb";
    shared.spill("in/lines.jsonl", "{\"text\": \"aab\"}\n\n{\"text\": \"" + hard + "\"}\n");
    shared.spill("book.txt", hard);
    for (const auto& [input, place] : {std::pair{"in", "in/lines.jsonl, line 3 cannot be tokenized: "},
                                       {"book.txt", "book.txt cannot be tokenized: "}}) {
        PrepareOptions options;
        options.output = shared / "out.h5";
        options.inputs = {shared / input};
        options.tokenizer = shared / "tokenizer.json";
        const std::string said = sentence_of(options, shared.group);
        BOOST_TEST(said.find(place) != std::string::npos, said);
        BOOST_TEST(said.find("matching its pattern with a text failed") != std::string::npos, said);
        BOOST_TEST(!std::filesystem::exists(options.output));
    }
}

BOOST_AUTO_TEST_CASE(units_follow_from_sizes_and_ranks_get_their_share) {
    std::vector<Source> sources;
    for (std::int64_t bytes : {0, 1000, 2000, 5'000'000, 700'000, 900'000})
        sources.push_back({"p", "n", bytes == 5'000'000 ? SourceKind::jsonl : SourceKind::text, bytes});
    const std::vector<Unit> units = plan_units(sources);
    std::int64_t total = 0, source = 0, at = 0;
    for (const Unit& unit : units) {
        total += unit.bytes;
        for (const UnitPart& part : unit.parts) {  // every byte of every source occurs once, in order
            if (part.source != source) {
                BOOST_TEST(at == sources[static_cast<std::size_t>(source)].bytes);
                BOOST_TEST(part.source == ++source);
                at = 0;
            }
            BOOST_TEST(part.range.begin == at);
            at = part.range.end;
        }
    }
    BOOST_TEST(total == 6'603'000);
    BOOST_TEST(units.size() > 15u);
    const std::vector<int> owner = distribute_by_size({5, 1, 9, 3, 3, 3}, 3);
    BOOST_TEST(owner == (std::vector<int>{1, 2, 0, 2, 2, 1}), boost::test_tools::per_element());
    std::vector<int> many = distribute_by_size(std::vector<std::int64_t>(100, 0), 4);
    for (int rank = 0; rank < 4; ++rank) BOOST_TEST(std::count(many.begin(), many.end(), rank) == 25);
}

BOOST_AUTO_TEST_SUITE_END()
