// Collectives from point-to-point messages. Every rank sends each peer directly what the peer needs. That is as many
// bytes as a ring sends, and each part keeps the number of its rank, so sums are ((p0 + p1) + p2) + ... on every
// rank, whatever arrives first.
#include "parallel/ordered_communicator.h"

#include <array>
#include <limits>

#include "core/error.h"

namespace longlora::parallel {

namespace {

// Up to this size one round of whole tensors is quicker than two rounds of parts.
constexpr std::int64_t kSmallBytes = 64 << 10;
constexpr int kNobody = -1;

// Results must not be read before finish(). Builds for debugging and sanitizers fill float32 results with NaN
// until then.
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kPoison = true;
#else
constexpr bool kPoison = false;
#endif

/// y += x. A float64 tensor is added one scalar at a time, because Ops offers no more; such tensors are a few sums of
/// losses.
void add(Ops ops, Tensor y, ConstTensor x) {
    if (y.dtype != DType::float64) return ops.add(y, x);
    for (std::int64_t i = 0; i < y.count(); ++i) ops.add(y.slice(i, 1).reshaped({}), x.slice(i, 1).reshaped({}));
}

}  // namespace

/// A reduce_scatter that has started. It works in rounds: in round k every rank sends each peer piece k of the peer's
/// part, and receives from each peer piece k of its own part, in slot k % 2 of the workspace. All ranks have the same
/// number of rounds, so that they start their messages in one order. A rank with a shorter part receives nothing in
/// the last rounds.
struct OrderedCommunicator::Reduction {
    Tensor shard;            // the result
    ConstTensor own, whole;  // this rank's own summand, which may be the result; all summands
    // Elements of a piece; the number of pieces of this rank's part, and of the longest part.
    std::int64_t piece = 0, num_pieces = 0, num_rounds = 0;
    ArenaTensor workspace;  // (slots * (size - 1), piece)
    int tag = 0, unit = -1;
    std::array<Transport::Ticket, 2> under_way{};  // by round % 2

    std::int64_t piece_size(std::int64_t k) const { return std::min(piece, shard.count() - k * piece); }
    Transport::Ticket& ticket(std::int64_t round) { return under_way[round % 2]; }
};

OrderedCommunicator::OrderedCommunicator(Device& device, int rank, int size, const CommunicatorOptions& options,
                                         std::unique_ptr<Transport> transport)
    : Communicator(rank, size),
      device_(device),
      options_(options),
      transport_(std::move(transport)) {
    ensure(size >= 1 && rank >= 0 && rank < size, "a communicator's rank is one of its ranks");
    ensure(options.max_message >= 1 && options.max_message <= std::numeric_limits<int>::max(),
           "a message carries at most 2^31 - 1 bytes");
}

int OrderedCommunicator::next_tag() { return static_cast<int>(1 + num_collectives_++ % kNumCollectiveTags); }

template <class Byte> TensorView<Byte> OrderedCommunicator::own_part(TensorView<Byte> whole, int part) const {
    const Shard at = shard_of(whole.count(), part, size());
    return whole.slice(at.begin, at.count);
}

void OrderedCommunicator::poison(Tensor result, Stream stream) {
    if (kPoison && result.dtype == DType::float32 && result.count())
        device_.ops(stream).fill(result, std::numeric_limits<float>::quiet_NaN());
}

/// Adds the messages that carry `data`.
template <class Byte>
void OrderedCommunicator::split(int peer, TensorView<Byte> data, std::vector<PieceOf<Byte>>& pieces) const {
    ensure(data.contiguous(), "tensors travel contiguous");
    for (std::int64_t begin = 0; begin < data.size_bytes(); begin += options_.max_message)
        pieces.push_back(
            {peer, data.bytes + begin, static_cast<int>(std::min(options_.max_message, data.size_bytes() - begin))});
}

/// An empty tensor is not sent: both sides know its size.
Transport::Ticket OrderedCommunicator::start(const std::vector<Send>& sends, const std::vector<Receive>& receives,
                                             int tag, Stream stream) {
    std::vector<SentPiece> out;
    std::vector<ReceivedPiece> in;
    for (const Receive& receive : receives) {
        poison(receive.data, stream);
        split(receive.peer, receive.data, in);
    }
    Traffic sent;
    for (const Send& send : sends) split(send.peer, send.data, out);
    for (const SentPiece& piece : out) sent += {piece.size, 1};
    if (!out.empty()) traffic_[device_.recorder().unit] += sent;
    return transport_->start(out, in, tag, stream);
}

/// Every rank sends its own part of `whole` to all others; rank `without` already has them all and receives none.
/// Each rank begins with the next rank, so that not all send to the same rank at once.
Transport::Ticket OrderedCommunicator::start_gather(Tensor whole, int without, int tag, Stream stream) {
    std::vector<Send> sends;
    std::vector<Receive> receives;
    for (int turn = 1; turn < size(); ++turn) {
        const int to = (rank() + turn) % size(), from = (rank() + size() - turn) % size();
        if (to != without) sends.push_back({to, own_part(whole, rank())});
        if (rank() != without) receives.push_back({from, own_part(whole, from)});
    }
    return start(sends, receives, tag, stream);
}

Request OrderedCommunicator::all_gather(Tensor whole, Stream stream) {
    ensure(whole.contiguous(), "all_gather takes a contiguous tensor");
    if (size() == 1) return {};
    return Request([this, ticket = start_gather(whole, kNobody, next_tag(), stream)](Stream at) {
        transport_->finish(ticket, at);
    });
}

/// sum = the parts added in rank order. `own` is the part of this rank; `others` (size - 1, n) has the parts of the
/// other ranks by rank, and its first row is overwritten. Since a + b and b + a have the same bits, the own part may
/// stay in place while the sum of the earlier ranks is added to it.
void OrderedCommunicator::add_in_rank_order(Tensor sum, ConstTensor own, Tensor others, Stream stream) {
    Ops ops = device_.ops(stream);
    const std::int64_t n = sum.count(), before = rank();
    // A piece may be shorter than a row.
    const auto part = [&](std::int64_t i) { return others.rows(i, 1).slice(0, n); };
    for (std::int64_t i = 1; i < before; ++i) add(ops, part(0), part(i));
    if (sum.bytes != own.bytes) ops.copy(sum, own);
    if (before) add(ops, sum, part(0));
    for (std::int64_t i = before; i < size() - 1; ++i) add(ops, sum, part(i));
}

std::shared_ptr<OrderedCommunicator::Reduction> OrderedCommunicator::start_reduction(Tensor shard, ConstTensor whole,
                                                                                     int tag, Stream stream) {
    auto reduction = std::make_shared<Reduction>();
    Reduction& r = *reduction;
    r.shard = shard.reshaped({shard.count()}), r.own = own_part(whole, rank()), r.whole = whole, r.tag = tag,
    r.unit = device_.recorder().unit;
    // The size of a piece follows from numbers that are equal on all ranks: the size of `whole` and max_workspace.
    const std::int64_t chunk = shard_of(whole.count(), 0, size()).count, others = size() - 1,
                       element = size_of(whole.dtype);
    const bool fits = chunk * others * element <= options_.max_workspace;
    r.piece = fits ? chunk : std::clamp<std::int64_t>(options_.max_workspace / (2 * others * element), 1, chunk);
    r.num_pieces = r.piece ? (shard.count() + r.piece - 1) / r.piece : 0;
    r.num_rounds = r.piece ? (chunk + r.piece - 1) / r.piece : 0;
    const std::int64_t slots = std::min<std::int64_t>(r.num_pieces, 2);
    if (slots)
        r.workspace =
            device_.memory().tensor(whole.dtype, {slots * others, std::min(r.piece, shard.count())}, Use::exchange);
    for (std::int64_t k = 0; k < std::min<std::int64_t>(r.num_rounds, 2); ++k) start_round(r, k, stream);
    if (!overlap(shard, whole)) poison(r.shard, stream);
    return reduction;
}

/// The messages start after the work queued on `stream`. The last work there that reads the slot is the additions of
/// round k - 2.
void OrderedCommunicator::start_round(Reduction& r, std::int64_t k, Stream stream) {
    std::vector<Send> sends;
    std::vector<Receive> receives;
    for (int turn = 1; turn < size(); ++turn) {
        const int to = (rank() + turn) % size();
        const ConstTensor part = own_part(r.whole, to);
        if (const std::int64_t begin = k * r.piece; begin < part.count())
            sends.push_back({to, part.slice(begin, std::min(r.piece, part.count() - begin))});
    }
    const std::int64_t slot = k % 2, others = size() - 1;
    for (int peer = 0, row = 0; peer < size() && k < r.num_pieces; ++peer) {
        if (peer == rank()) continue;
        receives.push_back({peer, r.workspace->rows(slot * others + row++, 1).slice(0, r.piece_size(k))});
    }
    r.ticket(k) = start(sends, receives, r.tag, stream);
}

void OrderedCommunicator::finish_reduction(Reduction& r, Stream stream) {
    const UnitMark mark(device_.recorder(), r.unit);
    for (std::int64_t k = 0; k < r.num_rounds; ++k) {
        const std::int64_t slot = k % 2, others = size() - 1;
        transport_->finish(r.ticket(k), stream);
        if (k < r.num_pieces) {
            const std::int64_t n = r.piece_size(k);
            add_in_rank_order(r.shard.slice(k * r.piece, n), r.own.slice(k * r.piece, n),
                              r.workspace->rows(slot * others, others), stream);
        }
        if (k + 2 < r.num_rounds) start_round(r, k + 2, stream);
    }
    r.workspace.release();  // its next user is queued after the additions
}

Request OrderedCommunicator::reduce_scatter(Tensor shard, ConstTensor whole, Stream stream) {
    ensure(shard.contiguous() && whole.contiguous(), "reduce_scatter takes contiguous tensors");
    ensure(shard.dtype == DType::float32 && whole.dtype == DType::float32, "reduce_scatter sums float32");
    const ConstTensor own = own_part(whole, rank());
    ensure(shard.count() == own.count(), "reduce_scatter's shard is as large as this rank's part");
    ensure(!overlap(shard, whole) || shard.bytes == own.bytes,
           "the shard of reduce_scatter is this rank's own part of whole, or does not overlap whole");
    if (size() == 1) {
        if (shard.bytes != own.bytes && shard.count()) device_.ops(stream).copy(shard.reshaped({own.count()}), own);
        return {};
    }
    return Request([this, reduction = start_reduction(shard, whole, next_tag(), stream)](Stream at) {
        finish_reduction(*reduction, at);
    });
}

Request OrderedCommunicator::all_reduce_small(Tensor x, Stream stream) {
    const std::int64_t n = x.count();
    const auto others = std::make_shared<ArenaTensor>(device_.memory().tensor(x.dtype, {size() - 1, n}, Use::exchange));
    std::vector<Send> sends;
    std::vector<Receive> receives;
    for (int peer = 0, row = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        sends.push_back({peer, x});
        receives.push_back({peer, (*others)->rows(row++, 1)});
    }
    return Request([this, x, n, others, ticket = start(sends, receives, next_tag(), stream)](Stream at) {
        transport_->finish(ticket, at);
        add_in_rank_order(x.reshaped({n}), x.reshaped({n}), **others, at);
    });
}

Request OrderedCommunicator::all_reduce(Tensor x, Stream stream) {
    ensure(x.contiguous() && (x.dtype == DType::float32 || x.dtype == DType::float64),
           "all_reduce sums contiguous float32 or float64");
    if (size() == 1 || x.count() == 0) return {};
    if (x.size_bytes() <= kSmallBytes) return all_reduce_small(x, stream);
    const int reduce_tag = next_tag(), gather_tag = next_tag();
    return Request([this, x, gather_tag, unit = device_.recorder().unit,
                    reduction = start_reduction(own_part(x, rank()), x, reduce_tag, stream)](Stream at) {
        const UnitMark mark(device_.recorder(), unit);
        finish_reduction(*reduction, at);
        transport_->finish(start_gather(x, kNobody, gather_tag, at), at);
    });
}

/// A small tensor goes from root to all. Of a large tensor root sends each rank one part, then all ranks gather the
/// parts, so root sends the tensor about twice instead of size - 1 times.
Request OrderedCommunicator::broadcast(Tensor x, int root, Stream stream) {
    ensure(x.contiguous() && root >= 0 && root < size(),
           "broadcast takes a contiguous tensor and one of the ranks as root");
    if (size() == 1 || x.count() == 0) return {};
    const bool small = x.size_bytes() <= kSmallBytes;
    const int scatter_tag = next_tag(), gather_tag = next_tag();
    std::vector<Send> sends;
    std::vector<Receive> receives;
    for (int turn = 1; turn < size() && rank() == root; ++turn) {
        const int to = (rank() + turn) % size();
        sends.push_back({to, small ? x : own_part(x, to)});
    }
    if (rank() != root) {
        poison(x.reshaped({x.count()}), stream);
        receives.push_back({root, small ? x : own_part(x, rank())});
    }
    return Request([this, x, root, small, gather_tag, unit = device_.recorder().unit,
                    ticket = start(sends, receives, scatter_tag, stream)](Stream at) {
        const UnitMark mark(device_.recorder(), unit);
        transport_->finish(ticket, at);
        if (!small) transport_->finish(start_gather(x, root, gather_tag, at), at);
    });
}

Request OrderedCommunicator::exchange(const std::vector<Send>& sends, const std::vector<Receive>& receives,
                                      Stream stream) {
    for (const Send& send : sends)
        ensure(send.peer >= 0 && send.peer < size() && send.peer != rank(), "exchange sends to another rank");
    for (const Receive& receive : receives)
        ensure(receive.peer >= 0 && receive.peer < size() && receive.peer != rank(),
               "exchange receives from another rank");
    if (sends.empty() && receives.empty()) return {};
    return Request(
        [this, ticket = start(sends, receives, kExchangeTag, stream)](Stream at) { transport_->finish(ticket, at); });
}

}  // namespace longlora::parallel
