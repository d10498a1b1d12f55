// OrderedCommunicator: everything that a communicator does, except moving bytes. Bytes are moved by its Transport:
// over MPI, over NCCL, or not at all (plan). So the messages, the workspace and the sums of a plan and of a run
// cannot differ.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "parallel/communicator.h"

namespace longlora::parallel {

/// Bytes to send to or receive from a peer, at most max_message of them.
template <class Byte> struct PieceOf {
    int peer;
    Byte* bytes;
    int size;
};
using SentPiece = PieceOf<const std::byte>;
using ReceivedPiece = PieceOf<std::byte>;

/// Tags of messages are less than kNoMessageTag, which a transport may use for itself. MPI guarantees tags up to
/// 32767.
constexpr int kExchangeTag = 0, kNumCollectiveTags = 32766, kNoMessageTag = 32767;

/// Point-to-point messages. Between two ranks, messages of one tag match in the order in which they were started; a
/// transport without tags relies on all ranks starting theirs in one common order. The messages of one start() go
/// together: none of them waits for another.
class Transport {
public:
    using Ticket = std::uint64_t;
    virtual ~Transport() = default;
    /// The messages begin after the work queued on `after`. The call does not wait for the messages of other ranks,
    /// but it may wait for the work on `after`.
    virtual Ticket start(const std::vector<SentPiece>& sends, const std::vector<ReceivedPiece>& receives, int tag,
                         Stream after) = 0;
    /// Called once for each ticket. Work that is queued on `before` after this call starts when all messages of the
    /// ticket have been sent and received; over MPI that is so when the call returns.
    virtual void finish(Ticket ticket, Stream before) = 0;
    /// Lets messages move. Throws Error(communication) if it finds an error.
    virtual void progress() = 0;
};

class OrderedCommunicator final : public Communicator {
public:
    OrderedCommunicator(Device& device, int rank, int size, const CommunicatorOptions& options,
                        std::unique_ptr<Transport> transport);

    Request all_gather(Tensor whole, Stream stream) override;
    Request reduce_scatter(Tensor shard, ConstTensor whole, Stream stream) override;
    Request all_reduce(Tensor x, Stream stream) override;
    Request broadcast(Tensor x, int root, Stream stream) override;
    Request exchange(const std::vector<Send>& sends, const std::vector<Receive>& receives, Stream stream) override;
    void progress() override { transport_->progress(); }

private:
    struct Reduction;
    Transport::Ticket start(const std::vector<Send>& sends, const std::vector<Receive>& receives, int tag,
                            Stream stream);
    Transport::Ticket start_gather(Tensor whole, int without, int tag, Stream stream);
    std::shared_ptr<Reduction> start_reduction(Tensor shard, ConstTensor whole, int tag, Stream stream);
    void start_round(Reduction& reduction, std::int64_t round, Stream stream);
    void finish_reduction(Reduction& reduction, Stream stream);
    Request all_reduce_small(Tensor x, Stream stream);
    void add_in_rank_order(Tensor sum, ConstTensor own, Tensor others, Stream stream);
    template <class Byte> void split(int peer, TensorView<Byte> data, std::vector<PieceOf<Byte>>& pieces) const;
    template <class Byte> TensorView<Byte> own_part(TensorView<Byte> whole, int part) const;
    void poison(Tensor result, Stream stream);
    int next_tag();

    Device& device_;
    CommunicatorOptions options_;
    std::unique_ptr<Transport> transport_;
    std::int64_t num_collectives_ = 0;
};

}  // namespace longlora::parallel
