// Parses a whole PTX text: variables, functions, entries. Every entry is decoded here, so parse_module throws a Fault
// for every unknown instruction.
#include <algorithm>
#include <cstring>

#include "sim/ptx/declarations.h"
#include "sim/ptx/decoder.h"

namespace sim::ptx {

namespace {

struct Reader {
    Module& module;
    std::vector<Statement> statements;
    std::size_t at = 0;
    std::unordered_map<std::string, Symbol> symbols{};
    std::unordered_map<std::string, Body> functions{};
    std::vector<Body> entries{};
};

/// The statements up to the brace that closes the one just read.
std::vector<Statement> body_of(Reader& reader) {
    std::vector<Statement> inside;
    for (int depth = 1; reader.at < reader.statements.size(); ++reader.at) {
        const Statement& it = reader.statements[reader.at];
        if (it.end == '{') ++depth;
        if (it.end == '}' && --depth == 0) {
            ++reader.at;
            return inside;
        }
        inside.push_back(it);
    }
    throw Fault(reader.module.name + ": a } is missing at the end");
}

std::string_view without_linkage(std::string_view text) {
    for (const std::string_view word : {".visible", ".extern", ".weak", ".common"})
        if (starts_with_word(text, word)) return without_linkage(trimmed(text.substr(word.size())));
    return text;
}

/// The text between the next ( and its ). `text` becomes what follows.
std::string_view parenthesised(std::string_view& text) {
    const std::size_t open = text.find('('), close = text.find(')', open);
    if (open == std::string_view::npos || close == std::string_view::npos) return {};
    const std::string_view inside = text.substr(open + 1, close - open - 1);
    text = trimmed(text.substr(close + 1));
    return inside;
}

Body header_of(const Statement& statement, std::string_view text) {
    Body body;
    body.line = statement.line;
    const bool is_function = text.starts_with(".func");
    text = trimmed(text.substr(is_function ? 5 : 6));
    if (is_function && text.starts_with(".noreturn")) text = trimmed(text.substr(9));
    if (text.starts_with('(')) body.results = split_list(parenthesised(text));
    const std::size_t end = std::min(text.find_first_of("( \t\n"), text.size());
    body.name = std::string(text.substr(0, end));
    text = trimmed(text.substr(end));
    if (text.starts_with('(')) body.parameters = split_list(parenthesised(text));
    body.header = text;
    return body;
}

void read_variable(Reader& reader, const Statement& statement, std::string_view text) {
    const bool is_extern = statement.text.starts_with(".extern");
    const std::size_t word = text.find_first_of(" \t\n");
    const std::string_view space = text.substr(0, word);
    for (const Declaration& it : declarations_of(text.substr(word), reader.module, statement.line)) {
        Symbol symbol;
        symbol.type = it.type, symbol.bytes = it.bytes, symbol.alignment = it.alignment;
        if (space == ".shared") {
            symbol.kind = is_extern || it.is_extern_array ? Symbol::Kind::dynamic_shared : Symbol::Kind::shared;
        } else if (is_extern) {
            fault_in_text(reader.module.name, statement.line, statement.text,
                          "variables of other modules are not known");
        } else {
            symbol.kind = Symbol::Kind::variable;
            auto& store = reader.module.storage.emplace_back(new std::byte[it.bytes + it.alignment + 256]());
            const auto begin = reinterpret_cast<std::uintptr_t>(store.get()),
                       alignment = std::max<std::size_t>(it.alignment, 128);
            std::byte* address = store.get() + ((begin + alignment - 1) / alignment * alignment - begin);
            fill_initial(address, it, reader.module, statement.line, reader.symbols);
            symbol.address = reinterpret_cast<std::uintptr_t>(address);
            reader.module.variables.push_back(
                {std::string(it.name), space == ".const", it.bytes, it.alignment, address});
        }
        reader.symbols[std::string(it.name)] = symbol;
    }
}

void read_file(Reader& reader, std::string_view text) {
    const std::size_t open = text.find('"'), close = text.find('"', open + 1);
    const std::string_view number = text.substr(5, open == std::string_view::npos ? open : open - 5);
    if (const auto index = integer_of(number); index && close != std::string_view::npos)
        reader.module.files[static_cast<int>(*index)] = std::string(text.substr(open + 1, close - open - 1));
}

void read_module(Reader& reader) {
    while (reader.at < reader.statements.size()) {
        const Statement statement = reader.statements[reader.at++];
        const std::string_view text = without_linkage(statement.text);
        if (text.starts_with(".version") || text.starts_with(".target") || text.starts_with(".address_size") ||
            text.starts_with(".loc") || text.starts_with(".pragma"))
            continue;
        if (text.starts_with(".alias"))
            fault_in_text(reader.module.name, statement.line, text, "aliases are not known");
        if (text.starts_with(".file")) {
            read_file(reader, text);
        } else if (text.starts_with(".section")) {
            body_of(reader);
        } else if (text.starts_with(".entry") || text.starts_with(".func")) {
            Body body = header_of(statement, text);
            if (statement.end != '{') continue;  // a declaration
            body.statements = body_of(reader);
            if (text.starts_with(".entry")) reader.entries.push_back(std::move(body));
            else reader.functions[body.name] = std::move(body);
        } else if (text.starts_with(".global") || text.starts_with(".const") || text.starts_with(".shared")) {
            read_variable(reader, statement, text);
        } else {
            fault_in_text(reader.module.name, statement.line, statement.text, "a directive that is not known");
        }
    }
}

}  // namespace

void decode_kernel(Module& module, Kernel& kernel, const Body& body,
                   const std::unordered_map<std::string, Body>& functions,
                   const std::unordered_map<std::string, Symbol>& symbols);

std::shared_ptr<const Module> parse_module(std::string_view text, std::string name) {
    auto module = std::make_shared<Module>();
    module->name = std::move(name);
    module->text = std::string(text.substr(0, text.find('\0')));
    blank_comments(module->text);
    Reader reader{*module, statements_of(module->text)};
    read_module(reader);
    for (const Body& body : reader.entries) {
        auto kernel = std::make_unique<Kernel>();
        kernel->name = body.name;
        kernel->pretty = demangled(body.name);
        kernel->module = module.get();
        decode_kernel(*module, *kernel, body, reader.functions, reader.symbols);
        module->kernels[body.name] = std::move(kernel);
    }
    return module;
}

const Kernel* find_kernel(const Module& module, std::string_view name) {
    const auto found = module.kernels.find(name);
    return found == module.kernels.end() ? nullptr : found->second.get();
}

std::span<const Parameter> parameters_of(const Kernel& kernel) { return kernel.parameters; }
std::size_t static_shared_bytes_of(const Kernel& kernel) { return kernel.static_shared; }
unsigned max_threads_of(const Kernel& kernel) { return kernel.max_threads; }

}  // namespace sim::ptx
