// Walks over the parts of all ranks in the order of the file, block by block. Every rank does this for itself, with the
// same result.
#include "io/shared_file.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace longlora {

namespace {

/// A part and its place in the file.
struct Segment {
    std::int64_t begin = 0, end = 0;  // bytes of the file
    int rank = 0;
    std::int64_t part = 0, tensor = 0, in_tensor = 0;
};

std::vector<Segment> segments_in_file_order(const NamedTensorLayout& layout,
                                            const std::vector<std::vector<FilePart>>& parts) {
    std::vector<Segment> segments;
    for (std::size_t r = 0; r < parts.size(); ++r)
        for (std::size_t i = 0; i < parts[r].size(); ++i) {
            const FilePart& part = parts[r][i];
            if (part.bytes == 0) continue;
            const std::int64_t begin = layout.entries.at(part.tensor).offset + part.begin;
            segments.push_back({begin, begin + part.bytes, static_cast<int>(r), static_cast<std::int64_t>(i),
                                part.tensor, part.begin});
        }
    std::sort(segments.begin(), segments.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < segments.size(); ++i)
        ensure(segments[i - 1].end <= segments[i].begin, "two ranks have the same bytes of a shared file");
    return segments;
}

/// Received bytes of which the place in the buffer is not known yet.
struct Arrival {
    std::size_t write = 0, round = 0;
    int from = 0;
    std::int64_t at = 0;  // among the bytes of this round from this rank
};

class Planner {
public:
    Planner(std::size_t num_ranks, int rank) : num_ranks_(num_ranks), rank_(rank) {}

    /// Rank `owner` writes the bytes [from, to) of the file, which are in `segment`.
    void give(const Segment& segment, std::int64_t from, std::int64_t to, int owner, std::size_t round) {
        const std::int64_t bytes = to - from, at = from - segment.begin;
        if (segment.rank != owner) round_of(round);
        if (segment.rank == rank_ && owner == rank_) {
            if (continues(segment, at)) plan_.writes.back().bytes += bytes;
            else plan_.writes.push_back({segment.tensor, segment.in_tensor + at, bytes, segment.part, at});
        } else if (owner == rank_) {
            std::int64_t& arrived = round_of(round).bytes_from[segment.rank];
            arrivals_.push_back({plan_.writes.size(), round, segment.rank, arrived});
            plan_.writes.push_back({segment.tensor, segment.in_tensor + at, bytes, -1, 0});
            arrived += bytes;
        } else if (segment.rank == rank_) {
            round_of(round).bytes_to[owner] += bytes;
            receivers_[round].push_back({owner, {segment.part, at, bytes}});
        }
    }

    SharedWrite finish() {
        std::vector<std::vector<std::int64_t>> begins;  // of what each rank sends in each round
        for (std::size_t k = 0; k < plan_.rounds.size(); ++k) {
            std::stable_sort(receivers_[k].begin(), receivers_[k].end(),
                             [](const auto& a, const auto& b) { return a.first < b.first; });
            for (const auto& [to, piece] : receivers_[k]) plan_.rounds[k].sends.push_back(piece);
            begins.emplace_back();
            for (const std::int64_t bytes : plan_.rounds[k].bytes_from) {
                begins.back().push_back(plan_.received_bytes);
                plan_.received_bytes += bytes;
            }
        }
        for (const Arrival& a : arrivals_) plan_.writes[a.write].at = begins[a.round][a.from] + a.at;
        return std::move(plan_);
    }

private:
    bool continues(const Segment& segment, std::int64_t at) const {
        if (plan_.writes.empty()) return false;
        const SharedWrite::Write& last = plan_.writes.back();
        return last.part == segment.part && last.at + last.bytes == at;
    }
    SharedWrite::Round& round_of(std::size_t round) {
        const std::vector<std::int64_t> none(num_ranks_, 0);
        while (plan_.rounds.size() <= round) plan_.rounds.push_back({{}, none, none}), receivers_.emplace_back();
        return plan_.rounds[round];
    }
    std::size_t num_ranks_;
    int rank_;
    SharedWrite plan_;
    std::vector<Arrival> arrivals_;
    std::vector<std::vector<std::pair<int, PartPiece>>> receivers_;  // by round: who gets which piece
};

/// The rank that writes a block of the ranks of segments [first, last).
int writer_of(const std::vector<Segment>& segments, std::size_t first, std::size_t last, std::int64_t block) {
    std::vector<int> ranks;
    for (std::size_t i = first; i < last; ++i) ranks.push_back(segments[i].rank);
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    return ranks[block % static_cast<std::int64_t>(ranks.size())];
}

}  // namespace

SharedWrite plan_shared_write(const NamedTensorLayout& layout, const std::vector<std::vector<FilePart>>& parts,
                              int rank, std::int64_t writer_block) {
    // Keeps the messages of a round below 1 GiB, and few enough rounds for many ranks.
    const std::int64_t blocks_of_round = std::min<std::int64_t>(64 * static_cast<std::int64_t>(parts.size()), 1024);
    const std::vector<Segment> segments = segments_in_file_order(layout, parts);
    Planner planner(parts.size(), rank);
    std::int64_t shared_blocks = 0, at = 0;
    for (std::size_t i = 0; i < segments.size();) {
        at = std::max(at, segments[i].begin);
        const std::int64_t block = at / writer_block, block_end = (block + 1) * writer_block;
        const bool of_file = block * writer_block < layout.own_bytes;
        if (segments[i].end >= block_end && !of_file) {  // this rank alone, up to the last block that it fills
            const std::int64_t end = segments[i].end / writer_block * writer_block;
            planner.give(segments[i], at, end, segments[i].rank, 0);
            at = end;
        } else {
            std::size_t last = i;
            while (last < segments.size() && segments[last].begin < block_end) ++last;
            const int writer = of_file ? 0 : writer_of(segments, i, last, block);
            const auto round = static_cast<std::size_t>(shared_blocks++ / blocks_of_round);
            for (std::size_t j = i; j < last; ++j)
                planner.give(segments[j], std::max(at, segments[j].begin), std::min(block_end, segments[j].end), writer,
                             round);
            at = block_end;
        }
        while (i < segments.size() && segments[i].end <= at) ++i;
    }
    return planner.finish();
}

SharedBytes::SharedBytes(const SharedWrite& plan) : received(plan.received_bytes) {
    std::int64_t most = 0;
    for (const SharedWrite::Round& round : plan.rounds)
        most = std::max(most, std::accumulate(round.bytes_to.begin(), round.bytes_to.end(), std::int64_t{0}));
    sent.resize(most);
}

void exchange_pieces(const SharedWrite& plan, SharedBytes& bytes, const ReadPiece& read,
                     const ExchangeBytes& exchange) {
    char* in = bytes.received.data();
    for (const SharedWrite::Round& round : plan.rounds) {
        char* out = bytes.sent.data();
        for (const PartPiece& piece : round.sends) {
            read(piece, out);
            out += piece.bytes;
        }
        exchange(bytes.sent.data(), round.bytes_to, in, round.bytes_from);
        in += std::accumulate(round.bytes_from.begin(), round.bytes_from.end(), std::int64_t{0});
    }
}

}  // namespace longlora
