// Makes both directions of the table once.
#include "io/byte_characters.h"

#include <array>
#include <unordered_map>

#include "io/utf8.h"

namespace longlora {

namespace {

struct Table {
    std::array<std::string, 256> character;
    std::unordered_map<std::string, char> byte;
};

Table make_table() {
    Table table;
    std::uint32_t next = 256;
    for (std::uint32_t b = 0; b < 256; ++b) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        table.character[b] = utf8_of(printable ? b : next++);
        table.byte[table.character[b]] = static_cast<char>(b);
    }
    return table;
}

const Table& table() {
    static const Table table = make_table();
    return table;
}

}  // namespace

const std::string& character_of_byte(unsigned char byte) { return table().character[byte]; }

std::optional<std::string> bytes_of_characters(std::string_view spelled) {
    std::string bytes;
    for (std::size_t at = 0; at < spelled.size();) {
        const std::size_t n = static_cast<unsigned char>(spelled[at]) < 0x80 ? 1 : 2;  // none of the table is longer
        const auto found = table().byte.find(std::string(spelled.substr(at, n)));
        if (found == table().byte.end()) return std::nullopt;
        bytes += found->second;
        at += n;
    }
    return bytes;
}

}  // namespace longlora
