// Parses operands: registers, numbers, symbols, vectors, addresses.
#include <cctype>
#include <charconv>

#include "sim/ptx/decoder.h"
#include "sim/ptx/operands.h"

namespace sim::ptx {

namespace {

constexpr std::string_view kSpecials[] = {
    "%tid.x",       "%tid.y",       "%tid.z",       "%ntid.x",      "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y",
    "%ctaid.z",     "%nctaid.x",    "%nctaid.y",    "%nctaid.z",    "%laneid", "%warpid", "%nwarpid", "%lanemask_eq",
    "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge", "%smid",   "%nsmid",  "%gridid"};
/// The driver sets %envreg0 to %envreg31. They are 0 here, as in every launch that is not cooperative.
constexpr std::string_view kEnvironment = "%envreg";

std::uint64_t hexadecimal(std::string_view text, const Decoder& decoder) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (error != std::errc() || end != text.data() + text.size())
        decoder.fail("`" + std::string(text) + "` is not a hexadecimal number");
    return value;
}

bool is_number(std::string_view text) {
    return std::isdigit(static_cast<unsigned char>(text[0])) || ((text[0] == '-' || text[0] == '+') && text.size() > 1);
}

Operand number(std::string_view text, const Decoder& decoder) {
    Operand operand;
    operand.kind = Operand::Kind::immediate;
    operand.text = text;
    if (text.size() == 10 && text[0] == '0' && (text[1] == 'f' || text[1] == 'F')) {
        operand.value = hexadecimal(text.substr(2), decoder), operand.literal = 'f';
    } else if (text.size() == 18 && text[0] == '0' && (text[1] == 'd' || text[1] == 'D')) {
        operand.value = hexadecimal(text.substr(2), decoder), operand.literal = 'd';
    } else if (const auto value = integer_of(text)) {
        operand.value = static_cast<std::uint64_t>(*value);
    } else {
        decoder.fail("`" + std::string(text) + "` is not a number");
    }
    return operand;
}

/// Splits "name", "name+4", "name-4" or "name+-4" into the name and the number, which is the offset.
std::pair<std::string_view, std::int64_t> with_offset(std::string_view text, const Decoder& decoder) {
    const std::size_t sign = text.find_first_of("+-", 1);
    if (sign == std::string_view::npos) return {text, 0};
    const auto value = integer_of(text[sign] == '+' ? text.substr(sign + 1) : text.substr(sign));
    if (!value) decoder.fail("`" + std::string(text) + "` has no number after its sign");
    return {trimmed(text.substr(0, sign)), *value};
}

Operand list_of(std::string_view text, char separator, const Decoder& decoder, Builder& builder) {
    Operand operand;
    operand.text = text;
    if (separator == '|') {
        operand.kind = Operand::Kind::pair;
        const std::size_t bar = text.find('|');
        operand.elements = {operand_of(trimmed(text.substr(0, bar)), decoder, builder),
                            operand_of(trimmed(text.substr(bar + 1)), decoder, builder)};
        return operand;
    }
    operand.kind = Operand::Kind::vector;
    if (text.back() != '}') decoder.fail("a vector's } is missing");
    for (const std::string_view part : split_list(text.substr(1, text.size() - 2)))
        operand.elements.push_back(operand_of(part, decoder, builder));
    return operand;
}

Operand address_of(std::string_view text, const Decoder& decoder, Builder& builder) {
    Operand operand;
    operand.kind = Operand::Kind::address;
    operand.text = text;
    if (text.back() != ']') decoder.fail("an address's ] is missing");
    const std::string_view inside = trimmed(text.substr(1, text.size() - 2));
    if (inside.empty()) decoder.fail("an address is empty");
    if (is_number(inside)) {
        operand.elements = {number(inside, decoder)};
        return operand;
    }
    const auto [base, offset] = with_offset(inside, decoder);
    operand.offset = offset;
    operand.elements = {operand_of(base, decoder, builder)};
    return operand;
}

}  // namespace

int special_register(std::string_view name) {
    for (std::size_t k = 0; k < std::size(kSpecials); ++k)
        if (kSpecials[k] == name) return static_cast<int>(k);
    if (name.starts_with(kEnvironment))
        if (const auto number = integer_of(name.substr(kEnvironment.size())); number && *number >= 0 && *number < 32)
            return static_cast<int>(std::size(kSpecials));
    return -1;
}

Operand operand_of(std::string_view text, const Decoder& decoder, Builder& builder) {
    Operand operand;
    operand.text = text;
    if (text.empty()) decoder.fail("an operand is empty");
    if (text[0] == '{') return list_of(text, ',', decoder, builder);
    if (text[0] == '[') return address_of(text, decoder, builder);
    if (text.find('|') != std::string_view::npos) return list_of(text, '|', decoder, builder);
    if (text == "_") return operand;
    if (text[0] == '!') {
        operand = operand_of(trimmed(text.substr(1)), decoder, builder);
        operand.negated = !operand.negated;
        return operand;
    }
    if (text == "WARP_SZ") text = "32";
    if (is_number(text)) return number(text, decoder);
    if (const int special = special_register(text); special >= 0) {
        operand.kind = Operand::Kind::special;
        operand.special = static_cast<std::uint8_t>(special);
        return operand;
    }
    const auto [name, offset] = with_offset(text, decoder);
    const Symbol* symbol = builder.find(name);
    if (!symbol) decoder.fail("`" + std::string(name) + "` is not declared");
    operand.kind = symbol->kind == Symbol::Kind::reg ? Operand::Kind::reg : Operand::Kind::symbol;
    operand.symbol = *symbol;
    operand.offset = offset;
    return operand;
}

}  // namespace sim::ptx
