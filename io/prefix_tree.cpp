// Builds the tree from the sorted texts: the texts below a node are a range of them.
#include "io/prefix_tree.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace longlora {

namespace {

/// The texts [begin, end) of the sorted list; they agree in their first `depth` bytes.
struct Range {
    std::size_t begin, end, depth;
};

}  // namespace

PrefixTree::PrefixTree(const std::vector<std::string_view>& texts) {
    std::vector<std::int32_t> order(texts.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return texts[a] < texts[b]; });
    std::vector<Range> nodes{{0, texts.size(), 0}};
    byte_.push_back(0);
    for (std::size_t node = 0; node < nodes.size(); ++node) {
        auto [at, end, depth] = nodes[node];
        // The shortest text of the range comes first: it ends at this node, or none does.
        const bool ends = at < end && texts[order[at]].size() == depth && depth > 0;
        index_.push_back(ends ? order[at] : -1);
        while (at < end && texts[order[at]].size() == depth) ++at;
        first_child_.push_back(static_cast<std::int32_t>(nodes.size()));
        while (at < end) {
            const char byte = texts[order[at]][depth];
            const std::size_t begin = at;
            while (at < end && texts[order[at]][depth] == byte) ++at;
            nodes.push_back({begin, at, depth + 1});
            byte_.push_back(static_cast<unsigned char>(byte));
        }
    }
    first_child_.push_back(static_cast<std::int32_t>(nodes.size()));
}

PrefixTree::Match PrefixTree::longest(std::string_view text) const {
    Match best;
    if (first_child_.empty()) return best;
    std::int32_t node = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const std::int32_t begin = first_child_[node], count = first_child_[node + 1] - begin;
        const void* found = std::memchr(byte_.data() + begin, static_cast<unsigned char>(text[at]), count);
        if (found == nullptr) break;
        node = static_cast<std::int32_t>(static_cast<const unsigned char*>(found) - byte_.data());
        if (index_[node] >= 0) best = {at + 1, index_[node]};
    }
    return best;
}

}  // namespace longlora
