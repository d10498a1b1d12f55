// NcclExchange: announcements have tag 0. Contents have a tag made of the message's number, and go in pieces that MPI's
// int counts allow.
#include "sim/runtime/nccl_exchange.h"

#include <algorithm>

#include "sim/runtime/nccl_task.h"
#include "sim/runtime/nccl_types.h"
#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

constexpr int kAnnouncement = 0, kNumTags = 30000;

int tag_of(std::uint64_t number) { return 1 + static_cast<int>(number % kNumTags); }

}  // namespace

std::string describe(const Announcement& a) {
    std::ostringstream out;
    const auto kind = static_cast<Kind>(a.kind);
    if (kind == Kind::send_receive) out << "a message of " << a.count << " bytes";
    else out << name_of(kind) << " of " << a.count << ' ' << name_of(static_cast<ncclDataType_t>(a.type));
    if (kind == Kind::all_reduce || kind == Kind::reduce_scatter)
        out << " (" << name_of(static_cast<ncclRedOp_t>(a.reduction)) << ')';
    if (a.root >= 0) out << " from root " << a.root;
    out << ", message " << a.number << " between the two";
    return out.str();
}

/// MPI also reads the data outside of the API, where device memory may be hidden, so hidden memory is sent from a copy.
void Exchange::send(int peer, const std::byte* data, std::size_t bytes, Announcement announcement) {
    if (settings().hidden) data = copies_.emplace_back(data, data + bytes).data();
    announcement.number = counts_->sent[static_cast<std::size_t>(peer)]++;
    messages_.push_back({.peer = peer,
                         .tag = tag_of(announcement.number),
                         .outgoing = true,
                         .data = const_cast<std::byte*>(data),
                         .bytes = bytes,
                         .own = announcement});
    Message& message = messages_.back();
    PMPI_Isend(&message.own, sizeof message.own, MPI_BYTE, peer, kAnnouncement, comm_, &message.announcement);
    post_pieces(message);
}

void Exchange::receive(int peer, std::byte* data, std::size_t bytes, Announcement announcement) {
    announcement.number = counts_->received[static_cast<std::size_t>(peer)]++;
    messages_.push_back({.peer = peer,
                         .tag = tag_of(announcement.number),
                         .outgoing = false,
                         .data = data,
                         .bytes = bytes,
                         .own = announcement});
    Message& message = messages_.back();
    PMPI_Irecv(&message.theirs, sizeof message.theirs, MPI_BYTE, peer, kAnnouncement, comm_, &message.announcement);
}

void Exchange::post_pieces(Message& message) {
    const std::size_t piece = settings().nccl_piece_bytes;
    for (std::size_t begin = 0; begin == 0 || begin < message.bytes; begin += piece) {
        const int bytes = static_cast<int>(std::min(piece, message.bytes - begin));
        message.pieces.push_back(MPI_REQUEST_NULL);
        if (message.outgoing)
            PMPI_Issend(message.data + begin, bytes, MPI_BYTE, message.peer, message.tag, comm_,
                        &message.pieces.back());
        else
            PMPI_Irecv(message.data + begin, bytes, MPI_BYTE, message.peer, message.tag, comm_, &message.pieces.back());
    }
}

bool Exchange::advance(Message& message) {
    int done = 0;
    if (!message.announced) {
        PMPI_Test(&message.announcement, &done, MPI_STATUS_IGNORE);
        if (!done) return false;
        message.announced = true;
        if (!message.outgoing && message.theirs != message.own)
            misuse("NCCL: ranks of a communicator do different things: rank ", message.peer, " is at ",
                   describe(message.theirs), "; this rank is at ", describe(message.own));
        if (!message.outgoing) post_pieces(message);
    }
    PMPI_Testall(static_cast<int>(message.pieces.size()), message.pieces.data(), &done, MPI_STATUSES_IGNORE);
    return done;
}

bool Exchange::advance() {
    bool complete = true;
    for (Message& message : messages_) {
        if (!message.complete) message.complete = advance(message);
        complete = complete && message.complete;
    }
    return complete;
}

std::string Exchange::waits_for() const {
    std::ostringstream out;
    const char* separator = "";
    for (const Message& message : messages_) {
        if (message.complete) continue;
        if (message.outgoing) out << separator << "rank " << message.peer << " does not take what is sent to it";
        else out << separator << "nothing has come from rank " << message.peer;
        separator = ", ";
    }
    return out.str();
}

}  // namespace sim::runtime
