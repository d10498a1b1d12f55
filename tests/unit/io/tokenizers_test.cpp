// Tests tokenizers against the ids that Hugging Face's `tokenizers` and SentencePiece's Python package gave
// (tests/golden/tokenizers), the merging of pairs against a plain loop, and damaged tokenizer files.
#include <algorithm>

#include "core/random.h"
#include "io/json.h"
#include "io/merge_pairs.h"
#include "io/tokenizer.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(tokenizers)

static const std::string kFolder = SOURCE_FOLDER "/tests/golden/tokenizers/";

BOOST_AUTO_TEST_CASE(ids_are_those_of_hugging_face_and_sentencepiece) {
    const Json expected = read_json_file(kFolder + "expected.json");
    for (const std::string name : {"llama3", "digits", "prefix", "sentencepiece"}) {
        const auto tokenizer = open_tokenizer(kFolder + name);
        for (std::size_t i = 0; i < expected["texts"].size(); ++i) {
            const std::string content = expected["texts"][i].get<std::string>();
            const auto ids = tokenizer->encode(content);
            BOOST_TEST(ids == expected[name][i].get<std::vector<std::int32_t>>(), boost::test_tools::per_element());
            BOOST_TEST(!(ids != expected[name][i].get<std::vector<std::int32_t>>()), name << ", text " << i);
            if (name != "sentencepiece")
                BOOST_TEST(tokenizer->decode(ids) == expected["decoded"][name][i].get<std::string>());
        }
    }
}

BOOST_AUTO_TEST_CASE(tokenizers_say_what_they_are) {
    const auto bpe = open_tokenizer(kFolder + "llama3");
    BOOST_TEST(bpe->vocabulary() == 643);
    BOOST_TEST(bpe->bos() == 641);
    BOOST_TEST(bpe->eos() == 642);
    BOOST_TEST(bpe->kind() == "byte-bpe");
    BOOST_TEST(bpe->hash().size() == 64u);
    BOOST_TEST(bpe->hash() == open_tokenizer(kFolder + "llama3/tokenizer.json")->hash());
    REFUSED("is beyond the vocabulary", bpe->decode({643}));
    const auto sp = open_tokenizer(kFolder + "sentencepiece");
    BOOST_TEST(sp->vocabulary() == 600);
    BOOST_TEST(sp->bos() == 1);
    BOOST_TEST(sp->eos() == 2);
    BOOST_TEST(sp->kind() == "sentencepiece");
    BOOST_TEST(sp->decode(sp->encode("Hello world")) == "Hello world");
    REFUSED("is beyond the vocabulary", sp->decode({600}));
}

BOOST_AUTO_TEST_CASE(without_tokenizer_config_the_special_ids_come_from_config) {
    Scratch scratch;
    spill(scratch / "tokenizer.json", slurp(kFolder + "llama3/tokenizer.json"));
    BOOST_TEST(open_tokenizer(scratch.folder)->bos() == -1);
    spill(scratch / "config.json", "{\"bos_token_id\": 5, \"eos_token_id\": [6, 7]}");
    BOOST_TEST(open_tokenizer(scratch.folder)->bos() == 5);
    BOOST_TEST(open_tokenizer(scratch.folder)->eos() == 6);
}

/// The definition of merging: merge the pair of lowest rank, the leftmost first, until no pair is left.
static void slow_merge(std::vector<std::int32_t>& ids, const MergeTable& merges) {
    for (;;) {
        std::size_t best = ids.size();
        Merge chosen;
        for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
            const auto found = merges.find(merge_key(ids[i], ids[i + 1]));
            if (found != merges.end() && (best == ids.size() || found->second.rank < chosen.rank))
                best = i, chosen = found->second;
        }
        if (best == ids.size()) return;
        ids[best] = chosen.result;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

BOOST_AUTO_TEST_CASE(merging_equals_the_plain_loop) {
    for (std::uint64_t trial = 0; trial < 200; ++trial) {
        MergeTable merges;
        std::int32_t next = 3;  // ids 0..2 at first: many equal neighbours
        for (std::int32_t rank = 0; rank < 30; ++rank) {
            const auto pick = [&](std::uint64_t k) {
                return static_cast<std::int32_t>(
                    random_below(static_cast<std::uint64_t>(next), trial, k, static_cast<std::uint64_t>(rank)));
            };
            if (merges.emplace(merge_key(pick(1), pick(2)), Merge{rank, next}).second) ++next;
        }
        std::vector<std::int32_t> ids;
        for (std::uint64_t i = 0; i < random_below(120, trial, 3, 0); ++i)
            ids.push_back(static_cast<std::int32_t>(random_below(3, trial, 4, i)));
        std::vector<std::int32_t> expected = ids;
        slow_merge(expected, merges);
        merge_pairs(ids, merges);
        BOOST_TEST(ids == expected, boost::test_tools::per_element());
    }
}

BOOST_AUTO_TEST_CASE(files_that_are_not_tokenizers_are_refused_in_one_sentence) {
    Scratch scratch;
    REFUSED("does not exist", open_tokenizer(scratch / "none"));
    REFUSED("has neither tokenizer.model nor tokenizer.json", open_tokenizer(scratch.folder));
    const std::string model = slurp(kFolder + "sentencepiece/tokenizer.model");
    for (const std::string& bad : {std::string(), std::string("garbage"), std::string(1000, '\xff'),
                                   model.substr(0, model.size() / 2), std::string(64, '\0')}) {
        spill(scratch / "t.model", bad);
        const std::string said = sentence_of([&] { open_tokenizer(scratch / "t.model"); });
        // A model that is cut between two pieces is a smaller model.
        BOOST_TEST((said.empty() || has(said, "t.model is not a SentencePiece model")), said);
        if (bad.size() < 1000) BOOST_TEST(!said.empty());
    }
    const Json good = read_json_file(kFolder + "llama3/tokenizer.json");
    const auto with = [&](const std::function<void(Json&)>& change) {
        Json json = good;
        change(json);
        spill(scratch / "t.json", json.dump());
        open_tokenizer(scratch / "t.json");
    };
    with([](Json&) {});
    spill(scratch / "t.json", good.dump().substr(0, 5000));
    REFUSED("t.json is not valid JSON", open_tokenizer(scratch / "t.json"));
    REFUSED("has no \"model\"", with([](Json& j) { j.erase("model"); }));
    REFUSED("the normalizer BertNormalizer is not supported", with([](Json& j) {
                j["normalizer"] = {{"type", "BertNormalizer"}};
            }));
    for (const std::string type : {"Unigram", "WordPiece", "WordLevel"})
        REFUSED("is a " + type + " tokenizer; only BPE is supported",
                with([&](Json& j) { j["model"]["type"] = type; }));
    REFUSED("the pre-tokenizer Whitespace is not supported", with([](Json& j) {
                j["pre_tokenizer"] = {{"type", "Whitespace"}};
            }));
    REFUSED("\"prepend_scheme\" of the pre-tokenizer Metaspace is \"some\"", with([](Json& j) {
                j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "some"}};
            }));
    REFUSED("the pattern of a Replace matches between two characters", with([](Json& j) {
                j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "c*"}}}, {"content", "-"}};
            }));
    REFUSED("refers to a part of the match", with([](Json& j) {
                j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", "$1"}};
            }));
    REFUSED("is not made of tokens of the vocabulary", with([](Json& j) {
                j["model"]["merges"].push_back({"zzz", "q"});
            }));
    REFUSED("is not two tokens", with([](Json& j) { j["model"]["merges"].push_back("alone"); }));
    REFUSED("the id of \"x\" is not valid", with([](Json& j) { j["model"]["vocab"]["x"] = -1; }));
    REFUSED("a group without an end",
            with([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(("; }));
    REFUSED("\"lstrip\" of the added token", with([](Json& j) { j["added_tokens"][0]["lstrip"] = 1; }));
    REFUSED("t.json", with([](Json& j) { j["model"]["ignore_merges"] = "yes"; }));
}

BOOST_AUTO_TEST_CASE(a_decoder_that_is_not_supported_is_refused_where_text_is_wanted) {
    Scratch scratch;
    Json json = read_json_file(kFolder + "llama3/tokenizer.json");
    const auto said = [&](const Json& decoder) {
        json["decoder"] = decoder;
        spill(scratch / "t.json", json.dump());
        const auto tokenizer = open_tokenizer(scratch / "t.json");
        BOOST_TEST(!tokenizer->encode("a").empty());
        return sentence_of([&] { tokenizer->decode({1}); });
    };
    const auto parts = [](const Json& list) { return Json{{"type", "Sequence"}, {"decoders", list}}; };
    const Json fuse = {{"type", "Fuse"}}, strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
    BOOST_TEST(has(said({{"type", "WordPiece"}}), "the decoder WordPiece is not supported"));
    BOOST_TEST(has(said(parts({strip, fuse})), "the decoder Strip stands behind another part"));
    BOOST_TEST(has(said(parts({fuse, {{"type", "ByteFallback"}}})), "the decoder ByteFallback stands behind"));
    BOOST_TEST(has(said(parts({{{"type", "ByteLevel"}}, fuse})), "the decoder Fuse stands behind"));
    BOOST_TEST(has(said({{"type", "Fuse"}, {"novelty", 1}}), "has the field \"novelty\""));
    BOOST_TEST(said(parts({fuse, strip})) == "");
}

/// The text of a stream as it grows.
static std::vector<std::string> streamed(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
    DecodeStream stream(tokenizer.decoder());
    std::vector<std::string> parts;
    for (const std::int32_t id : ids) parts.push_back(stream.add(id));
    parts.push_back(stream.finish());
    return parts;
}

BOOST_AUTO_TEST_CASE(decode_streams_give_whole_characters) {
    using Parts = std::vector<std::string>;
    const auto bytes = open_tokenizer(kFolder + "bytes");  // every byte is a token
    BOOST_TEST(streamed(*bytes, bytes->encode("a\xe2\x82\xac!")) == (Parts{"a", "", "", "\xe2\x82\xac", "!", ""}),
               boost::test_tools::per_element());
    const auto euro = bytes->encode("\xe2\x82\xac");
    BOOST_TEST(streamed(*bytes, {euro[0], euro[1]}) == (Parts{"", "", "\xef\xbf\xbd"}),
               boost::test_tools::per_element());
    BOOST_TEST(bytes->decoder().bytes_of(euro[0]) == "\xe2");
    const auto fallback = open_tokenizer(kFolder + "fallback");
    const auto ids = fallback->encode("the \xe2\x82\xac of");
    const Parts parts = streamed(*fallback, ids);
    std::string all;
    for (const std::string& part : parts) all += part;
    BOOST_TEST(all == "the \xe2\x82\xac of");
    BOOST_TEST(fallback->decoder().bytes_of(ids[0]) == " the");  // inside a text
    BOOST_TEST(parts[0] == "the");
    // A run of bytes that is no UTF-8 becomes one U+FFFD a byte, also for those that were good.
    const std::int32_t e2 = ids[2], b82 = ids[3], ac = ids[4];
    BOOST_TEST(fallback->decode({e2, b82, ac, ac}) == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    BOOST_TEST(fallback->decoder().name_of(e2) == "<0xE2>");
    BOOST_TEST(fallback->decoder().is_special(fallback->encode("</s>")[0]));
    BOOST_TEST(fallback->decoder().bytes_of(fallback->encode("</s>")[0]) == "");
    BOOST_TEST(fallback->name_of(fallback->encode("</s>")[0]) == "</s>");
    REFUSED("is beyond the vocabulary", DecodeStream(fallback->decoder()).add(100000));
}

BOOST_AUTO_TEST_SUITE_END()
