// The list of the fields that version 0.23 of the library `tokenizers` reads, for all parts that longlora knows.
#include "io/tokenizer_fields.h"

#include <algorithm>

#include "core/error.h"

namespace longlora {

namespace {

enum class Use { computed, fixed, irrelevant };
constexpr auto computed = Use::computed, fixed = Use::fixed, irrelevant = Use::irrelevant;

struct Field {
    const char* part;
    const char* name;
    Use use;
    const char* note;  // fixed: the possible values; irrelevant: why
};

constexpr Field kFields[] = {
    {"the file", "version", fixed, R"(["1.0"])"},
    {"the file", "truncation", irrelevant, "transformers truncates only on request; prepare never does"},
    {"the file", "padding", irrelevant, "the same"},
    {"the file", "added_tokens", computed, ""},
    {"the file", "normalizer", computed, ""},
    {"the file", "pre_tokenizer", computed, ""},
    {"the file", "post_processor", computed, ""},
    {"the file", "decoder", computed, ""},
    {"the file", "model", computed, ""},

    {"model", "type", computed, ""},
    {"model", "dropout", fixed, "[null, 0]"},
    {"model", "unk_token", computed, ""},
    {"model", "continuing_subword_prefix", fixed, R"([null, ""])"},
    {"model", "end_of_word_suffix", fixed, R"([null, ""])"},
    {"model", "fuse_unk", computed, ""},
    {"model", "byte_fallback", computed, ""},
    {"model", "ignore_merges", computed, ""},
    {"model", "vocab", computed, ""},
    {"model", "merges", computed, ""},

    {"added token", "id", computed, ""},
    {"added token", "content", computed, ""},
    {"added token", "single_word", computed, ""},
    {"added token", "lstrip", computed, ""},
    {"added token", "rstrip", computed, ""},
    {"added token", "normalized", computed, ""},
    {"added token", "special", computed, ""},

    {"normalizer NFC", "type", computed, ""},
    {"normalizer NFD", "type", computed, ""},
    {"normalizer NFKC", "type", computed, ""},
    {"normalizer NFKD", "type", computed, ""},
    {"normalizer Lowercase", "type", computed, ""},
    {"normalizer Prepend", "type", computed, ""},
    {"normalizer Prepend", "prepend", computed, ""},
    {"normalizer Replace", "type", computed, ""},
    {"normalizer Replace", "pattern", computed, ""},
    {"normalizer Replace", "content", computed, ""},
    {"normalizer Sequence", "type", computed, ""},
    {"normalizer Sequence", "normalizers", computed, ""},
    {"pattern of Replace", "String", computed, ""},
    {"pattern of Replace", "Regex", computed, ""},

    {"pre-tokenizer Sequence", "type", computed, ""},
    {"pre-tokenizer Sequence", "pretokenizers", computed, ""},
    {"pre-tokenizer Digits", "type", computed, ""},
    {"pre-tokenizer Digits", "individual_digits", computed, ""},
    {"pre-tokenizer Split", "type", computed, ""},
    {"pre-tokenizer Split", "pattern", computed, ""},
    {"pre-tokenizer Split", "behavior", fixed, R"(["Isolated"])"},
    {"pre-tokenizer Split", "invert", irrelevant, "Isolated pieces are the same for matches and for what is between"},
    {"pattern of Split", "String", computed, ""},
    {"pattern of Split", "Regex", computed, ""},
    {"pre-tokenizer ByteLevel", "type", computed, ""},
    {"pre-tokenizer ByteLevel", "add_prefix_space", computed, ""},
    {"pre-tokenizer ByteLevel", "trim_offsets", irrelevant, "it changes offsets only"},
    {"pre-tokenizer ByteLevel", "use_regex", computed, ""},
    {"pre-tokenizer Metaspace", "type", computed, ""},
    {"pre-tokenizer Metaspace", "replacement", computed, ""},
    {"pre-tokenizer Metaspace", "prepend_scheme", computed, ""},
    {"pre-tokenizer Metaspace", "split", computed, ""},
    {"pre-tokenizer Metaspace", "add_prefix_space", computed, ""},
    {"pre-tokenizer Metaspace", "str_rep", irrelevant, "the same as replacement"},

    {"post_processor Sequence", "type", computed, ""},
    {"post_processor Sequence", "processors", computed, ""},
    {"post_processor ByteLevel", "type", computed, ""},
    {"post_processor ByteLevel", "add_prefix_space", irrelevant, "it changes offsets only"},
    {"post_processor ByteLevel", "trim_offsets", irrelevant, "it changes offsets only"},
    {"post_processor ByteLevel", "use_regex", irrelevant, "it is of pre-tokenizers"},
    {"post_processor TemplateProcessing", "type", computed, ""},
    {"post_processor TemplateProcessing", "single", computed, ""},
    {"post_processor TemplateProcessing", "pair", irrelevant, "it is of two texts"},
    {"post_processor TemplateProcessing", "special_tokens", computed, ""},
    {"post_processor RobertaProcessing", "type", computed, ""},
    {"post_processor RobertaProcessing", "sep", computed, ""},
    {"post_processor RobertaProcessing", "cls", computed, ""},
    {"post_processor RobertaProcessing", "trim_offsets", irrelevant, "it changes offsets only"},
    {"post_processor RobertaProcessing", "add_prefix_space", irrelevant, "it changes offsets only"},
    {"post_processor BertProcessing", "type", computed, ""},
    {"post_processor BertProcessing", "sep", computed, ""},
    {"post_processor BertProcessing", "cls", computed, ""},

    {"decoder Sequence", "type", computed, ""},
    {"decoder Sequence", "decoders", computed, ""},
    {"decoder ByteLevel", "type", computed, ""},
    {"decoder ByteLevel", "add_prefix_space", irrelevant, "it is of pre-tokenizers"},
    {"decoder ByteLevel", "trim_offsets", irrelevant, "it is of pre-tokenizers"},
    {"decoder ByteLevel", "use_regex", irrelevant, "it is of pre-tokenizers"},
    {"decoder ByteFallback", "type", computed, ""},
    {"decoder Fuse", "type", computed, ""},
    {"decoder Replace", "type", computed, ""},
    {"decoder Replace", "pattern", computed, ""},
    {"decoder Replace", "content", computed, ""},
    {"decoder Strip", "type", computed, ""},
    {"decoder Strip", "content", computed, ""},
    {"decoder Strip", "start", computed, ""},
    {"decoder Strip", "stop", fixed, "[0]"},
    {"decoder Metaspace", "type", computed, ""},
    {"decoder Metaspace", "replacement", computed, ""},
    {"decoder Metaspace", "prepend_scheme", computed, ""},
    {"decoder Metaspace", "split", irrelevant, "it is of pre-tokenizers"},
    {"decoder Metaspace", "add_prefix_space", computed, ""},
    {"decoder Metaspace", "str_rep", irrelevant, "the same as replacement"},
};

constexpr const char* kWayOut = "; tokenize with another program and prepare the token ids";

}  // namespace

void check_fields(const Json& object, const std::string& part, const std::string& path) {
    require(object.is_object(), path, ": ", part, " is ", to_line(object).substr(0, 60), ", not an object");
    require(std::any_of(std::begin(kFields), std::end(kFields), [&](const Field& f) { return f.part == part; }), path,
            ": the ", part, " is not supported", kWayOut);
    for (const auto& [name, value] : object.items()) {
        const auto field = std::find_if(std::begin(kFields), std::end(kFields),
                                        [&, n = name](const Field& f) { return f.part == part && f.name == n; });
        require(field != std::end(kFields), path, ": ", part, " has the field \"", name,
                "\", which longlora does not know", kWayOut);
        if (field->use != fixed) continue;
        const Json values = Json::parse(field->note);
        require(std::find(values.begin(), values.end(), value) != values.end(), path, ": \"", name, "\" of ", part,
                " is ", to_line(value).substr(0, 200), "; only ", to_line(values).substr(1, to_line(values).size() - 2),
                " is supported", kWayOut);
    }
}

}  // namespace longlora
