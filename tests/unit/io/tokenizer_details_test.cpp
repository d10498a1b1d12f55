// Tests the fields of tokenizer.json and the files beside a tokenizer against the ids of `tokenizers` and transformers
// (tests/golden/tokenizers/details.json), and that what is not supported is refused by its name.
#include <filesystem>
#include <sstream>

#include "core/random.h"
#include "io/json.h"
#include "io/prefix_tree.h"
#include "io/regex_dialect.h"
#include "io/tokenizer.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

namespace {

const std::string kFolder = SOURCE_FOLDER "/tests/golden/tokenizers/";
using Ids = std::vector<std::int32_t>;

/// A tokenizer.json or tokenizer.model of tests/golden with changes, and the files beside it.
struct Variant {
    Scratch scratch;
    explicit Variant(const std::string& bases) {
        std::istringstream list(bases);  // "sentencepiece+fallback": both files in one folder
        for (std::string base; std::getline(list, base, '+');)
            for (const auto& file : std::filesystem::directory_iterator(kFolder + base))
                spill(scratch / file.path().filename().string(), slurp(file.path().string()));
    }
    void change(const std::function<void(Json&)>& work) const {
        Json json = read_json_file(scratch / "tokenizer.json");
        work(json);
        spill(scratch / "tokenizer.json", json.dump());
    }
    void set(const std::string& pointer, const Json& value) const {
        change([&](Json& json) {
            const Json::json_pointer at(pointer);
            if (value.is_null()) json.at(at.parent_pointer()).erase(at.back());
            else json[at] = value;
        });
    }
    void beside(const std::string& name, const Json& value) const { spill(scratch / name, value.dump()); }
    std::unique_ptr<Tokenizer> open() const { return open_tokenizer(scratch.folder); }
};

Ids framed(const Tokenizer& tokenizer, const std::string& content) {
    Ids ids = tokenizer.frame().begin.ids;
    for (const Ids& part : {tokenizer.encode(content), tokenizer.frame().end.ids})
        ids.insert(ids.end(), part.begin(), part.end());
    return ids;
}

Json added(const std::string& content, std::int32_t id, const Json& flags = Json::object()) {
    Json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                  {"rstrip", false}, {"normalized", false}, {"special", false}};
    token.update(flags);
    return token;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tokenizer_details)

void check_case(const Json& c) {
    const Variant variant(c["base"].get<std::string>());
    for (const auto& [pointer, value] : c["set"].items()) variant.set(pointer, value);
    for (const auto& [name, value] : c["files"].items()) variant.beside(name, value);
    std::unique_ptr<Tokenizer> tokenizer;
    BOOST_TEST(sentence_of([&] { tokenizer = variant.open(); }) == "");
    if (!tokenizer) return;
    const bool whole = !tokenizer->frame().begin.why.starts_with("add_bos_token is not set");
    for (std::size_t i = 0; i < c["texts"].size(); ++i) {
        const std::string content = c["texts"][i].get<std::string>();
        const Ids ids = c["ids"][i].get<Ids>(), ours = whole ? framed(*tokenizer, content) : tokenizer->encode(content);
        BOOST_TEST(ours == ids, boost::test_tools::per_element());
        BOOST_TEST((ours == ids), "text '" << content << "'");
        BOOST_TEST(tokenizer->decode(ids) == c["decoded"][i].get<std::string>(), "text '" << content << "'");
    }
}

BOOST_AUTO_TEST_CASE(ids_are_those_of_tokenizers_and_transformers) {
    const Json cases = read_json_file(kFolder + "details.json");
    BOOST_TEST(cases.size() == 56u);
    for (const Json& c : cases) BOOST_TEST_CONTEXT(c["name"] << ", " << c["source"]) check_case(c);
}

BOOST_AUTO_TEST_CASE(ids_are_those_of_the_class_that_transformers_uses) {
    const Json cases = read_json_file(kFolder + "classes.json");
    BOOST_TEST(cases.size() == 42u);
    for (const Json& c : cases) BOOST_TEST_CONTEXT(c["name"] << ", " << c["source"]) check_case(c);
}

BOOST_AUTO_TEST_CASE(a_class_that_is_not_known_or_fits_no_file_is_refused) {
    const auto said = [](const std::string& base, const Json& config, const Json& model = Json::object()) {
        const Variant variant(base);
        variant.beside("tokenizer_config.json", config);
        variant.beside("config.json", model);
        return sentence_of([&] { variant.open(); });
    };
    const Json llama = {{"tokenizer_class", "LlamaTokenizer"}}, gpt2 = {{"tokenizer_class", "GPT2Tokenizer"}};
    for (const std::string base : {"sentencepiece+fallback", "sentencepiece", "fallback", "bytes"})
        BOOST_TEST(has(said(base, {{"tokenizer_class", "T5TokenizerFast"}}),
                       "\"tokenizer_class\" is T5TokenizerFast, which is not supported"));
    BOOST_TEST(has(said("fallback", {{"tokenizer_class", 5}}), "tokenizer_class"));
    BOOST_TEST(has(said("fallback", llama, {{"model_type", "phi3"}}), "\"model_type\" is phi3, with which"));
    BOOST_TEST(said("fallback", llama, {{"model_type", "mistral"}}) == "");
    BOOST_TEST(said("bytes", llama, {{"model_type", "phi3"}}) == "");  // of bytes: as it is, with any model
    BOOST_TEST(has(said("sentencepiece", gpt2), "is not of the \"tokenizer_class\" GPT2Tokenizer"));
    BOOST_TEST(has(said("sentencepiece", {{"add_prefix_space", false}}), "\"add_prefix_space\" is false, which"));
    Json decoder = llama;
    decoder["added_tokens_decoder"]["1"] = added("<s>", 1);
    const Variant variant("fallback");  // "<unk>" and "</s>" are names of the class, "<|end|>" is not
    variant.set("/added_tokens/-", added("<|end|>", 600));
    variant.beside("tokenizer_config.json", decoder);
    REFUSED("has the added token <|end|>, which added_tokens_decoder", variant.open());
    decoder["tokenizer_class"] = "PreTrainedTokenizerFast";
    variant.beside("tokenizer_config.json", decoder);
    BOOST_TEST(variant.open()->vocabulary() == 601);
}

BOOST_AUTO_TEST_CASE(parts_of_a_tokenizer_json_that_its_class_ignores_are_told) {
    const auto notes = [](const std::string& base, const Json& config) {
        const Variant variant(base);
        variant.beside("tokenizer_config.json", config);
        std::string all;
        for (const std::string& note : variant.open()->notes()) all += note;
        return all;
    };
    const auto of_class = [](const char* name) { return Json{{"tokenizer_class", name}}; };
    BOOST_TEST(has(notes("fallback", of_class("LlamaTokenizer")), "the normalizer and pre_tokenizer of"));
    BOOST_TEST(has(notes("digits", of_class("GPT2Tokenizer")), "the pre_tokenizer of"));
    BOOST_TEST(notes("bytes", of_class("GPT2Tokenizer")) == "");
    BOOST_TEST(notes("fallback", of_class("PreTrainedTokenizerFast")) == "");
    Json chat = of_class("LlamaTokenizer");
    chat["added_tokens_decoder"]["600"] = added("<|im|>", 600);
    BOOST_TEST(has(notes("sentencepiece", chat), "\"legacy\" is not set"));
    chat["legacy"] = false;
    BOOST_TEST(notes("sentencepiece", chat) == "");
}

BOOST_AUTO_TEST_CASE(a_token_that_only_the_class_names_has_no_id) {
    const Variant variant("bytes");
    variant.beside("tokenizer_config.json", {{"tokenizer_class", "GPT2Tokenizer"}});
    REFUSED("it has the text <|endoftext|>, which", variant.open()->encode("a<|endoftext|>"));
    variant.beside("tokenizer_config.json", {{"tokenizer_class", "LlamaTokenizer"}});
    BOOST_TEST(!variant.open()->encode("a<|endoftext|>").empty());
}

BOOST_AUTO_TEST_CASE(a_prefix_tree_finds_the_longest_text) {
    const auto word = [](std::uint64_t a, std::uint64_t b, std::uint64_t longest) {
        std::string out;
        for (std::uint64_t k = 0; k <= random_below(longest, a, b, 1000); ++k)
            out += static_cast<char>('a' + random_below(3, a, b, k));
        return out;
    };
    for (std::uint64_t trial = 0; trial < 100; ++trial) {
        std::vector<std::string> texts;
        for (std::uint64_t i = 0; i < random_below(40, trial, 0, 0); ++i) texts.push_back(word(trial, i + 1, 6));
        const PrefixTree tree(std::vector<std::string_view>(texts.begin(), texts.end()));
        for (std::uint64_t i = 0; i < 50; ++i) {
            const std::string text = word(trial, i + 1000, 9);
            PrefixTree::Match expected;
            for (std::size_t t = 0; t < texts.size(); ++t)
                if (text.starts_with(texts[t]) && texts[t].size() > expected.length)
                    expected = {texts[t].size(), static_cast<std::int32_t>(t)};
            BOOST_TEST(tree.longest(text).length == expected.length);
            BOOST_TEST(tree.longest(text).index == expected.index);
        }
    }
    BOOST_TEST(PrefixTree().longest("a").length == 0u);
    BOOST_TEST(PrefixTree({"\xff", "a"}).longest("\xff").index == 0);
}

BOOST_AUTO_TEST_CASE(fields_that_are_not_known_or_not_supported_are_refused_by_name) {
    const auto said = [](const std::string& pointer, const Json& value) {
        const Variant variant("digits");
        variant.set(pointer, value);
        return sentence_of([&] { variant.open(); });
    };
    const std::string splits = "/pre_tokenizer/pretokenizers/";
    for (const std::string part : {"", "/model", "/added_tokens/0", "/pre_tokenizer", "/pre_tokenizer/pretokenizers/0",
                                   "/pre_tokenizer/pretokenizers/1"})
        BOOST_TEST(has(said(part + "/novelty", 1), "has the field \"novelty\", which longlora does not know"), part);
    BOOST_TEST(has(said("/version", "2.0"), "\"version\" of the file is \"2.0\"; only \"1.0\" is supported"));
    BOOST_TEST(has(said("/normalizer", {{"type", "NFC"}, {"novelty", 1}}), "normalizer NFC has the field \"novelty\""));
    BOOST_TEST(has(said("/normalizer", {{"type", "Strip"}}), "the normalizer Strip is not supported"));
    BOOST_TEST(has(said("/model/dropout", 0.1), "\"dropout\" of model is 0.1; only null,0 is supported"));
    BOOST_TEST(has(said("/model/continuing_subword_prefix", "##"), "\"continuing_subword_prefix\" of model"));
    BOOST_TEST(has(said("/model/end_of_word_suffix", "</w>"), "\"end_of_word_suffix\" of model"));
    BOOST_TEST(said("/model/dropout", 0.0) == "");
    BOOST_TEST(said("/truncation", {{"max_length", 5}}) == "");
    BOOST_TEST(has(said("/post_processor", {{"type", "Other"}}), "the post_processor Other is not supported"));
    BOOST_TEST(has(said(splits + "0", {{"type", "Punctuation"}}), "the pre-tokenizer Punctuation is not supported"));
    BOOST_TEST(has(said(splits + "0/individual_digits", nullptr), "has no \"individual_digits\""));
    BOOST_TEST(has(said(splits + "1/add_prefix_space", nullptr), "has no \"add_prefix_space\""));
    BOOST_TEST(has(said(splits + "2", {{"type", "Digits"}, {"individual_digits", true}}), "stands behind ByteLevel"));
    Json split = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Removed"}, {"invert", false}};
    BOOST_TEST(has(said(splits + "0", split), "\"behavior\" of pre-tokenizer Split is \"Removed\""));
    split["behavior"] = "Isolated", split["pattern"] = {{"Regex", "\\w+"}};
    BOOST_TEST(has(said(splits + "0", split), "has \\w at its byte 0"));
}

BOOST_AUTO_TEST_CASE(patterns_that_two_libraries_read_differently_are_refused) {
    for (const std::string good :
         {R"('s|'t| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", R"((?i:'s|'ll|'re)|[^\r\n\p{L}]?\p{L}+|\p{N}{1,3})",
          R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)", R"([A-Za-z]?+x++|\.{2,}|(?<=a)b|(?>c))", "[-a][b-]"})
        BOOST_TEST(sentence_of([&] { pcre_of_oniguruma(good, "file"); }) == "", good);
    for (const std::string bad : {"a[b[c]]",
                                  "[[:alpha:]]",
                                  "[a&&b]",
                                  "[]a]",
                                  "[a",
                                  "(a",
                                  "a)",
                                  "^a",
                                  "a$",
                                  R"(\h)",
                                  R"(\w)",
                                  R"(\bx)",
                                  R"(\v)",
                                  R"(\p{Han})",
                                  R"(\pL)",
                                  R"(\p{^L})",
                                  "(?i)a",
                                  "(?m:a)",
                                  "(?<n>a)",
                                  "a{,3}",
                                  "a{x}",
                                  "a{2}?",
                                  "a{2}+",
                                  "a+*",
                                  "(?i:ss)",
                                  "(?i:\xc3\xa4)",
                                  "(?i:[\xc3\xa4])",
                                  R"((?i:\p{Lu}))",
                                  R"([\s-a])",
                                  R"([+-\d])",
                                  "a\\"})
        REFUSED("is not supported", pcre_of_oniguruma(bad, "file"));
    BOOST_TEST(pcre_of_oniguruma("a.b", "file") == R"(a[^\n]b)");
    BOOST_TEST(pcre_of_text(R"(\E.x)") == R"(\\E\.x)");
}

BOOST_AUTO_TEST_CASE(added_tokens_must_have_the_ids_that_transformers_gives_them) {
    const auto said = [](const Json& tokens, const Json& config = Json::object(), const Json& file = Json::object()) {
        const Variant variant("bytes");
        variant.set("/added_tokens", tokens);
        variant.beside("tokenizer_config.json", config);
        variant.beside("added_tokens.json", file);
        return sentence_of([&] { variant.open(); });
    };
    const auto decoder = [](const std::string& id, const Json& token) {
        return Json{{"added_tokens_decoder", {{id, token}}}};
    };
    const Json one = Json::array({added("one", 256)}), left = {{"lstrip", true}}, none = Json::object(),
               bare = {{"id", 256}, {"content", "one"}};
    BOOST_TEST(said(one) == "");
    BOOST_TEST(has(said(Json::array({added("one", 257)})),
                   "the added token one has id 257, but transformers gives it id 256"));
    BOOST_TEST(
        has(said(Json::array({added("a", 256)})), "the added token a has id 256, but transformers gives it id 97"));
    BOOST_TEST(has(said(Json::array({added("one", 256), added("one", 256)})), "the added token one is listed twice"));
    BOOST_TEST(has(said(Json::array({bare})), "the added token one has no \"single_word\""));
    BOOST_TEST(said(one, decoder("256", added("one", 256))) == "");
    BOOST_TEST(has(said(one, decoder("257", added("one", 256))), "disagree about the added token one"));
    BOOST_TEST(has(said(one, decoder("256", added("one", 256, left))), "disagree about the added token one"));
    BOOST_TEST(has(said(one, decoder("x", added("two", 257))), "the id x of the added token two is not valid"));
    BOOST_TEST(said(one, none, {{"one", 256}, {"two", 257}}) == "");
    BOOST_TEST(has(said(one, none, {{"two", 300}}), "added_tokens.json: the added token two has id 300"));
    BOOST_TEST(has(said(one, decoder("256", added("one", 256)), {{"two", 257}}), "disagree about the token two"));
    BOOST_TEST(has(said(one, {{"split_special_tokens", true}}), "\"split_special_tokens\" is true"));
    BOOST_TEST(has(said(one, {{"sp_model_kwargs", {{"alpha", 0.1}}}}), "\"sp_model_kwargs\" is"));
    BOOST_TEST(has(said(one, {{"add_prefix_space", true}}), "disagree about \"add_prefix_space\""));
    BOOST_TEST(has(said(one, {{"add_bos_token", "yes"}}), "\"add_bos_token\" is \"yes\", neither true nor false"));
}

BOOST_AUTO_TEST_CASE(a_named_token_without_an_id_is_refused_where_it_occurs) {
    for (const std::string base : {"bytes", "sentencepiece"}) {
        const Variant variant(base);
        variant.beside("tokenizer_config.json", {{"pad_token", "[PAD]"}});
        const auto tokenizer = variant.open();
        BOOST_TEST(tokenizer->vocabulary() == (base == "bytes" ? 256 : 600));
        BOOST_TEST(!tokenizer->encode("a [pad] text").empty());
        REFUSED("it has the text [PAD], which pad_token of", tokenizer->encode("a [PAD] text"));
    }
}

BOOST_AUTO_TEST_CASE(a_byte_without_a_token_is_refused_where_it_occurs) {
    const Variant variant("bytes");
    variant.set("/model/vocab/b", nullptr);
    variant.set("/model/unk_token", "<none>");
    REFUSED("it has the byte 98, and", variant.open()->encode("abc"));
    BOOST_TEST((variant.open()->encode("ac") == Ids{97, 99}));
}

BOOST_AUTO_TEST_CASE(tokenizer_json_beside_tokenizer_model_must_be_of_the_same_model) {
    const Variant variant("sentencepiece+fallback");
    variant.set("/added_tokens/-", added("<|end|>", 600));
    const auto tokenizer = variant.open();
    BOOST_TEST(tokenizer->kind() == "bpe");
    BOOST_TEST(tokenizer->vocabulary() == 601);
    BOOST_TEST((tokenizer->encode("<|end|><s>") == Ids{600, 1}));
    BOOST_TEST(tokenizer->frame().begin.why == "the post_processor of tokenizer.json adds it");
    BOOST_TEST(open_tokenizer(variant.scratch / "tokenizer.model")->kind() == "sentencepiece");
    variant.change([](Json& json) { std::swap(json["model"]["vocab"]["a"], json["model"]["vocab"]["e"]); });
    REFUSED("disagree about the token", variant.open());
    spill(variant.scratch / "tokenizer.model", "aGk= 0\n");  // tiktoken's, as beside Llama 3: not compared
    BOOST_TEST(variant.open()->kind() == "bpe");
}

BOOST_AUTO_TEST_CASE(the_key_differs_with_the_files_beside) {
    const Variant variant("sentencepiece");
    const std::string key = variant.open()->key(), hash = variant.open()->hash();
    variant.beside("tokenizer_config.json", {{"add_prefix_space", false}, {"tokenizer_class", "LlamaTokenizer"}});
    BOOST_TEST(variant.open()->key() != key);
    variant.beside("tokenizer_config.json", {{"bos_token", "<s>"}});
    BOOST_TEST(variant.open()->key() != key);
    BOOST_TEST(variant.open()->hash() == hash);
}

BOOST_AUTO_TEST_CASE(reasons_for_ids_around_a_text) {
    const auto why = [](const std::string& base, const Json& config) {
        const Variant variant(base);
        variant.beside("tokenizer_config.json", config);
        return variant.open()->frame().begin.why;
    };
    const std::string unset =
        "add_bos_token is not set, so it is true as in Llama's own code and transformers 4 (in 5 "
        "it is false, which --bos false does)";
    BOOST_TEST(why("sentencepiece", Json::object()) == unset);
    BOOST_TEST(why("sentencepiece", {{"add_bos_token", false}}) == "add_bos_token of tokenizer_config.json is false");
    BOOST_TEST(why("sentencepiece", {{"bos_token", nullptr}}) == unset + ", but there is no such token");
    BOOST_TEST(why("bytes", {{"add_bos_token", true}}) ==
               "the post_processor of tokenizer.json adds none (transformers ignores add_bos_token true beside it)");
}

BOOST_AUTO_TEST_SUITE_END()
