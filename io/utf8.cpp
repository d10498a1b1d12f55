// Repairs text in one pass over its bytes, by the table of well-formed sequences (Unicode 15, table 3-7).
#include "io/utf8.h"

#include <cstring>

namespace longlora {

namespace {

struct Sequence {
    int length;       // bytes of the sequence, or of its longest well-formed beginning; at least 1
    bool good;        // complete and well-formed
    bool needs_more;  // incomplete, but well-formed up to the end of the input
};

/// Examines the sequence that begins at text[0]; `text` is not empty.
Sequence next_sequence(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return {1, true, false};
    if (lead < 0xc2 || lead > 0xf4) return {1, false, false};
    const int length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    for (int i = 1; i < length; ++i) {
        if (static_cast<std::size_t>(i) == text.size()) return {i, false, true};
        unsigned char low = 0x80, high = 0xbf;
        if (i == 1) {  // no overlong forms, no surrogates, nothing beyond U+10FFFF
            if (lead == 0xe0) low = 0xa0;
            if (lead == 0xed) high = 0x9f;
            if (lead == 0xf0) low = 0x90;
            if (lead == 0xf4) high = 0x8f;
        }
        if (byte(static_cast<std::size_t>(i)) < low || byte(static_cast<std::size_t>(i)) > high)
            return {i, false, false};
    }
    return {length, true, false};
}

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

/// The length of the longest valid prefix of `text`. Eight bytes of ASCII are skipped at once.
std::size_t valid_prefix(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        std::uint64_t word = 0x80;
        if (text.size() - at >= 8) std::memcpy(&word, text.data() + at, 8);
        if ((word & 0x8080808080808080ull) == 0) {
            at += 8;
            continue;
        }
        const Sequence next = next_sequence(text.substr(at));
        if (!next.good) return at;
        at += static_cast<std::size_t>(next.length);
    }
    return at;
}

}  // namespace

std::string Utf8Repair::add(std::string_view bytes) {
    waiting_.append(bytes);
    std::string out;
    std::string_view rest = waiting_;
    while (!rest.empty()) {
        const std::size_t valid = valid_prefix(rest);
        out.append(rest.substr(0, valid));
        rest.remove_prefix(valid);
        if (rest.empty()) break;
        const Sequence bad = next_sequence(rest);
        if (bad.needs_more) break;
        out.append(kReplacement);
        ++num_replaced_;
        rest.remove_prefix(bad.length);
    }
    waiting_ = std::string(rest);
    return out;
}

std::string Utf8Repair::finish() {
    if (waiting_.empty()) return "";
    waiting_.clear();
    ++num_replaced_;
    return std::string(kReplacement);
}

std::int64_t repair_utf8(std::string& text) {
    if (valid_prefix(text) == text.size()) return 0;  // the usual case, without a copy
    Utf8Repair repair;
    std::string good = repair.add(text);
    good += repair.finish();
    text = std::move(good);
    return repair.num_replaced();
}

std::string utf8_of(std::uint32_t c) {
    const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
    if (c < 0x80) return {byte(c)};
    if (c < 0x800) return {byte(0xc0 | c >> 6), byte(0x80 | (c & 63))};
    if (c < 0x10000) return {byte(0xe0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
    return {byte(0xf0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
}

}  // namespace longlora
