// NcclExchange: messages of one NCCL operation between ranks, by non-blocking MPI. Every message is announced by a
// small one that says of which call it is, so that ranks that do different things find out at once.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace sim::runtime {

/// What a rank says of the call that a message belongs to; the receiver's must be the same.
struct Announcement {
    std::uint32_t kind = 0, type = 0, reduction = 0;
    std::int32_t root = -1;
    std::uint64_t count = 0;
    std::uint64_t number =
        0;  ///< of messages from this sender to this receiver in the communicator; filled in by Exchange
    bool operator==(const Announcement&) const = default;
};
std::string describe(const Announcement& announcement);

/// Numbers of messages so far, by peer, in a communicator.
struct MessageCounts {
    std::vector<std::uint64_t> sent, received;
};

class Exchange {
public:
    Exchange(MPI_Comm comm, MessageCounts& counts) : comm_(comm), counts_(&counts) {}
    /// Sent at once; complete when the peer has posted its receive (synchronous: nothing is buffered on the way, as in
    /// NCCL).
    void send(int peer, const std::byte* data, std::size_t bytes, Announcement announcement);
    void receive(int peer, std::byte* data, std::size_t bytes, Announcement announcement);
    /// Whether all is complete. Misuse when a peer's announcement differs.
    bool advance();
    /// "nothing has come from rank 2, rank 3 does not take what is sent to it"
    std::string waits_for() const;

private:
    struct Message {
        int peer = 0, tag = 0;
        bool outgoing = false, announced = false, complete = false;
        std::byte* data = nullptr;
        std::size_t bytes = 0;
        Announcement own{}, theirs{};
        MPI_Request announcement = MPI_REQUEST_NULL;
        std::vector<MPI_Request> pieces{};
    };
    void post_pieces(Message& message);
    bool advance(Message& message);

    MPI_Comm comm_;
    MessageCounts* counts_;
    std::deque<Message> messages_;               // addresses stay: MPI keeps them
    std::deque<std::vector<std::byte>> copies_;  // of what is sent from hidden memory
};

}  // namespace sim::runtime
