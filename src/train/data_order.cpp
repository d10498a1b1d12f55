// A binary tree of exact integer shares distributes sequences to files, so that one multiplication tells how many of
// the first i sequences went left. A Feistel network with cycle walking shuffles the places inside a file.
#include "train/data_order.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "io/checksum.h"
#include "model/micro_batch.h"

namespace longlora {

namespace {

constexpr int kFeistelRounds = 8;
constexpr double kWholeShare = 0x1p32;

/// How many of the first i arrivals go left, where the left half gets share / 2^32: i * share / 2^32, rounded. It grows
/// by 0 or 1 when i grows by 1.
std::int64_t first_to_left(std::int64_t i, std::uint64_t share) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::int64_t>(
        (static_cast<Wide>(static_cast<std::uint64_t>(i)) * share + (std::uint64_t{1} << 31)) >> 32);
}

void check_source(const DataSource& source, const TokenFile& first, std::int64_t context) {
    const TokenFile& file = *source.file;
    require(std::isfinite(source.weight) && source.weight > 0, "the weight ", source.weight, " of ", file.path(),
            " is not a positive number; leave the file out if nothing of it is wanted");
    require(file.num_tokens() >= context, file.path(), " has ", file.num_tokens(),
            " tokens, fewer than one context of ", context, "; give more text or a smaller --context");
    require(file.vocabulary() == first.vocabulary(), file.path(), " has a vocabulary of ", file.vocabulary(), ", but ",
            first.path(), " one of ", first.vocabulary(), "; prepare both with the same tokenizer");
    require(file.tokenizer_hash().empty() || first.tokenizer_hash().empty() ||
                file.tokenizer_hash() == first.tokenizer_hash(),
            file.path(), " and ", first.path(), " were made with different tokenizers; prepare both with the same one");
}

}  // namespace

SequenceOrder sequence_order_of(const std::string& name) {
    if (name == "sequential") return SequenceOrder::sequential;
    if (name == "shuffle") return SequenceOrder::shuffle;
    fail(text("'", name, "' is not an order of sequences; use shuffle or sequential"));
}

std::string_view name_of(SequenceOrder order) { return order == SequenceOrder::shuffle ? "shuffle" : "sequential"; }

std::int64_t permuted(std::int64_t index, std::int64_t n, std::uint64_t seed, std::uint64_t stream) {
    ensure(index >= 0 && index < n, "an index outside of a permutation");
    // This permutes [0, 4^half) with 4^half < 4 n. It is applied again until the result is in [0, n), which happens
    // since a permutation's cycles are closed.
    const int half = std::max(1, (static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n - 1))) + 1) / 2);
    const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
    std::uint64_t x = index;
    do {
        std::uint64_t left = x >> half, right = x & mask;
        for (std::uint64_t round = 0; round < kFeistelRounds; ++round) {
            const std::uint64_t mixed = left ^ (random_bits(seed, stream, right * kFeistelRounds + round) & mask);
            left = right;
            right = mixed;
        }
        x = left << half | right;
    } while (x >= static_cast<std::uint64_t>(n));
    return x;
}

DataOrder::DataOrder(std::vector<DataSource> sources, std::int64_t context, SequenceOrder order, std::uint64_t seed)
    : sources_(std::move(sources)),
      context_(context),
      order_(order),
      seed_(seed) {
    require(!sources_.empty(), "there is no data to train on; give --data FILE.h5");
    require(context > 0, "a context of ", context, " tokens is not possible; give a positive --context");
    for (const DataSource& source : sources_) {
        check_source(source, *sources_[0].file, context);
        num_sequences_.push_back(source.file->num_tokens() / context);
    }
    root_ = build(0, sources_.size());
}

std::int64_t DataOrder::build(std::size_t begin, std::size_t end) {
    const std::size_t middle = begin + (end - begin) / 2;
    if (end - begin == 1) {
        splits_.push_back({begin, middle, end, 0, -1, -1});
        return static_cast<std::int64_t>(splits_.size()) - 1;
    }
    double whole = 0, part = 0;
    for (std::size_t s = begin; s < end; ++s) {
        whole += sources_[s].weight;
        if (s < middle) part += sources_[s].weight;
    }
    const double share = std::clamp(std::nearbyint(part / whole * kWholeShare), 1.0, kWholeShare - 1);
    const std::int64_t left = build(begin, middle), right = build(middle, end);
    splits_.push_back({begin, middle, end, static_cast<std::uint64_t>(share), left, right});
    return static_cast<std::int64_t>(splits_.size()) - 1;
}

Sequence DataOrder::sequence(std::int64_t i) const {
    ensure(i >= 0, "sequences count from 0");
    const Split* split = &splits_[root_];
    while (split->left >= 0) {
        const std::int64_t before = first_to_left(i, split->share);
        const bool to_left = first_to_left(i + 1, split->share) > before;
        i = to_left ? before : i - before;
        split = &splits_[to_left ? split->left : split->right];
    }
    const std::int64_t source = split->begin;
    const std::int64_t n = num_sequences(source), epoch = i / n;
    std::int64_t place = i % n;
    if (order_ == SequenceOrder::shuffle)
        place = permuted(place, n, seed_, random_bits(stream_of("order"), source, epoch));
    return {source, place * context_, epoch};
}

std::int64_t DataOrder::count_before(std::int64_t i, std::int64_t source) const {
    const Split* split = &splits_[root_];
    while (split->left >= 0) {
        const bool to_left = static_cast<std::size_t>(source) < split->middle;
        const std::int64_t before = first_to_left(i, split->share);
        i = to_left ? before : i - before;
        split = &splits_[to_left ? split->left : split->right];
    }
    return i;
}

std::vector<std::int64_t> DataOrder::document_starts(const Sequence& s) const {
    const std::vector<std::uint64_t>& begins = file(s.source).document_begin();
    std::vector<std::int64_t> starts{0};
    for (auto at = std::upper_bound(begins.begin(), begins.end(), static_cast<std::uint64_t>(s.first_token));
         at != begins.end(); ++at) {
        const std::int64_t start = static_cast<std::int64_t>(*at) - s.first_token;
        if (start >= context_) break;
        if (start != starts.back()) starts.push_back(start);  // an empty document starts where the next one does
    }
    return starts;
}

bool DataOrder::has_predictions_in_documents(std::int64_t source) const {
    for (std::int64_t i = 0; i < num_sequences(source); ++i)
        if (num_predictions(context_, document_starts({source, i * context_, 0})) > 0) return true;
    return false;
}

std::string DataOrder::content_hash() const {
    Sha256 hash;
    for (const DataSource& source : sources_) hash.add(text(source.file->content_hash(), "\n"));
    for (const Split& split : splits_) hash.add(text(split.share, "\n"));
    return hash.finish();
}

}  // namespace longlora
