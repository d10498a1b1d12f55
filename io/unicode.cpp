// Gives utf8proc the parts of a text that need it. What lies between them, ASCII and what `tokenizers` does not know,
// is copied.
#include "io/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "io/utf8.h"

namespace longlora {

namespace {

struct Range {
    std::int32_t first, last;
};

/// Characters that came after Unicode 9 and have a combining class, a decomposition or a composition. Each range also
/// covers characters beside them that no normal form changes. (Compared with `tokenizers` for every code point.)
constexpr Range kNewer[] = {
    {0x558, 0x558},     {0x58b, 0x58c},     {0x5c8, 0x5c9},     {0x7fd, 0x7fd},     {0x897, 0x8d3},
    {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
    {0x1abf, 0x1af0},   {0x1df6, 0x1dfa},   {0x209d, 0x209f},   {0x32ff, 0x32ff},   {0xa7f1, 0xa7f4},
    {0xa82c, 0xa82c},   {0xab69, 0xab69},   {0x105c9, 0x107bf}, {0x10d24, 0x10f85}, {0x11070, 0x11070},
    {0x1133b, 0x1133b}, {0x11383, 0x113d0}, {0x1145e, 0x1145e}, {0x11839, 0x11a99}, {0x11d42, 0x1612f},
    {0x16d63, 0x1b126}, {0x1ccd6, 0x1d128}, {0x1d250, 0x1d281}, {0x1d6a6, 0x1d6a6}, {0x1df95, 0x1dfff},
    {0x1e030, 0x1e6f5}, {0x1f16c, 0x1f16c}, {0x1fbf0, 0x1fbf9}};

/// Capital letters that came after Unicode 14, and what to add for the small letter.
struct Capitals {
    std::int32_t first, last, distance;
};
constexpr Capitals kNewerCapitals[] = {{0x1c89, 0x1c89, 1},      {0xa7cb, 0xa7cb, 0x264 - 0xa7cb},
                                       {0xa7cc, 0xa7cc, 1},      {0xa7ce, 0xa7ce, 1},
                                       {0xa7d2, 0xa7d2, 1},      {0xa7d4, 0xa7d4, 1},
                                       {0xa7da, 0xa7da, 1},      {0xa7dc, 0xa7dc, 0x19b - 0xa7dc},
                                       {0x10d50, 0x10d65, 0x20}, {0x16ea0, 0x16eb8, 0x1b}};

bool is_newer(std::int32_t c) {
    const auto* range = std::partition_point(std::begin(kNewer), std::end(kNewer), [c](Range r) { return r.last < c; });
    return range != std::end(kNewer) && range->first <= c;
}

/// The character at text[0], and its bytes; `text` is not empty.
std::int32_t first_character(std::string_view text, std::size_t& bytes) {
    utf8proc_int32_t c = 0;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &c);
    ensure(length > 0, "only valid UTF-8 is normalized");
    bytes = static_cast<std::size_t>(length);
    return c;
}

utf8proc_option_t options_of(NormalForm form) {
    const bool compose = form == NormalForm::nfc || form == NormalForm::nfkc;
    const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
    return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                          (compatible ? UTF8PROC_COMPAT : 0));
}

void append_by_utf8proc(std::string& out, std::string_view text, utf8proc_option_t options) {
    if (text.empty()) return;
    utf8proc_uint8_t* result = nullptr;
    const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &result, options);
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> memory(result, std::free);
    require(length >= 0, "utf8proc cannot normalize a text: ", utf8proc_errmsg(length));
    out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(length));
}

/// A part of a text that is either copied or given to utf8proc. ASCII is copied up to the last character before
/// another one, which may take a mark.
std::size_t ascii_to_copy(std::string_view text) {
    std::size_t n = 0;
    while (n < text.size() && static_cast<unsigned char>(text[n]) < 0x80) ++n;
    return n == text.size() || n == 0 ? n : n - 1;
}

}  // namespace

std::string normalized(std::string_view text, NormalForm form) {
    std::string out;
    out.reserve(text.size());
    const utf8proc_option_t options = options_of(form);
    while (!text.empty()) {
        const std::size_t plain = ascii_to_copy(text);
        out.append(text.substr(0, plain));
        text.remove_prefix(plain);
        std::size_t n = 0, bytes = 0;
        bool newer = false, ascii_before = false;
        while (n < text.size()) {
            const bool ascii = static_cast<unsigned char>(text[n]) < 0x80;
            if (ascii && ascii_before) break;  // nothing crosses two characters of ASCII
            newer = is_newer(first_character(text.substr(n), bytes));
            if (newer) break;
            n += bytes;
            ascii_before = ascii;
        }
        append_by_utf8proc(out, text.substr(0, n), options);
        if (newer) out.append(text.substr(n, bytes)), n += bytes;
        text.remove_prefix(n);
    }
    return out;
}

std::string lowercase(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t bytes = 0; !text.empty(); text.remove_prefix(bytes)) {
        const std::int32_t c = first_character(text, bytes);
        if (c == 0x130) {  // the only character whose small letter is two characters
            out += "i\xcc\x87";
            continue;
        }
        const auto* capitals = std::find_if(std::begin(kNewerCapitals), std::end(kNewerCapitals),
                                            [c](Capitals r) { return r.first <= c && c <= r.last; });
        const std::int32_t small = capitals != std::end(kNewerCapitals) ? c + capitals->distance : utf8proc_tolower(c);
        if (small == c) out.append(text.substr(0, bytes));
        else out += utf8_of(static_cast<std::uint32_t>(small));
    }
    return out;
}

}  // namespace longlora
