// DataOrder: which tokens the i-th sequence of a run is - a pure function of (seed, epoch, index), never of ranks, so
// resuming replays nothing. It reads no tokens (batch_reader.h) and does not know steps, batches or the mesh.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/token_file.h"

namespace longlora {

/// Sequences are taken from the files in proportion to their weights (any positive numbers).
struct DataSource {
    std::shared_ptr<const TokenFile> file;
    double weight = 1;
};

enum class SequenceOrder : std::uint8_t { sequential, shuffle };
/// "sequential" or "shuffle"; anything else is refused.
SequenceOrder sequence_order_of(const std::string& name);
std::string_view name_of(SequenceOrder order);

/// Tokens [first_token, first_token + context) of file `source`; epoch = how often that file has been read whole
/// before.
struct Sequence {
    std::int64_t source = 0, first_token = 0, epoch = 0;
    bool operator==(const Sequence&) const = default;
};

/// A pseudo-random permutation of [0, n) in O(1) memory: the place of `index`. Keyed by seed and stream.
std::int64_t permuted(std::int64_t index, std::int64_t n, std::uint64_t seed, std::uint64_t stream);

class DataOrder {
public:
    /// Refuses: no file, a file shorter than one context, a weight that is not positive, files of different
    /// vocabularies or tokenizers.
    DataOrder(std::vector<DataSource> sources, std::int64_t context, SequenceOrder order, std::uint64_t seed);

    std::int64_t context() const { return context_; }
    std::int64_t num_sources() const { return static_cast<std::int64_t>(sources_.size()); }
    const TokenFile& file(std::int64_t source) const { return *sources_[static_cast<std::size_t>(source)].file; }
    /// Whole sequences of a file.
    std::int64_t num_sequences(std::int64_t source) const { return num_sequences_[static_cast<std::size_t>(source)]; }
    /// The vocabulary that all files share; whether the model has as many ids is the caller's check.
    std::int64_t vocabulary() const { return file(0).vocabulary(); }

    /// i >= 0, without end: files are wrapped into further epochs. O(log(number of files)).
    Sequence sequence(std::int64_t i) const;
    /// How many of the sequences [0, i) come from `source`; within 1 + log2(files) of i times its share.
    std::int64_t count_before(std::int64_t i, std::int64_t source) const;
    /// Where documents start, relative to the sequence, increasing; the first is 0 (the sequence's own start).
    std::vector<std::int64_t> document_starts(const Sequence& s) const;
    /// Equal for equal tokens, documents, vocabularies and shares, whatever the paths: what a checkpoint remembers of
    /// its data.
    std::string content_hash() const;

private:
    /// A node of the tree over files [begin, end): the left half gets share / 2^32 of what arrives.
    struct Split {
        std::size_t begin, middle, end;
        std::uint64_t share;
        std::int64_t left, right;  // indices of nodes; -1: a leaf, the single file
    };
    std::int64_t build(std::size_t begin, std::size_t end);
    std::vector<DataSource> sources_;
    std::vector<std::int64_t> num_sequences_;
    std::vector<Split> splits_;
    std::int64_t root_ = -1, context_;
    SequenceOrder order_;
    std::uint64_t seed_;
};

}  // namespace longlora
