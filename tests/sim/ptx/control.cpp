// Control flow instructions: branches, calls, returns, trap, and instructions that do nothing here. schedule.cpp
// decides which lanes run next.

#include "sim/ptx/lanes.h"

namespace sim::ptx {

namespace {

void jump_to(Decoder& d, std::string_view label, std::uint32_t at, bool in_list) {
    d.builder.jumps.push_back(
        {at, std::to_string(d.builder.current_function) + ":" + std::string(label), d.statement, in_list});
}

void decode_bra(Decoder& d) {
    d.take("uni");
    d.expect_operands(1);
    d.out.control = Control::branch;
    jump_to(d, d.operands[0].text, static_cast<std::uint32_t>(d.builder.kernel.code.size()), false);
}

/// brx.idx index, label of a .branchtargets list. target: number of labels in the list.
void decode_brx(Decoder& d) {
    if (!d.take("idx")) d.fail("only brx.idx is known");
    d.take("uni");
    d.expect_operands(2);
    const auto found = d.builder.branch_targets.find(std::to_string(d.builder.current_function) + ":" +
                                                     std::string(d.operands[1].text));
    if (found == d.builder.branch_targets.end()) d.fail("the list of branch targets is not declared before the jump");
    const Symbol* index = d.builder.find(d.operands[0].text);
    if (!index || index->kind != Symbol::Kind::reg || bytes_of(index->type) != 4)
        d.fail("the index is no 32-bit register");
    d.out.control = Control::indexed;
    d.out.a = index->row;
    d.out.target = static_cast<std::uint32_t>(found->second.size());
    d.out.list = d.list(std::vector<Row>(found->second.size(), 0));
    for (std::size_t k = 0; k < found->second.size(); ++k)
        jump_to(d, found->second[k], d.out.list + static_cast<std::uint32_t>(k), true);
}

void decode_ret(Decoder& d) {
    d.take("uni");
    d.expect_operands(0);
    const bool is_entry = d.builder.current_function < 0;
    d.out.control = is_entry || d.name == "exit" ? Control::leave : Control::back;
    if (!is_entry) d.out.a = d.builder.kernel.functions[static_cast<std::size_t>(d.builder.current_function)].return_pc;
}

void trap(Warp& warp, const Instruction&, Lanes lanes) { fault(warp, lanes, "trap"); }

void decode_trap(Decoder& d) {
    d.expect_operands(0);
    d.out.run = &trap;
}

void nothing(Warp&, const Instruction&, Lanes) {}

void decode_nanosleep(Decoder& d) {
    d.source(0, d.need_type());
    d.expect_operands(1);
    d.out.run = &nothing;
}

/// membar, fence: accesses happen in order here, so nothing is left to order.
void decode_fence(Decoder& d) {
    d.take_any({"sc", "acq_rel", "acquire", "release"});
    d.take_any({"cta", "gl", "sys", "gpu", "cluster"});
    d.expect_operands(0);
    d.out.run = &nothing;
}

/// Copies an argument or a result between local memory of caller and callee. offset: from, target: to, list: bytes.
void copy_parameter(Warp& warp, const Instruction& i, Lanes lanes) {
    const std::size_t size = warp.block->kernel->local_bytes;
    for (unsigned l = 0; l < kLanes; ++l) {
        if (!(lanes >> l & 1)) continue;
        std::memcpy(warp.local + l * size + i.target, warp.local + l * size + static_cast<std::size_t>(i.offset),
                    i.list);
        std::memcpy(warp.local_written + l * size + i.target,
                    warp.local_written + l * size + static_cast<std::size_t>(i.offset), i.list);
    }
}

void emit_copy(Decoder& d, const Symbol& from, const Symbol& to, const Instruction& call) {
    if (from.bytes != to.bytes) d.fail("an argument or result differs in size from the function's");
    d.out = call;
    d.out.control = Control::none;
    d.out.run = &copy_parameter;
    d.out.offset = static_cast<std::int64_t>(from.address);
    d.out.target = static_cast<std::uint32_t>(to.address);
    d.out.list = static_cast<std::uint32_t>(from.bytes);
    d.builder.emit(d);
}

std::vector<Symbol> named_places(Decoder& d, std::string_view list) {
    std::vector<Symbol> places;
    if (list.size() < 2 || list.front() != '(' || list.back() != ')') d.fail("a list in parentheses is expected");
    for (const std::string_view name : split_list(list.substr(1, list.size() - 2))) {
        const Symbol* symbol = d.builder.find(name);
        if (!symbol || symbol->kind != Symbol::Kind::local) d.fail("`" + std::string(name) + "` is no .param");
        places.push_back(*symbol);
    }
    return places;
}

/// call.uni (results), function, (arguments): emits copies of the arguments, the call, and copies of the results.
void decode_call(Decoder& d) {
    d.take("uni");
    d.expect_operands(1, 3);
    std::size_t at = 0;
    std::vector<Symbol> results, arguments;
    if (d.operands[0].text.starts_with('(')) results = named_places(d, d.operands[at++].text);
    if (at >= d.operands.size()) d.fail("a call without a function");
    const std::string_view name = d.operands[at++].text;
    if (at < d.operands.size()) arguments = named_places(d, d.operands[at].text);
    const std::uint32_t function = d.builder.function(name, d);
    const auto [parameters, returned] = d.builder.formals[function];
    if (parameters.size() != arguments.size() || returned.size() != results.size())
        d.fail("the function takes or returns a different number of values");
    const Instruction head = d.out;
    for (std::size_t k = 0; k < arguments.size(); ++k) emit_copy(d, arguments[k], parameters[k], head);
    d.out = head;
    d.out.control = Control::call;
    d.out.target = function;
    d.out.a = d.builder.kernel.functions[function].return_pc;
    if (results.empty()) return;
    d.builder.emit(d);
    for (std::size_t k = 0; k + 1 < results.size(); ++k) emit_copy(d, returned[k], results[k], head);
    emit_copy(d, returned.back(), results.back(), head);
    d.out = Instruction{};  // everything has been emitted
}

}  // namespace

void add_control_operations(Operations& operations) {
    operations["bra"] = &decode_bra;
    operations["brx"] = &decode_brx;
    operations["ret"] = operations["exit"] = &decode_ret;
    operations["call"] = &decode_call;
    operations["trap"] = operations["brkpt"] = &decode_trap;
    operations["nanosleep"] = &decode_nanosleep;
    operations["membar"] = operations["fence"] = &decode_fence;
}

}  // namespace sim::ptx
