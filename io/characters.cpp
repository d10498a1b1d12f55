// White_Space is a short list; characters of words are asked from PCRE2, which has the tables of Unicode.
#include "io/characters.h"

#include "io/regex_split.h"

namespace longlora {

const char* const kSpaceRanges =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
const char* const kNoSpaceRanges =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

namespace {

std::string_view first_character(std::string_view text) {
    std::size_t n = text.empty() ? 0 : 1;
    while (n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) ++n;
    return text.substr(0, n);
}

std::string_view last_character(std::string_view text) {
    std::size_t at = text.empty() ? 0 : text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
    return text.substr(at);
}

bool is_space(std::string_view c) {
    if (c.size() == 1) return c[0] == ' ' || (c[0] >= '\t' && c[0] <= '\r');
    if (c.size() == 2) return c == "\xc2\x85" || c == "\xc2\xa0";
    if (c.size() != 3) return false;
    if (c.substr(0, 2) == "\xe2\x80") {
        const auto last = static_cast<unsigned char>(c[2]);
        return last <= 0x8a || last == 0xa8 || last == 0xa9 || last == 0xaf;
    }
    return c == "\xe1\x9a\x80" || c == "\xe2\x81\x9f" || c == "\xe3\x80\x80";
}

bool is_word(std::string_view c) {
    static const RegexSplit word(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])", "a token of single words");
    return !c.empty() && word.matches(c);
}

}  // namespace

std::size_t space_at_begin(std::string_view text) {
    std::size_t n = 0;
    for (;;) {
        const std::string_view c = first_character(text.substr(n));
        if (c.empty() || !is_space(c)) return n;
        n += c.size();
    }
}

std::size_t space_at_end(std::string_view text) {
    std::size_t n = 0;
    for (;;) {
        const std::string_view c = last_character(text.substr(0, text.size() - n));
        if (c.empty() || !is_space(c)) return n;
        n += c.size();
    }
}

bool word_at_begin(std::string_view text) { return is_word(first_character(text)); }
bool word_at_end(std::string_view text) { return is_word(last_character(text)); }

}  // namespace longlora
