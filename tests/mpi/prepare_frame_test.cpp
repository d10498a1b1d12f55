// The ids that `longlora prepare` puts around texts, on as many ranks as mpirun started, and ranks whose tokenizers
// differ. Checks do not throw: a rank that left early would hang the others.
#include <boost/test/unit_test.hpp>

#include "io/json.h"
#include "io/token_file.h"
#include "prepare_testing.h"

using namespace longlora;
using namespace longlora::prepare_testing;

namespace {

/// A folder with a byte-level tokenizer whose ids are bytes, and <s> (256) and </s> (257).
std::string byte_tokenizer(const Shared& shared, const std::string& folder, bool begins_with_bos) {
    Json json = read_json_file(SOURCE_FOLDER "/tests/golden/tokenizers/bytes/tokenizer.json");
    for (const auto& [content, id] : {std::pair{"<s>", 256}, std::pair{"</s>", 257}})
        json["added_tokens"].push_back({{"id", id},
                                        {"content", content},
                                        {"single_word", false},
                                        {"lstrip", false},
                                        {"rstrip", false},
                                        {"normalized", false},
                                        {"special", true}});
    const Json text = {{"Sequence", {{"id", "A"}}}}, bos = {{"SpecialToken", {{"id", "bos"}}}};
    if (begins_with_bos)
        json["post_processor"] = {{"type", "TemplateProcessing"},
                                  {"single", Json::array({bos, text})},
                                  {"special_tokens", {{"bos", {{"id", "bos"}, {"ids", {256}}}}}}};
    shared.spill(folder + "/tokenizer.json", json.dump());
    shared.spill(folder + "/tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    return shared / folder;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(prepare_frame)

BOOST_AUTO_TEST_CASE(texts_begin_and_end_as_the_tokenizer_and_the_options_say) {
    Shared shared;
    shared.spill("texts.jsonl", "{\"text\": \"A\"}\n{\"text\": \"<s>A</s>\"}\n{\"tokens\": [65]}\n");
    const std::string none = byte_tokenizer(shared, "none", false), adds = byte_tokenizer(shared, "adds", true);
    using Ids = std::vector<std::int32_t>;
    const auto check = [&](const std::string& tokenizer, const std::string& bos, bool eos, const Ids& expected) {
        PrepareOptions options;
        options.output = shared / "out.h5";
        options.inputs = {shared / "texts.jsonl"};
        options.tokenizer = tokenizer;
        options.bos = bos, options.eos = eos;
        BOOST_TEST(sentence_of(options, shared.group) == "");
        const TokenFile file(options.output);
        Ids ids(file.num_tokens());
        file.read(0, file.num_tokens(), ids.data());
        BOOST_TEST(ids == expected, boost::test_tools::per_element());
        BOOST_TEST((ids == expected), tokenizer << ", --bos " << bos << ", --eos " << eos);
        shared.group.barrier();
    };
    check(none, "auto", false, {65, 256, 65, 257, 65});
    check(none, "auto", true, {65, 257, 256, 65, 257, 65});
    check(none, "true", false, {256, 65, 256, 65, 257, 65});
    check(adds, "auto", false, {256, 65, 256, 256, 65, 257, 65});  // twice, as with transformers
    check(adds, "true", true, {256, 65, 257, 256, 65, 257, 65});
    check(adds, "false", true, {65, 257, 256, 65, 257, 65});
}

BOOST_AUTO_TEST_CASE(ranks_that_read_another_tokenizer_are_refused) {
    Shared shared;
    const std::string first = byte_tokenizer(shared, "first", true), other = byte_tokenizer(shared, "other", false);
    shared.spill("text.txt", "some text");
    PrepareOptions options;
    options.output = shared / "out.h5";
    options.inputs = {shared / "text.txt"};
    options.tokenizer = shared.group.rank() == 1 ? other : first;
    const std::string said = sentence_of(options, shared.group);
    if (shared.group.size() == 1) BOOST_TEST(said == "");
    else BOOST_TEST(said.find("differs from that on rank 0") != std::string::npos, said);
}

BOOST_AUTO_TEST_SUITE_END()
