// NcclExchange: the messages of one NCCL operation between ranks, by non-blocking MPI. A small message announces every
// message and says to which call it belongs, so that ranks that make different calls find out at once.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace sim::runtime {

/// The call to which a message belongs, as the sender sees it; the receiver's announcement must be the same.
struct Announcement {
    std::uint32_t kind = 0, type = 0, reduction = 0;
    std::int32_t root = -1;
    std::uint64_t count = 0;
    /// Number of the message from this sender to this receiver in the communicator; Exchange fills it in.
    std::uint64_t number = 0;
    bool operator==(const Announcement&) const = default;
};
std::string describe(const Announcement& announcement);

/// How many messages were sent to and received from each peer of a communicator.
struct MessageCounts {
    std::vector<std::uint64_t> sent, received;
};

class Exchange {
public:
    Exchange(MPI_Comm comm, MessageCounts& counts) : comm_(comm), counts_(&counts) {}
    /// Begins to send at once; complete when the peer has posted its receive (synchronous: nothing is buffered on the
    /// way, as in NCCL).
    void send(int peer, const std::byte* data, std::size_t bytes, Announcement announcement);
    void receive(int peer, std::byte* data, std::size_t bytes, Announcement announcement);
    /// Advances all messages; returns whether all of them are complete. Throws Misuse if a peer's announcement differs.
    bool advance();
    /// What the messages wait for: "nothing has come from rank 2, rank 3 does not take what is sent to it".
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
    std::deque<Message> messages_;               // a deque, since MPI keeps addresses of its elements
    std::deque<std::vector<std::byte>> copies_;  // copies of messages that are sent from hidden memory
};

}  // namespace sim::runtime
