// Reads a pattern once from left to right and copies what it knows.
#include "io/regex_dialect.h"

#include <string_view>
#include <vector>

#include "core/error.h"
#include "io/characters.h"
#include "io/newer_characters.h"
#include "io/tokenizer_fields.h"

namespace longlora {

namespace {

constexpr std::string_view kSyntax = R"(\^$.[]|()?*+{}#&-~ )";

/// The general categories of Unicode, which both libraries know by these names. Names of scripts are not here: PCRE2
/// takes them for script extensions.
constexpr std::string_view kCategories =
    " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp ";

class Translation {
public:
    Translation(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {}

    std::string result() {
        while (at_ < pattern_.size()) step();
        if (!fold_depth_.empty()) refuse("a group without an end");
        return out_;
    }

private:
    std::string_view rest() const { return std::string_view(pattern_).substr(at_); }
    std::string shown() const { return pattern_.substr(0, 200); }
    [[noreturn]] void refuse(std::string_view part) const {
        fail(text(where_, ": the pattern ", shown(), " has ", part, " at its byte ", at_,
                  ", which is not supported; tokenize with another program and prepare the token ids"));
    }
    void copy(std::size_t n) {
        out_.append(pattern_, at_, n);
        at_ += n;
    }
    void replace(std::size_t n, std::string_view by) {
        out_ += by;
        at_ += n;
    }
    /// Whether letters of both cases match here.
    bool folds() const { return folding_ > 0; }

    void step() {
        const char c = pattern_[at_];
        const char before = last_letter_;
        last_letter_ = 0;
        if (c == '\\') return escape(false);
        if (c == '[') return whole_class();
        if (c == '(') return group();
        if (c == ')') return end_of_group();
        if (c == '*' || c == '+' || c == '?') return repeat();
        if (c == '{') return interval();
        if (c == '.') return replace(1, R"([^\n])");
        if (c == '^' || c == '$' || c == ']' || c == '}') refuse(std::string_view(&pattern_[at_], 1));
        if (folds()) letter(before);
        copy(1);
    }

    /// Oniguruma also takes one character for several when cases do not count, such as U+00DF for "ss".
    void letter(char before) {
        const auto c = static_cast<unsigned char>(pattern_[at_]);
        if (c >= 0x80) refuse("a letter beyond ASCII whose case does not count");
        last_letter_ = static_cast<char>(c | 0x20);
        const std::string pair{before, last_letter_};
        for (const char* folded : {"ss", "st", "ff", "fi", "fl"})
            if (pair == folded) refuse("letters that one character may stand for");
    }

    void escape(bool in_class) {
        if (at_ + 1 >= pattern_.size()) refuse("a \\ at its end");
        const char c = pattern_[at_ + 1];
        if (c == 's' || c == 'S') {
            const std::string ranges = c == 's' ? kSpaceRanges : kNoSpaceRanges;
            return replace(2, in_class ? ranges : "[" + ranges + "]");
        }
        if (c == 'p' || c == 'P') return property(in_class);
        if (c == 'd' || c == 'D') return category("Nd", c == 'D', 2, in_class);
        if (kSyntax.find(c) != std::string_view::npos ||
            std::string_view("\"/,:;=@_!%rntf").find(c) != std::string_view::npos)
            return copy(2);
        refuse(rest().substr(0, 2));
    }

    /// A general category, or all other characters. PCRE2 may have older tables of Unicode than Oniguruma.
    void category(const std::string& name, bool others, std::size_t bytes, bool in_class) {
        const std::string known = "\\p{" + name + "}" + newer_characters(name);
        if (in_class && others) refuse("a class that has the complement of a category");
        replace(bytes, in_class ? known : (others ? "[^" : "[") + known + "]");
    }

    void property(bool in_class) {
        const std::size_t end = pattern_.find('}', at_);
        if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || end == std::string::npos) refuse("a bare \\p");
        const std::string name = pattern_.substr(at_ + 3, end - at_ - 3);
        if (folds() || name.empty() || name.find(' ') != std::string::npos ||
            kCategories.find(" " + name + " ") == std::string_view::npos)
            refuse(rest().substr(0, end + 1 - at_));
        category(name, pattern_[at_ + 1] == 'P', end + 1 - at_, in_class);
    }

    void whole_class() {
        copy(1);
        if (at_ < pattern_.size() && pattern_[at_] == '^') copy(1);
        for (bool first = true; at_ < pattern_.size(); first = false) {
            const char c = pattern_[at_];
            if (c == ']' && !first) return copy(1);
            if (c == ']' || c == '[' || rest().starts_with("&&")) refuse("a class inside a class");
            if (folds() && static_cast<unsigned char>(c) >= 0x80) refuse("a letter beyond ASCII whose case counts not");
            if (c == '\\') escape_in_class(first);
            else copy(1);
        }
        refuse("a class without an end");
    }

    /// A set of characters is no end of a range.
    void escape_in_class(bool first) {
        const bool set =
            at_ + 1 < pattern_.size() && std::string_view("sSpPdD").find(pattern_[at_ + 1]) != std::string_view::npos;
        if (set && !first && pattern_[at_ - 1] == '-') refuse("a range that ends in a set");
        escape(true);
        if (set && rest().starts_with("-") && !rest().starts_with("-]")) refuse("a range that begins with a set");
    }

    void group() {
        if (!rest().starts_with("(?")) {
            fold_depth_.push_back(folding_);
            return copy(1);
        }
        for (const std::string_view begin : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"})
            if (rest().starts_with(begin)) {
                fold_depth_.push_back(folding_);
                if (begin == "(?i:") ++folding_;
                return copy(begin.size());
            }
        refuse(rest().substr(0, 4));
    }

    void end_of_group() {
        if (fold_depth_.empty()) refuse(")");
        folding_ = fold_depth_.back();
        fold_depth_.pop_back();
        copy(1);
    }

    /// *, + or ?, and a ? or + behind it, which makes it lazy or possessive in both libraries.
    void repeat() {
        copy(1);
        if (at_ < pattern_.size() && (pattern_[at_] == '?' || pattern_[at_] == '+')) copy(1);
        refuse_more_repeats();
    }

    /// {n}, {n,} or {n,m}
    void interval() {
        const std::size_t end = pattern_.find('}', at_);
        const std::string inside = end == std::string::npos ? "" : pattern_.substr(at_ + 1, end - at_ - 1);
        const std::size_t digits = inside.find_first_not_of("0123456789");
        const bool good =
            !inside.empty() && digits != 0 && inside.size() < 12 &&
            (digits == std::string::npos ||
             (inside[digits] == ',' && inside.find_first_not_of("0123456789", digits + 1) == std::string::npos));
        if (!good) refuse("{");
        copy(end + 1 - at_);
        refuse_more_repeats();
    }

    void refuse_more_repeats() const {
        if (at_ < pattern_.size() && std::string_view("*+?{").find(pattern_[at_]) != std::string_view::npos)
            refuse("a repeat of a repeat");
    }

    const std::string& pattern_;
    const std::string& where_;
    std::size_t at_ = 0;
    std::string out_;
    std::vector<int> fold_depth_;  // of each open group: folding_ before it
    int folding_ = 0;              // the open groups whose cases do not count
    char last_letter_ = 0;
};

}  // namespace

std::string pcre_of_oniguruma(const std::string& pattern, const std::string& where) {
    return Translation(pattern, where).result();
}

std::string pcre_of_text(const std::string& text) {
    std::string out;
    for (char c : text) {
        if (kSyntax.find(c) != std::string_view::npos) out += '\\';
        out += c;
    }
    return out;
}

GivenPattern read_pattern(const Json& json, const std::string& part, const std::string& path) {
    check_fields(json, part, path);
    require(json.size() == 1, path, ": the ", part, " is not one String or Regex");
    const bool regex = json.contains("Regex");
    return {get_text(json, regex ? "Regex" : "String", path), regex};
}

}  // namespace longlora
