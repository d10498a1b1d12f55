// Decodes the body of a kernel: scopes, declarations, labels, jumps, and the functions that it calls, which become part
// of its code.
#include <algorithm>
#include <cctype>

#include "sim/ptx/decoder.h"
#include "sim/ptx/operands.h"

namespace sim::ptx {

const Symbol* Builder::find(std::string_view name) {
    const std::string key(name);
    for (std::size_t s = scopes.size(); s-- > 0;) {
        if (const auto found = scopes[s].find(key); found != scopes[s].end()) return &found->second;
        if (ranges[s].empty()) continue;
        std::size_t digits = name.size();
        while (digits > 0 && std::isdigit(static_cast<unsigned char>(name[digits - 1]))) --digits;
        const auto range = ranges[s].find(std::string(name.substr(0, digits)));
        if (range == ranges[s].end() || digits == name.size() || std::stoul(key.substr(digits)) >= range->second.second)
            continue;
        Symbol symbol;
        symbol.type = range->second.first;
        symbol.row = new_row(symbol.type);
        return &scopes[s].emplace(key, symbol).first->second;
    }
    const auto found = module_symbols.find(key);
    if (found == module_symbols.end()) return nullptr;
    if (found->second.kind != Symbol::Kind::shared) return &found->second;
    Symbol symbol = found->second;  // a .shared variable of the module takes room in the kernels that name it
    symbol.address = reserve_shared(symbol.bytes, symbol.alignment);
    return &scopes.front().emplace(key, symbol).first->second;
}

Row Builder::new_row(Type type) {
    const std::size_t at = kernel.register_bytes + kRowHeader;
    kernel.register_bytes = at + row_bytes(bytes_of(type));
    kernel.rows.push_back(static_cast<Row>(at));
    return static_cast<Row>(at);
}

std::size_t Builder::reserve_local(std::size_t bytes, std::size_t alignment) {
    kernel.local_bytes = (kernel.local_bytes + alignment - 1) / alignment * alignment;
    const std::size_t at = kernel.local_bytes;
    kernel.local_bytes += bytes;
    return at;
}

std::size_t Builder::reserve_shared(std::size_t bytes, std::size_t alignment) {
    const std::size_t at = (kernel.static_shared + alignment - 1) / alignment * alignment;
    kernel.static_shared = at + bytes;
    return at;
}

void Builder::declare(const Statement& statement) {
    const std::string_view text = statement.text;
    const std::size_t word = text.find_first_of(" \t\n");
    const std::string_view space = text.substr(0, word);
    for (const Declaration& it : declarations_of(text.substr(word), module, statement.line)) {
        Symbol symbol;
        symbol.type = it.type;
        symbol.bytes = it.bytes;
        if (space == ".reg") {
            if (const std::size_t open = it.name.find('<'); open != std::string_view::npos) {
                const auto number = integer_of(it.name.substr(open + 1, it.name.size() - open - 2));
                if (!number || bytes_of(it.type) > 8)
                    fault_in_text(module.name, statement.line, text, "not a range of registers");
                ranges.back()[std::string(it.name.substr(0, open))] = {it.type, static_cast<unsigned>(*number)};
                continue;
            }
            if (bytes_of(it.type) > 8)
                fault_in_text(module.name, statement.line, text, "registers of 128 bits are not known");
            symbol.row = new_row(it.type);
        } else if (space == ".shared") {
            symbol.kind = Symbol::Kind::shared;
            symbol.address = reserve_shared(it.bytes, it.alignment);
        } else if (space == ".local" || space == ".param") {
            symbol.kind = Symbol::Kind::local;
            symbol.address = reserve_local(it.bytes, std::max<std::size_t>(it.alignment, 8));
        } else {
            fault_in_text(module.name, statement.line, text, "a declaration that is not known here");
        }
        scopes.back()[std::string(it.name)] = symbol;
    }
}

std::uint32_t Builder::emit(Decoder& decoder) {
    const auto pc = static_cast<std::uint32_t>(kernel.code.size());
    kernel.code.push_back(decoder.out);
    std::string_view opcode = decoder.statement.text;
    if (opcode.starts_with('@')) opcode = trimmed(opcode.substr(std::min(opcode.find_first_of(" \t"), opcode.size())));
    kernel.origins.push_back(
        {decoder.statement.line, source, decoder.statement.text, opcode.substr(0, opcode.find_first_of(" \t\n;"))});
    return pc;
}

std::uint32_t Builder::function(std::string_view name, const Decoder& decoder) {
    const std::string key(name);
    const auto body = functions.find(key);
    if (body == functions.end()) decoder.fail("function `" + key + "` has no body here");
    const auto [entry, is_new] = function_index.try_emplace(key, static_cast<std::uint32_t>(kernel.functions.size()));
    calls.emplace_back(current_function, static_cast<int>(entry->second));
    if (!is_new) return entry->second;
    kernel.functions.push_back({key, 0, new_row(Type::b32)});
    pending.push_back(key);
    std::vector<Symbol> lists[2];
    for (int k = 0; k < 2; ++k)
        for (const std::string_view parameter : k == 0 ? body->second.parameters : body->second.results) {
            if (!starts_with_word(parameter, ".param")) decoder.fail("parameters of functions must be .param");
            for (const Declaration& it : declarations_of(parameter.substr(6), module, body->second.line)) {
                Symbol symbol;
                symbol.kind = Symbol::Kind::local, symbol.type = it.type, symbol.bytes = it.bytes;
                symbol.address = reserve_local(it.bytes, std::max<std::size_t>(it.alignment, 8));
                lists[k].push_back(symbol);
            }
        }
    formals.emplace_back(lists[0], lists[1]);
    return entry->second;
}

void Builder::decode(const Statement& statement) {
    Decoder decoder(*this);
    decoder.statement = statement;
    std::string_view text = statement.text;
    if (text.starts_with('@')) {
        std::size_t end = text.find_first_of(" \t\n");
        if (end == std::string_view::npos) decoder.fail("a predicate without an instruction");
        std::string_view guard = text.substr(1, end - 1);
        decoder.out.guard_negated = guard.starts_with('!');
        if (decoder.out.guard_negated) guard.remove_prefix(1);
        const Operand predicate = operand_of(guard, decoder, *this);
        decoder.out.guard = decoder.source(predicate, Type::pred);
        if (predicate.kind != Operand::Kind::reg || predicate.symbol.type != Type::pred)
            decoder.fail("`" + std::string(guard) + "` is not a predicate");
        text = trimmed(text.substr(end));
    }
    const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
    decoder.begin(text.substr(0, end));
    const auto known = operations().find(decoder.name);
    if (known == operations().end()) decoder.fail("instruction `" + std::string(decoder.name) + "` is not known");
    const bool takes_names = decoder.name == "bra" || decoder.name == "call" || decoder.name == "brx";
    if (!takes_names)
        for (const std::string_view part : split_list(trimmed(text.substr(end))))
            decoder.operands.push_back(operand_of(part, decoder, *this));
    else
        for (const std::string_view part : split_list(trimmed(text.substr(end)))) {
            decoder.operands.emplace_back();
            decoder.operands.back().text = part;
        }
    known->second(decoder);
    decoder.expect_all_taken();
    if (decoder.out.run || decoder.out.control != Control::none) emit(decoder);
}

}  // namespace sim::ptx
