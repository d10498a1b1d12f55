// Cuts PTX text into statements and lists.
#include <cctype>
#include <charconv>

#include "sim/ptx/parser.h"

namespace sim::ptx {

void blank_comments(std::string& text) {
    const auto blank = [&](std::size_t from, std::size_t to) {
        for (; from < to; ++from)
            if (text[from] != '\n') text[from] = ' ';
    };
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '"') {
            i = std::min(text.find('"', i + 1), text.size());
        } else if (text.compare(i, 2, "//") == 0) {
            const std::size_t end = std::min(text.find('\n', i), text.size());
            blank(i, end);
            i = end;
        } else if (text.compare(i, 2, "/*") == 0) {
            const std::size_t close = text.find("*/", i + 2),
                              end = close == std::string::npos ? text.size() : close + 2;
            blank(i, end);
            i = end - 1;
        }
    }
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::vector<std::string_view> split_list(std::string_view text) {
    std::vector<std::string_view> parts;
    int depth = 0;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '{' || c == '[' || c == '(') ++depth;
        if (c == '}' || c == ']' || c == ')') --depth;
        if (c == ',' && depth == 0) {
            parts.push_back(trimmed(text.substr(begin, i - begin)));
            begin = i + 1;
        }
    }
    if (const std::string_view last = trimmed(text.substr(begin)); !last.empty() || !parts.empty())
        parts.push_back(last);
    return parts;
}

bool starts_with_word(std::string_view text, std::string_view word) {
    return text.starts_with(word) &&
           (text.size() == word.size() || std::isspace(static_cast<unsigned char>(text[word.size()])));
}

std::optional<std::int64_t> integer_of(std::string_view text) {
    text = trimmed(text);
    bool negative = false;
    while (text.starts_with('-') || text.starts_with('+')) {
        negative ^= text[0] == '-';
        text = trimmed(text.substr(1));
    }
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        base = 16, text.remove_prefix(2);
    } else if (text.starts_with("0b") || text.starts_with("0B")) {
        base = 2, text.remove_prefix(2);
    } else if (text.size() > 1 && text[0] == '0') {
        base = 8, text.remove_prefix(1);
    }
    if (text.ends_with('U')) text.remove_suffix(1);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return static_cast<std::int64_t>(negative ? 0 - value : value);
}

namespace {

bool is_name(std::string_view text) {
    if (text.empty()) return false;
    for (const char c : text)
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '$' && c != '%') return false;
    return true;
}

bool is_line_directive(std::string_view text) {
    for (const std::string_view word :
         {".loc", ".file", ".version", ".target", ".address_size", ".minnctapersm", ".maxnreg"})
        if (starts_with_word(text, word)) return true;
    return false;
}

/// Walks over the text and counts its lines.
struct Cutter {
    std::string_view text;
    std::size_t at = 0;
    int line = 1;
    std::vector<Statement> found;

    void skip_blanks() {
        for (; at < text.size() && std::isspace(static_cast<unsigned char>(text[at])); ++at) line += text[at] == '\n';
    }
    void take(std::size_t end, char kind) {
        found.push_back({trimmed(text.substr(at, end - at)), line, kind});
        for (; at < end; ++at) line += text[at] == '\n';
    }
    /// Where the statement that begins here ends, and the character that ends it.
    std::pair<std::size_t, char> end_of_statement() const {
        const std::string_view rest = text.substr(at);
        if (is_line_directive(rest)) return {std::min(text.find('\n', at), text.size()), '\n'};
        const bool body = rest.starts_with(".entry") || rest.starts_with(".func") || rest.starts_with(".visible") ||
                          rest.starts_with(".weak") || rest.starts_with(".section") || rest.starts_with(".extern");
        for (std::size_t i = at, depth = 0; i < text.size(); ++i) {
            const char c = text[i];
            if (c == '"') i = std::min(text.find('"', i + 1), text.size() - 1);
            if (c == ';' && depth == 0) return {i, ';'};
            if (c == '{' &&
                (i == at || (body && depth == 0 && text.substr(at, i - at).find('=') == std::string_view::npos)))
                return {i, '{'};
            if (c == '{') ++depth;
            if (c == '}' && depth == 0) return {i, '}'};
            if (c == '}') --depth;
            if (c == ':' && is_name(trimmed(text.substr(at, i - at)))) return {i, ':'};
        }
        return {text.size(), '\n'};
    }
};

}  // namespace

std::vector<Statement> statements_of(std::string_view text) {
    Cutter cutter{text, 0, 1, {}};
    for (cutter.skip_blanks(); cutter.at < text.size(); cutter.skip_blanks()) {
        const auto [end, kind] = cutter.end_of_statement();
        const bool only_brace = end == cutter.at && kind != '\n';
        if (!only_brace || kind == '{' || kind == '}') cutter.take(end, kind);
        if (cutter.at < text.size() && kind != '\n') ++cutter.at;
    }
    return std::move(cutter.found);
}

void fault_in_text(const std::string& module, int line, std::string_view text, const std::string& what) {
    throw Fault(module + ", PTX line " + std::to_string(line) + " `" + std::string(text) + "`: " + what);
}

}  // namespace sim::ptx
