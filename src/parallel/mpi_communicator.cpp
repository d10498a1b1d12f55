// The mpi transport: non-blocking messages of bytes in CPU memory. Main thread only (MPI_THREAD_FUNNELED).
// Collectives and sums are in parallel/ordered_communicator.cpp.
#include <map>

#include "core/error.h"
#include "parallel/mpi_check.h"
#include "parallel/ordered_communicator.h"

namespace longlora::parallel {

namespace {

class MpiTransport final : public Transport {
public:
    MpiTransport(Device& device, MPI_Comm comm, int rank, std::function<void()> while_waiting)
        : device_(device),
          comm_(comm),
          rank_(rank),
          while_waiting_(std::move(while_waiting)) {}
    ~MpiTransport() override { release(comm_); }
    MpiTransport(const MpiTransport&) = delete;
    MpiTransport& operator=(const MpiTransport&) = delete;

    Ticket start(const std::vector<SentPiece>& sends, const std::vector<ReceivedPiece>& receives, int tag,
                 Stream after) override {
        device_.synchronize(after);  // the bytes to send must have been computed
        UnderWay messages{std::vector<MPI_Request>(receives.size() + sends.size(), MPI_REQUEST_NULL), {}};
        auto request = messages.requests.begin();
        // Receives before sends, so that messages that arrive early find their place.
        for (const ReceivedPiece& piece : receives) {
            messages.expected.push_back(piece.size);
            check_mpi(MPI_Irecv(piece.bytes, piece.size, MPI_BYTE, piece.peer, tag, comm_, &*request++), "MPI_Irecv",
                      rank_);
        }
        for (const SentPiece& piece : sends)
            check_mpi(MPI_Isend(piece.bytes, piece.size, MPI_BYTE, piece.peer, tag, comm_, &*request++), "MPI_Isend",
                      rank_);
        under_way_.emplace(++last_ticket_, std::move(messages));
        return last_ticket_;
    }

    void finish(Ticket ticket, Stream) override {
        const auto found = under_way_.find(ticket);
        ensure(found != under_way_.end(), "a communication is finished exactly once");
        UnderWay messages = std::move(found->second);
        under_way_.erase(found);
        // One by one: MPI_Waitall of Open MPI 4.1 never returns if a message that has already arrived is in error.
        for (std::size_t i = 0; i < messages.requests.size(); ++i) {
            MPI_Status status;
            wait(messages.requests[i], status);
            if (i >= messages.expected.size()) continue;
            int arrived = 0;
            check_mpi(MPI_Get_count(&status, MPI_BYTE, &arrived), "MPI_Get_count", rank_);
            ensure(arrived == messages.expected[i], "a message has the length that its receiver expects");
        }
    }

    /// MPI_Iprobe for a message that never comes makes MPI look at all its connections. Errors appear in finish().
    void progress() override {
        if (under_way_.empty()) return;
        int found = 0;
        MPI_Iprobe(MPI_ANY_SOURCE, kNoMessageTag, comm_, &found, MPI_STATUS_IGNORE);
    }

private:
    struct UnderWay {
        std::vector<MPI_Request> requests;  // receives first
        std::vector<int> expected;          // bytes of each receive
    };
    /// MPI_Test looks at all connections and, like MPI_Wait, yields the core when there are more ranks than cores.
    void wait(MPI_Request& request, MPI_Status& status) {
        constexpr int kTestsBetweenCalls = 64;
        for (int done = 0, tests = 1;; ++tests) {
            check_mpi(MPI_Test(&request, &done, &status), "MPI_Test", rank_);
            if (done) return;
            if (while_waiting_ && tests % kTestsBetweenCalls == 0) while_waiting_();
        }
    }
    Device& device_;
    MPI_Comm comm_;
    int rank_;
    std::function<void()> while_waiting_;
    Ticket last_ticket_ = 0;
    std::map<Ticket, UnderWay> under_way_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(Device& device, MPI_Comm comm, const CommunicatorOptions& options) {
    const MPI_Comm own = duplicate(comm);
    int rank = 0, size = 1;
    check_mpi(MPI_Comm_rank(own, &rank), "MPI_Comm_rank", 0);
    check_mpi(MPI_Comm_size(own, &size), "MPI_Comm_size", rank);
    return std::make_unique<OrderedCommunicator>(
        device, rank, size, options, std::make_unique<MpiTransport>(device, own, rank, options.while_waiting));
}

}  // namespace longlora::parallel
