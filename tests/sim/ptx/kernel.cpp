// Makes a Kernel of the statements of one entry: parameters, body, and the functions that it calls. Jumps are resolved
// at the end.
#include <algorithm>
#include <cstring>

#include "sim/ptx/decoder.h"
#include "sim/ptx/statistics.h"

namespace sim::ptx {

namespace {

void read_parameters(Builder& builder, const Body& body) {
    Kernel& kernel = builder.kernel;
    for (const std::string_view parameter : body.parameters) {
        if (!starts_with_word(parameter, ".param"))
            fault_in_text(builder.module.name, body.line, parameter, "a parameter of an entry must be .param");
        for (const Declaration& it : declarations_of(parameter.substr(6), builder.module, body.line)) {
            const std::size_t at = (kernel.parameter_bytes + it.alignment - 1) / it.alignment * it.alignment;
            Symbol symbol;
            symbol.kind = Symbol::Kind::parameter, symbol.type = it.type, symbol.bytes = it.bytes, symbol.address = at;
            builder.scopes.back()[std::string(it.name)] = symbol;
            kernel.parameters.push_back({at, it.bytes});
            kernel.parameter_bytes = at + it.bytes;
        }
    }
}

void read_bounds(Builder& builder, const Body& body) {
    const std::string_view text = body.header;
    const std::size_t word = text.find(".maxntid");
    if (word == std::string_view::npos) return;
    std::string_view numbers = text.substr(word + 8);
    numbers = numbers.substr(0, numbers.find_first_of(".\n{"));
    unsigned product = 1;
    for (const std::string_view part : split_list(numbers))
        product *= static_cast<unsigned>(integer_of(part).value_or(1));
    builder.kernel.max_threads = product;
}

/// Reads the file and line of the code itself from ".loc 1 25 3, function_name ..., inlined_at ...".
void read_location(Builder& builder, std::string_view text) {
    SourceLine line;
    std::string_view rest = trimmed(text.substr(4));
    const std::size_t blank = rest.find_first_of(" \t");
    if (blank == std::string_view::npos) return;
    line.file = static_cast<int>(integer_of(rest.substr(0, blank)).value_or(0));
    rest = trimmed(rest.substr(blank));
    line.line = static_cast<int>(integer_of(rest.substr(0, rest.find_first_of(" \t,"))).value_or(0));
    builder.module.sources.push_back(line);
    builder.source = static_cast<std::uint32_t>(builder.module.sources.size() - 1);
}

void open_scope(Builder& builder) {
    builder.scopes.emplace_back();
    builder.ranges.emplace_back();
}

void close_scope(Builder& builder) {
    builder.scopes.pop_back();
    builder.ranges.pop_back();
}

std::string label_of(const Builder& builder, std::string_view name) {
    return std::to_string(builder.current_function) + ":" + std::string(name);
}

void read_targets(Builder& builder, const Statement& statement, std::string_view label) {
    builder.branch_targets[label_of(builder, label)] =
        split_list(statement.text.substr(std::string_view(".branchtargets").size()));
}

void read_body(Builder& builder, const std::vector<Statement>& statements) {
    open_scope(builder);
    std::string_view last_label;
    for (const Statement& it : statements) {
        const std::string_view text = it.text;
        if (it.end == ':') {
            builder.labels[label_of(builder, text)] = static_cast<std::uint32_t>(builder.kernel.code.size());
            last_label = text;
        } else if (it.end == '{' && text.empty()) {
            open_scope(builder);
        } else if (it.end == '}' && text.empty()) {
            close_scope(builder);
        } else if (text.starts_with(".loc") && !text.starts_with(".local")) {
            read_location(builder, text);
        } else if (text.starts_with(".pragma") || text.starts_with(".callprototype")) {
            continue;
        } else if (text.starts_with(".branchtargets")) {
            read_targets(builder, it, last_label);
        } else if (text.starts_with('.')) {
            builder.declare(it);
        } else {
            builder.decode(it);
        }
    }
    close_scope(builder);
}

void resolve_jumps(Builder& builder) {
    for (const Builder::Jump& jump : builder.jumps) {
        const auto label = builder.labels.find(jump.label);
        if (label == builder.labels.end())
            fault_in_text(builder.module.name, jump.statement.line, jump.statement.text, "the label is not there");
        if (jump.in_list) builder.kernel.lists[jump.pc] = label->second;
        else builder.kernel.code[jump.pc].target = label->second;
    }
}

/// Fills in the addresses in dynamic shared memory, which begins after the static one.
void place_dynamic(Builder& builder) {
    Kernel& kernel = builder.kernel;
    const std::size_t begin = dynamic_shared_begin(kernel);
    for (const Builder::DynamicUse& use : builder.dynamic_uses) {
        const std::uint64_t address = begin + use.offset;
        std::byte* to = &kernel.constants[use.row & ~kConstant];
        for (unsigned l = 0; l < kLanes; ++l) std::memcpy(to + l * use.bytes, &address, use.bytes);
    }
}

/// A function keeps one return address per lane, so it must not call itself, directly or through other functions.
void refuse_recursion(const Builder& builder) {
    std::vector<std::vector<int>> callees(builder.kernel.functions.size());
    for (const auto& [caller, callee] : builder.calls)
        if (caller >= 0) callees[static_cast<std::size_t>(caller)].push_back(callee);
    for (std::size_t f = 0; f < callees.size(); ++f) {
        std::vector<bool> reached(callees.size());
        std::vector<int> next = callees[f];
        while (!next.empty()) {
            const auto at = static_cast<std::size_t>(next.back());
            next.pop_back();
            if (at == f)
                throw Fault(builder.module.name + ": function `" + builder.kernel.functions[f].name +
                            "` calls itself; recursion is not known here");
            if (reached[at]) continue;
            reached[at] = true;
            next.insert(next.end(), callees[at].begin(), callees[at].end());
        }
    }
}

void finish(Builder& builder) {
    Decoder end(builder);  // running off the end is a ret
    end.statement.text = "ret";
    end.begin("ret");
    operations().at("ret")(end);
    builder.emit(end);
}

}  // namespace

std::size_t dynamic_shared_begin(const Kernel& kernel) {
    return (kernel.static_shared + kernel.dynamic_shared_alignment - 1) / kernel.dynamic_shared_alignment *
           kernel.dynamic_shared_alignment;
}

void decode_kernel(Module& module, Kernel& kernel, const Body& body,
                   const std::unordered_map<std::string, Body>& functions,
                   const std::unordered_map<std::string, Symbol>& symbols) {
    Builder builder{module, kernel, functions, symbols};
    open_scope(builder);
    for (const auto& [name, symbol] : symbols)
        if (symbol.kind == Symbol::Kind::dynamic_shared)
            kernel.dynamic_shared_alignment = std::max(kernel.dynamic_shared_alignment, symbol.alignment);
    read_parameters(builder, body);
    read_bounds(builder, body);
    read_body(builder, body.statements);
    finish(builder);
    while (!builder.pending.empty()) {
        const std::string name = builder.pending.back();
        builder.pending.pop_back();
        builder.current_function = static_cast<int>(builder.function_index.at(name));
        const auto index = static_cast<std::size_t>(builder.current_function);
        kernel.functions[index].entry = static_cast<std::uint32_t>(kernel.code.size());
        open_scope(builder);
        const Body& function = functions.at(name);
        const auto name_formals = [&](const std::vector<std::string_view>& texts, const std::vector<Symbol>& formal) {
            std::size_t k = 0;
            for (const std::string_view text : texts)
                for (const Declaration& it : declarations_of(text.substr(6), module, function.line))
                    builder.scopes.back()[std::string(it.name)] = formal[k++];
        };
        name_formals(function.parameters, builder.formals[index].first);
        name_formals(function.results, builder.formals[index].second);
        read_body(builder, function.statements);
        finish(builder);
        close_scope(builder);
    }
    refuse_recursion(builder);
    resolve_jumps(builder);
    place_dynamic(builder);
    index_opcodes(kernel);
}

}  // namespace sim::ptx
