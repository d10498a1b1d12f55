// DataOrder: which tokens the i-th sequence of a run has. This is a pure function of (seed, epoch, index) and never
// depends on ranks, so a resume replays nothing. It reads no tokens (batch_reader.h does) and knows no steps, batches
// or mesh.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/token_file.h"

namespace longlora {

/// A file. Sequences come from the files in proportion to their weights, which may be any positive numbers.
struct DataSource {
    std::shared_ptr<const TokenFile> file;
    double weight = 1;
};

enum class SequenceOrder : std::uint8_t { sequential, shuffle };
/// "sequential" or "shuffle"; an Error for any other name.
SequenceOrder sequence_order_of(const std::string& name);
std::string_view name_of(SequenceOrder order);

/// The tokens [first_token, first_token + context) of file `source`. epoch: how often that file has been read whole
/// before.
struct Sequence {
    std::int64_t source = 0, first_token = 0, epoch = 0;
    bool operator==(const Sequence&) const = default;
};

/// The place of `index` in a pseudo-random permutation of [0, n), which seed and stream select. O(1) memory.
std::int64_t permuted(std::int64_t index, std::int64_t n, std::uint64_t seed, std::uint64_t stream);

class DataOrder {
public:
    /// An Error if there is no file, a file is shorter than one context, a weight is not positive, or files have
    /// different vocabularies or tokenizers.
    DataOrder(std::vector<DataSource> sources, std::int64_t context, SequenceOrder order, std::uint64_t seed);

    std::int64_t context() const { return context_; }
    std::int64_t num_sources() const { return sources_.size(); }
    const TokenFile& file(std::int64_t source) const { return *sources_[source].file; }
    /// How many whole sequences a file has.
    std::int64_t num_sequences(std::int64_t source) const { return num_sequences_[source]; }
    /// The vocabulary that all files share. The caller checks whether the model has as many ids.
    std::int64_t vocabulary() const { return file(0).vocabulary(); }

    /// i >= 0 may be arbitrarily large: a file that was read whole begins its next epoch. O(log(number of files)).
    Sequence sequence(std::int64_t i) const;
    /// How many of the sequences [0, i) come from `source`. This differs from i times its share by at most
    /// 1 + log2(files).
    std::int64_t count_before(std::int64_t i, std::int64_t source) const;
    /// Where documents start, relative to the sequence, in increasing order; the first is 0, where the sequence starts.
    std::vector<std::int64_t> document_starts(const Sequence& s) const;
    /// Whether a sequence of the source has two tokens of one document. Otherwise a document mask leaves nothing to
    /// predict there.
    bool has_predictions_in_documents(std::int64_t source) const;
    /// Equal for equal tokens, documents, vocabularies and shares, whatever the paths are. A checkpoint records it to
    /// recognise its data.
    std::string content_hash() const;

private:
    /// A node of the tree over the files [begin, end): the left half gets share / 2^32 of the sequences that arrive.
    struct Split {
        std::size_t begin, middle, end;
        std::uint64_t share;
        std::int64_t left, right;  // indices of nodes; -1: this node is a leaf with a single file
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
