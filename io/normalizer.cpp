// Reads the steps of a normalizer, each into a function from text to text.
#include "io/normalizer.h"

#include <algorithm>

#include "core/error.h"
#include "io/regex_dialect.h"
#include "io/regex_split.h"
#include "io/tokenizer_fields.h"
#include "io/unicode.h"

namespace longlora {

namespace {

struct NamedForm {
    const char* type;
    NormalForm form;
};
constexpr NamedForm kForms[] = {
    {"NFC", NormalForm::nfc}, {"NFD", NormalForm::nfd}, {"NFKC", NormalForm::nfkc}, {"NFKD", NormalForm::nfkd}};

}  // namespace

std::string with_replaced(const std::string& text, const std::string& from, const std::string& to) {
    std::string out;
    std::size_t done = 0;
    for (std::size_t at; (at = text.find(from, done)) != std::string::npos; done = at + from.size())
        out.append(text, done, at - done).append(to);
    return done == 0 ? text : out.append(text, done);
}

Normalizer::Normalizer(const Json& json, const std::string& path) {
    if (!json.is_null()) add(json, path);
}

void Normalizer::add(const Json& json, const std::string& path) {
    const std::string type = get_text(json, "type", path + ", normalizer");
    check_fields(json, "normalizer " + type, path);
    const auto* form =
        std::find_if(std::begin(kForms), std::end(kForms), [&](const NamedForm& f) { return f.type == type; });
    if (form != std::end(kForms)) {
        steps_.push_back([form](const std::string& text) { return normalized(text, form->form); });
    } else if (type == "Lowercase") {
        steps_.push_back([](const std::string& text) { return lowercase(text); });
    } else if (type == "Prepend") {
        const std::string prefix = get_text(json, "prepend", path);
        steps_.push_back([prefix](const std::string& text) { return text.empty() ? text : prefix + text; });
    } else if (type == "Replace") {
        const std::string content = get_text(json, "content", path);
        const GivenPattern pattern = read_pattern(member(json, "pattern", path), "pattern of Replace", path);
        require(!pattern.text.empty(), path, ": a Replace of the normalizer has an empty pattern");
        require(!pattern.is_regex || content.find('$') == std::string::npos, path, ": the Replace of ", pattern.text,
                " by ", content, " refers to a part of the match, which is not supported; tokenize with another ",
                "program and prepare the token ids");
        if (pattern.is_regex) {
            const RegexSplit regex(pattern.pcre(path), path);
            regex.replaced("a", content);  // an Error now instead of in the middle of the texts
            steps_.push_back([regex, content](const std::string& text) { return regex.replaced(text, content); });
        } else {
            steps_.push_back(
                [from = pattern.text, content](const std::string& text) { return with_replaced(text, from, content); });
        }
    } else {
        const Json& parts = member(json, "normalizers", path);  // Sequence
        require(parts.is_array(), path, ": \"normalizers\" is not a list");
        for (const Json& part : parts) add(part, path);
    }
}

std::string Normalizer::apply(std::string_view text) const {
    std::string result(text);
    for (const auto& step : steps_) result = step(result);
    return result;
}

}  // namespace longlora
