// Finds the longest of many texts that stands at a place. It knows bytes only; what the texts mean is known by
// io/added_tokens.h.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace longlora {

class PrefixTree {
public:
    PrefixTree() = default;
    /// `texts` are not empty; of equal texts the first counts.
    explicit PrefixTree(const std::vector<std::string_view>& texts);

    struct Match {
        std::size_t length = 0;  // 0: none of the texts stands there
        std::int32_t index = -1;
    };
    /// The longest of the texts that `text` begins with. Takes time for its length, whatever the number of texts.
    Match longest(std::string_view text) const;

private:
    // Nodes are numbered level by level, so the children of a node have consecutive numbers.
    std::vector<std::int32_t> first_child_;  // of each node, and one more entry: its children end where the next begin
    std::vector<unsigned char> byte_;        // the byte that leads to each node
    std::vector<std::int32_t> index_;        // the text that ends at each node, or -1
};

}  // namespace longlora
