// Decoder: takes modifiers one by one, and turns operands into rows of registers or constants.
#include "sim/ptx/decoder.h"

#include <algorithm>
#include <cstring>

namespace sim::ptx {

void Decoder::begin(std::string_view opcode) {
    modifiers_.clear();
    std::size_t at = opcode.find('.');
    name = opcode.substr(0, at);
    while (at != std::string_view::npos) {
        const std::size_t next = opcode.find('.', at + 1);
        modifiers_.push_back(opcode.substr(at + 1, next == std::string_view::npos ? next : next - at - 1));
        at = next;
    }
    taken_.assign(modifiers_.size(), false);
}

bool Decoder::take(std::string_view modifier) {
    for (std::size_t k = 0; k < modifiers_.size(); ++k)
        if (!taken_[k] && modifiers_[k] == modifier) return taken_[k] = true;
    return false;
}

std::string_view Decoder::take_any(std::initializer_list<std::string_view> modifiers) {
    for (const std::string_view modifier : modifiers)
        if (take(modifier)) return modifier;
    return {};
}

Type Decoder::take_type() {
    for (std::size_t k = 0; k < modifiers_.size(); ++k)
        if (!taken_[k])
            if (const Type type = type_named(modifiers_[k]); type != Type::none) {
                taken_[k] = true;
                return type;
            }
    return Type::none;
}

Type Decoder::need_type() {
    const Type type = take_type();
    if (type == Type::none) fail("a type is missing");
    return type;
}

void Decoder::expect_all_taken() const {
    for (std::size_t k = 0; k < modifiers_.size(); ++k)
        if (!taken_[k]) fail("modifier ." + std::string(modifiers_[k]) + " is not known here");
}

void Decoder::expect_operands(std::size_t number) const { expect_operands(number, number); }

void Decoder::expect_operands(std::size_t least, std::size_t most) const {
    if (operands.size() < least || operands.size() > most)
        fail(std::to_string(operands.size()) + " operands are too few or too many");
}

void Decoder::fail(const std::string& what) const {
    fault_in_text(builder.module.name, statement.line, statement.text, what);
}
void Decoder::fail_type(Type type) const { fail("no form of this instruction for type " + std::string(name_of(type))); }

Row Decoder::constant(std::uint64_t value, unsigned bytes) {
    if (bytes < 8 && bytes > 0) value &= (std::uint64_t{1} << 8 * bytes) - 1;
    Row& known = builder.constants[bytes].try_emplace(value, kNoRow).first->second;
    return known == kNoRow ? known = new_constant(value, bytes) : known;
}

Row Decoder::new_constant(std::uint64_t value, unsigned bytes) {
    std::vector<std::byte>& store = builder.kernel.constants;
    const std::size_t at = store.size() + kRowHeader;
    store.resize(at + row_bytes(bytes));
    const Lanes all = kAll;
    std::memcpy(&store[at - sizeof all], &all, sizeof all);
    if (bytes == 0) {
        const Lanes lanes = value ? kAll : 0;
        std::memcpy(&store[at], &lanes, sizeof lanes);
    }
    for (unsigned l = 0; l < kLanes; ++l) std::memcpy(store.data() + at + std::size_t{l} * bytes, &value, bytes);
    return static_cast<Row>(at) | kConstant;
}

namespace {

/// An immediate as bits of the type that the instruction wants. A 32-bit float literal (0f...) is an error for types of
/// other widths, and an integer is an error for f32 and f64.
std::uint64_t bits_of(const Decoder& decoder, const Operand& operand, Type type) {
    if (operand.literal == 'f' && bytes_of(type) != 4)
        decoder.fail("a 32-bit float literal cannot be an operand of type " + std::string(name_of(type)));
    if (operand.literal == 'd' && type == Type::f32) {
        double value = 0;
        std::memcpy(&value, &operand.value, sizeof value);
        const float narrow = static_cast<float>(value);
        std::uint32_t bits = 0;
        std::memcpy(&bits, &narrow, sizeof bits);
        return bits;
    }
    if (operand.literal == 'i' && (type == Type::f32 || type == Type::f64))
        decoder.fail("an integer cannot be an operand of type " + std::string(name_of(type)));
    return operand.value;
}

}  // namespace

unsigned Decoder::width(const Operand& operand, Type type) const {
    return operand.kind == Operand::Kind::reg ? bytes_of(operand.symbol.type) : bytes_of(type);
}

Row Decoder::source(const Operand& operand, Type type) {
    switch (operand.kind) {
        case Operand::Kind::reg:
            if (bytes_of(operand.symbol.type) != bytes_of(type))
                fail("register " + std::string(operand.text) + " of type " + std::string(name_of(operand.symbol.type)) +
                     " cannot be a source of type " + std::string(name_of(type)));
            if (operand.negated) fail("a negated operand is not known here");
            return operand.symbol.row;
        case Operand::Kind::immediate:
            return constant(bits_of(*this, operand, type), bytes_of(type));
        case Operand::Kind::special: {
            if (const unsigned bytes = bytes_of(type); bytes != 4 && bytes != 8)
                fail("a special register cannot be a source of this type");
            Row& special =
                builder.special_rows.try_emplace(operand.special * 16u + bytes_of(type), kNoRow).first->second;
            if (special == kNoRow) {
                special = builder.new_row(type);
                builder.kernel.rows.pop_back();  // begin_block must not clear it
                builder.kernel.specials.push_back(
                    {static_cast<std::uint8_t>(operand.special | (bytes_of(type) == 8 ? 0x80 : 0)), special});
            }
            return special;
        }
        case Operand::Kind::symbol: {
            if (operand.symbol.kind == Symbol::Kind::dynamic_shared) {
                builder.dynamic_uses.push_back(
                    {new_constant(0, bytes_of(type)), static_cast<std::uint64_t>(operand.offset), bytes_of(type)});
                return builder.dynamic_uses.back().row;
            }
            if (operand.symbol.kind == Symbol::Kind::variable) builder.kernel.uses_variables = true;
            return constant(operand.symbol.address + static_cast<std::uint64_t>(operand.offset), bytes_of(type));
        }
        default:
            fail("operand `" + std::string(operand.text) + "` cannot be a source here");
    }
}

Row Decoder::source(std::size_t operand, Type type) { return source(operands.at(operand), type); }

Row Decoder::wide_source(const Operand& operand, Type type, unsigned bytes) {
    if (operand.kind != Operand::Kind::reg)
        return source(operand, bytes == 8   ? Type::b64
                               : bytes == 4 ? (type == Type::f32 ? type : Type::b32)
                               : bytes == 2 ? Type::b16
                                            : type);
    if (bytes_of(operand.symbol.type) < bytes_of(type) || operand.symbol.type == Type::pred)
        fail("register " + std::string(operand.text) + " is too narrow");
    return operand.symbol.row;
}

Row Decoder::target(const Operand& operand, Type type) {
    if (operand.kind == Operand::Kind::sink) return builder.new_row(type);
    if (operand.kind != Operand::Kind::reg) fail("operand `" + std::string(operand.text) + "` is not a register");
    if (bytes_of(operand.symbol.type) != bytes_of(type))
        fail("register " + std::string(operand.text) + " of type " + std::string(name_of(operand.symbol.type)) +
             " cannot hold type " + std::string(name_of(type)));
    return operand.symbol.row;
}

Row Decoder::target(std::size_t operand, Type type) { return target(operands.at(operand), type); }

std::int64_t Decoder::immediate(std::size_t operand) const {
    const Operand& it = operands.at(operand);
    if (it.kind != Operand::Kind::immediate || it.literal != 'i')
        fail("operand `" + std::string(it.text) + "` must be an integer constant");
    return static_cast<std::int64_t>(it.value);
}

std::vector<Row> Decoder::rows(const Operand& operand, Type type, bool is_target) {
    std::vector<Row> result;
    const auto one = [&](const Operand& element) {
        result.push_back(is_target ? target(element, type) : source(element, type));
    };
    if (operand.kind != Operand::Kind::vector) {
        one(operand);
    } else {
        for (const Operand& element : operand.elements) one(element);
    }
    return result;
}

std::uint32_t Decoder::list(const std::vector<Row>& rows) {
    std::vector<Row>& lists = builder.kernel.lists;
    const auto first = static_cast<std::uint32_t>(lists.size());
    lists.insert(lists.end(), rows.begin(), rows.end());
    return first;
}

void Decoder::address(std::size_t operand) {
    const Operand& it = operands.at(operand);
    if (it.kind != Operand::Kind::address) fail("operand `" + std::string(it.text) + "` is not an address");
    const Operand& base = it.elements.at(0);
    out.offset = it.offset;
    if (base.kind == Operand::Kind::reg) {
        const unsigned bytes = bytes_of(base.symbol.type);
        if (bytes != 4 && bytes != 8) fail("an address needs a register of 32 or 64 bits");
        out.a = base.symbol.row;
        out.flag = bytes == 4;
    } else {
        out.a = source(base, Type::b64);
        out.flag = false;
    }
}

}  // namespace sim::ptx
