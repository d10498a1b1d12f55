// Parses declarations of registers and variables, and computes the bytes of initialisers.
#include <cstring>

#include "sim/ptx/declarations.h"

namespace sim::ptx {

namespace {

/// The next word, and the text that follows it.
std::pair<std::string_view, std::string_view> next_word(std::string_view text) {
    text = trimmed(text);
    const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
    return {text.substr(0, end), trimmed(text.substr(end))};
}

/// The number of elements of "name", "name[16]", "name[2][3]"; 0 for "name[]". Cuts the brackets off `name`.
std::size_t elements_of(std::string_view& name, const Module& module, int line) {
    const std::size_t open = name.find('[');
    if (open == std::string_view::npos) return 1;
    std::size_t elements = 1;
    for (std::size_t at = open; at != std::string_view::npos && at < name.size(); at = name.find('[', at + 1)) {
        const std::size_t close = name.find(']', at);
        if (close == std::string_view::npos) fault_in_text(module.name, line, name, "] is missing");
        const std::string_view inside = trimmed(name.substr(at + 1, close - at - 1));
        const auto value = inside.empty() ? std::optional<std::int64_t>(0) : integer_of(inside);
        if (!value || *value < 0) fault_in_text(module.name, line, name, "not a size");
        elements *= static_cast<std::size_t>(*value);
    }
    name = trimmed(name.substr(0, open));
    return elements;
}

}  // namespace

std::vector<Declaration> declarations_of(std::string_view text, const Module& module, int line) {
    Declaration common;
    unsigned vector = 1;
    text = trimmed(text);
    bool has_alignment = false;
    while (text.starts_with('.')) {
        const auto [word, rest] = next_word(text);
        text = rest;
        if (word == ".align") {
            const auto [number, after] = next_word(rest);
            const auto alignment = integer_of(number);
            if (!alignment || *alignment <= 0) fault_in_text(module.name, line, text, "not an alignment");
            common.alignment = static_cast<std::size_t>(*alignment), has_alignment = true;
            text = after;
        } else if (word == ".ptr") {
            continue;
        } else if (word == ".global" || word == ".shared" || word == ".const" || word == ".local") {
            continue;  // part of a pointer parameter
        } else if (word == ".v2" || word == ".v4") {
            vector = word == ".v2" ? 2 : 4;
        } else if (const Type type = type_named(word.substr(1)); type != Type::none) {
            if (common.type == Type::none) common.type = type;
        } else {
            fault_in_text(module.name, line, word, "not known in a declaration");
        }
    }
    if (common.type == Type::none) fault_in_text(module.name, line, text, "a declaration without a type");
    if (!has_alignment) common.alignment = std::max<std::size_t>(1, bytes_of(common.type)) * vector;
    std::vector<Declaration> result;
    for (const std::string_view part : split_list(text)) {
        Declaration it = common;
        const std::size_t equals = part.find('=');
        it.name = trimmed(part.substr(0, equals));
        if (equals != std::string_view::npos) it.initialiser = trimmed(part.substr(equals + 1));
        const std::size_t elements = elements_of(it.name, module, line);
        it.is_extern_array = elements == 0;
        it.bytes = elements * bytes_of(it.type) * vector;
        result.push_back(it);
    }
    return result;
}

namespace {

/// The bits of one number of an initialiser, or the address of the variable that it names.
std::uint64_t initial_bits(std::string_view text, const Module& module, int line,
                           const std::unordered_map<std::string, Symbol>& symbols) {
    if (text.size() > 2 && text[0] == '0' && (text[1] == 'f' || text[1] == 'F' || text[1] == 'd' || text[1] == 'D') &&
        (text.size() == 10 || text.size() == 18))
        return static_cast<std::uint64_t>(*integer_of("0x" + std::string(text.substr(2))));
    if (const auto value = integer_of(text)) return static_cast<std::uint64_t>(*value);
    std::string name(text);
    if (name.starts_with("generic(")) name = name.substr(8, name.size() - 9);
    const auto symbol = symbols.find(name);
    if (symbol == symbols.end() || symbol->second.kind != Symbol::Kind::variable)
        fault_in_text(module.name, line, text, "not known in an initialiser");
    return symbol->second.address;
}

}  // namespace

void fill_initial(std::byte* to, const Declaration& declaration, const Module& module, int line,
                  const std::unordered_map<std::string, Symbol>& symbols) {
    std::string flat;
    for (const char c : declaration.initialiser)
        if (c != '{' && c != '}') flat += c;
    const std::size_t each = bytes_of(declaration.type);
    std::size_t at = 0;
    for (const std::string_view part : split_list(flat)) {
        const std::uint64_t bits = initial_bits(part, module, line, symbols);
        if (at + each > declaration.bytes)
            fault_in_text(module.name, line, declaration.name, "more initial values than elements");
        std::memcpy(to + at, &bits, each);
        at += each;
    }
}

}  // namespace sim::ptx
