// mutate: makes wrong kernels by rule, for mutations/run.sh, which checks that the tests find the error. It reads the
// PTX text of the kernels (the simulated runtime writes it with SIM_DUMP_PTX) and lists or applies mutations. A
// mutation removes one instruction of one kernel or changes it in a way that a programmer could have got wrong. The
// program does not know what the kernels compute. The simulated runtime makes the mutations of host code
// (tests/sim/runtime/mutation.h).
//   mutate list FILE
//       Prints one mutation a line: KERNEL RULE NUMBER LINE SOURCE TEXT. SOURCE is tiles.cuh:77<forward.cu:160, the
//       source line and the lines that had it inlined.
//   mutate apply FILE KERNEL RULE NUMBER
//       Prints the whole text with that mutation. KERNEL is a part of the name that only one kernel has.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace {

struct Rule {
    const char* name;
    const char* pattern;      // matches a whole instruction
    const char* replacement;  // "" removes the instruction
};

// One operand: a register name or an address. In m16n8k16 the fragment A has four registers, B two, C and D four.
constexpr const char kReg[] = R"(([^,{}\]\s]+))";

std::vector<Rule> rules() {
    static const std::string mma = std::string(R"((mma\.sync\S+\s+\{[^}]*\},\s*)\{)") + kReg + ", " + kReg + ", " +
                                   kReg + ", " + kReg + R"(\}, \{)" + kReg + ", " + kReg + R"(\}(.*))";
    return {
        {"drop-barrier", R"((bar|barrier)(\.cta)?\.(sync|red)\S*.*)", ""},
        {"drop-warp-barrier", R"(bar\.warp\.sync.*)", ""},
        {"drop-wait", R"(cp\.async\.wait_(group|all).*)", ""},
        {"late-wait", R"((cp\.async\.wait_group\s+)0(.*))", "$011$2"},
        {"drop-commit", R"(cp\.async\.commit_group.*)", ""},
        {"drop-copy", R"(cp\.async\.c[ag]\..*)", ""},
        {"drop-zero-fill", R"((cp\.async\.cg\S*\s+\[[^\]]*\], \[[^\]]*\], 16), [^;]+(.*))", "$1$2"},
        {"drop-transposition", R"((ldmatrix\S*)\.trans(.*))", "$1$2"},
        {"swap-a-rows", mma.c_str(), "$1{$3, $2, $5, $4}, {$6, $7}$8"},
        {"swap-a-halves", mma.c_str(), "$1{$4, $5, $2, $3}, {$6, $7}$8"},
        {"swap-b", mma.c_str(), "$1{$2, $3, $4, $5}, {$7, $6}$8"},
        {"swap-packed", R"((cvt\.rn\.bf16x2\.f32\s+[^,]+), ([^,]+), ([^;]+)(.*))", "$1, $3, $2$4"},
        {"bound-lower", R"((setp\.)le(\.[su](?:32|64)\s.*))", "$01lt$2"},
        {"bound-higher", R"((setp\.)lt(\.[su](?:32|64)\s.*))", "$01le$2"},
        {"bound-lower-from-above", R"((setp\.)gt(\.[su](?:32|64)\s.*))", "$01ge$2"},
        {"bound-higher-from-above", R"((setp\.)ge(\.[su](?:32|64)\s.*))", "$01gt$2"},
        {"equal-unequal", R"((setp\.)eq(\.[su](?:32|64)\s.*))", "$01ne$2"},
        {"other-lane", R"((shfl\.sync\.bfly\.b32\s+[^,]+, [^,]+), (\S+), (.*))", "$1, 8, $3"},
        {"drop-maximum", R"(max\.f32\s+([^,]+), ([^,]+), ([^;]+)(.*))", "mov.f32 $1, $2;"},
        {"drop-store", R"(st\.(global|shared)\..*)", ""},
    };
}

std::vector<std::string> lines_of(const char* file) {
    std::ifstream in(file);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
}

struct Site {
    std::string kernel;
    const Rule* rule;
    int number;  // counts the places of this rule in this kernel from 0
    std::size_t line;
    std::string source;
};

/// The source line of the current instruction, by the .loc lines that the compiler wrote into the text.
class Sources {
public:
    explicit Sources(const std::vector<std::string>& lines) {
        static const std::regex form(R"rx(^\s*\.file\s+(\d+) "(?:.*/)?([^/"]+)".*)rx");
        std::smatch found;
        for (const std::string& line : lines)
            if (std::regex_match(line, found, form)) names_[found[1]] = found[2];
    }
    void look_at(const std::string& line) {
        static const std::regex form(
            R"(^\s*\.loc\s+(\d+) (\d+) \d+(?:, function_name \S+ inlined_at (\d+) (\d+) \d+)?.*)");
        std::smatch found;
        if (!std::regex_match(line, found, form) || found[2] == "0") return;
        now_ = names_[found[1]] + ":" + found[2].str();
        if (found[3].matched) outer_[now_] = names_[found[3]] + ":" + found[4].str();
        else outer_.erase(now_);
    }
    std::string now() const {
        std::string chain = now_, last = now_;
        for (int depth = 0; depth < 8 && outer_.count(last); ++depth) chain += "<" + (last = outer_.at(last));
        return chain;
    }

private:
    std::map<std::string, std::string> names_, outer_;
    std::string now_ = "?";
};

/// Matches a line with one instruction and an optional predicate before it.
const std::regex& instruction() {
    static const std::regex form(R"(^(\s*(?:@!?%p\d+\s+)?)([a-z][^;]*;)\s*$)");
    return form;
}

std::vector<Site> sites_of(const std::vector<std::string>& lines, const std::vector<Rule>& all) {
    static const std::regex entry(R"(\.entry\s+([^\s(]+))");
    std::vector<std::regex> patterns;
    for (const Rule& rule : all) patterns.emplace_back(rule.pattern);
    std::vector<Site> sites;
    std::map<std::string, int> counts;
    std::string kernel;
    Sources sources(lines);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        std::smatch found;
        sources.look_at(lines[i]);
        if (std::regex_search(lines[i], found, entry)) kernel = found[1], counts.clear();
        if (kernel.empty() || !std::regex_match(lines[i], found, instruction())) continue;
        const std::string text = found[2];
        for (std::size_t r = 0; r < all.size(); ++r)
            if (std::regex_match(text, patterns[r]))
                sites.push_back({kernel, &all[r], counts[all[r].name]++, i, sources.now()});
    }
    return sites;
}

int list(const std::vector<std::string>& lines) {
    const auto all = rules();
    for (const Site& site : sites_of(lines, all))
        std::cout << site.kernel << ' ' << site.rule->name << ' ' << site.number << ' ' << site.line + 1 << ' '
                  << site.source << ' ' << std::regex_replace(lines[site.line], std::regex(R"(\s+)"), " ") << '\n';
    return 0;
}

int apply(std::vector<std::string> lines, const std::string& kernel, const std::string& rule, int number) {
    const auto all = rules();
    for (const Site& site : sites_of(lines, all)) {
        if (site.kernel.find(kernel) == std::string::npos || site.rule->name != rule || site.number != number) continue;
        std::smatch found;
        std::regex_match(lines[site.line], found, instruction());
        const std::string text = found[2], before = found[1];
        const std::string changed =
            *site.rule->replacement ? std::regex_replace(text, std::regex(site.rule->pattern), site.rule->replacement)
                                    : "";
        if (changed == text) break;
        std::cerr << "line " << site.line + 1 << ": " << text << "  ->  " << (changed.empty() ? "(nothing)" : changed)
                  << '\n';
        lines[site.line] = changed.empty() ? "" : before + changed;
        for (const std::string& line : lines) std::cout << line << '\n';
        return 0;
    }
    std::cerr << "mutate: there is no mutation " << rule << ' ' << number << " in a kernel named " << kernel << '\n';
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::strcmp(argv[1], "list") == 0) return list(lines_of(argv[2]));
    if (argc == 6 && std::strcmp(argv[1], "apply") == 0)
        return apply(lines_of(argv[2]), argv[3], argv[4], std::atoi(argv[5]));
    std::cerr << "usage: mutate list FILE | mutate apply FILE KERNEL RULE NUMBER\n";
    return 2;
}
