// The nccl transport: messages between GPUs, queued on streams of their own, so that only streams wait for them.
// Collectives and sums are in parallel/ordered_communicator.cpp, the same as over MPI.
//
// NCCL has no tags: messages between two ranks match in their order, and a message that waits for its partner delays
// all later messages of its communicator. So all ranks start their messages in one common order
// (parallel/communicator.h), and those of one start() form one NCCL group. A chain of pipeline stages has no common
// order, because every stage has its own schedule. There each link between neighbours is independent: the two links
// of a rank belong to two NCCL communicators, "lanes", with a stream each.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <string>

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/native.h"
#include "parallel/agree.h"
#include "parallel/nccl/nccl_library.h"
#include "parallel/ordered_communicator.h"

namespace longlora::parallel {

namespace {

/// The receive of a stage waits on the GPU while the previous task still computes, so it gets few thread blocks.
constexpr int kChainBlocks = 4;

/// One NCCL communicator and its stream.
class Lane {
public:
    /// Collective over `group`. peers: the ranks with which this rank will exchange. They are connected here. The
    /// first message between two ranks makes the host wait until both ranks have come to it; later, when each has
    /// queued other work before it, that could be a deadlock. Connecting also takes device memory.
    Lane(Device& device, const NcclLibrary& nccl, const HostGroup& group, bool chain, const std::vector<int>& peers)
        : device_(device),
          nccl_(nccl),
          stream_(device.make_stream()) {
        ncclUniqueId id{};
        if (group.rank() == 0) nccl.check(nccl.get_unique_id(&id), "ncclGetUniqueId", nullptr);
        const std::string bytes = group.broadcast(std::string(id.internal, sizeof id.internal));
        std::memcpy(id.internal, bytes.data(), sizeof id.internal);
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 1;  // if a rank is lost meanwhile, jobs/process/watchdog.h ends the process
        if (chain) config.maxCTAs = kChainBlocks;
        nccl.check(nccl.init_rank(&comm_, group.size(), id, group.rank(), &config), "ncclCommInitRankConfig", nullptr);
        try {
            connect(peers);
        } catch (...) {
            nccl_.abort(comm_);
            throw;
        }
    }
    /// After an error, messages may wait for ever. They are aborted, so that memory and streams of the device can be
    /// released.
    ~Lane() {
        if (std::uncaught_exceptions() > 0) nccl_.abort(comm_);
        else nccl_.destroy(comm_);
    }
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    template <class Call> void start(Event ready, const Call& call) {
        device_.wait(stream_, ready);
        check(nccl_.group_start(), "ncclGroupStart");
        call(*this);
        check(nccl_.group_end(), "ncclGroupEnd");
    }
    void send(const SentPiece& piece) {
        check(nccl_.send(piece.bytes, piece.size, ncclUint8, piece.peer, comm_, native()), "ncclSend");
    }
    void receive(const ReceivedPiece& piece) {
        check(nccl_.receive(piece.bytes, piece.size, ncclUint8, piece.peer, comm_, native()), "ncclRecv");
    }
    Event behind() { return device_.record(stream_); }

    void check_alive() const {
        ncclResult_t state = ncclSuccess;
        check(nccl_.get_async_error(comm_, &state), "ncclCommGetAsyncError");
        if (state != ncclInProgress) check(state, "a message under way");
    }

private:
    /// Sends one byte to each peer and receives one from each, all in one group, so that the order of ranks does not
    /// matter.
    void connect(const std::vector<int>& peers) {
        if (peers.empty()) return;
        const std::size_t n = peers.size();
        const ArenaTensor data =
            device_.memory().tensor(DType::uint8, {static_cast<std::int64_t>(2 * n)}, Use::workspace);
        cuda::check(cudaMemsetAsync(data->bytes, 0, 2 * n, native()), "cudaMemsetAsync");
        start(device_.record(stream_), [&](Lane& lane) {
            for (std::size_t i = 0; i < n; ++i) {
                lane.send({peers[i], data->bytes + i, 1});
                lane.receive({peers[i], data->bytes + n + i, 1});
            }
        });
        device_.synchronize(stream_);
    }
    void check(ncclResult_t result, const char* call) const { nccl_.check(result, call, comm_); }
    cudaStream_t native() const { return cuda::native_stream(device_, stream_); }

    Device& device_;
    const NcclLibrary& nccl_;
    Stream stream_;
    ncclComm_t comm_ = nullptr;
};

class NcclTransport final : public Transport {
public:
    NcclTransport(Device& device, const HostGroup& group, bool chain) : device_(device), rank_(group.rank()) {
        if (group.size() == 1) return;
        const int num_lanes = chain && group.size() > 2 ? 2 : 1;
        lanes_.resize(num_lanes);
        for (std::size_t i = 0; i < lanes_.size(); ++i) {
            std::vector<int> peers;
            for (int peer = 0; peer < group.size(); ++peer)
                if (peer != rank_ && (!chain || std::abs(peer - rank_) == 1) && lane_of(peer) == i)
                    peers.push_back(peer);
            lanes_[i] = std::make_unique<Lane>(device, nccl_, group, chain, peers);
        }
    }

    Ticket start(const std::vector<SentPiece>& sends, const std::vector<ReceivedPiece>& receives, int,
                 Stream after) override {
        const Event ready = device_.record(after);
        std::vector<Event> ends;
        for (std::size_t i = 0; i < lanes_.size(); ++i) {
            const auto belongs = [&](const auto& piece) { return lane_of(piece.peer) == i; };
            if (std::none_of(sends.begin(), sends.end(), belongs) &&
                std::none_of(receives.begin(), receives.end(), belongs))
                continue;
            lanes_[i]->start(ready, [&](Lane& lane) {
                for (const SentPiece& piece : sends)
                    if (belongs(piece)) lane.send(piece);
                for (const ReceivedPiece& piece : receives)
                    if (belongs(piece)) lane.receive(piece);
            });
            ends.push_back(lanes_[i]->behind());
        }
        under_way_.emplace(++last_ticket_, std::move(ends));
        return last_ticket_;
    }

    void finish(Ticket ticket, Stream before) override {
        const auto found = under_way_.find(ticket);
        ensure(found != under_way_.end(), "a communication is finished exactly once");
        for (const Event end : found->second) device_.wait(before, end);
        under_way_.erase(found);
    }

    void progress() override {
        for (const auto& lane : lanes_)
            if (lane) lane->check_alive();  // null while the constructor makes the lanes
    }

private:
    /// The lane of the link to `peer`. It is the same at both ends of the link, and differs from the lane of the
    /// rank's other link.
    std::size_t lane_of(int peer) const { return static_cast<std::size_t>(std::min(rank_, peer)) % lanes_.size(); }

    Device& device_;
    const NcclLibrary nccl_;
    int rank_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    Ticket last_ticket_ = 0;
    std::map<Ticket, std::vector<Event>> under_way_;  // the events to wait for
};

}  // namespace

void require_nccl() { static_cast<void>(NcclLibrary()); }

std::unique_ptr<Communicator> make_nccl_communicator(Device& device, MPI_Comm comm,
                                                     const CommunicatorOptions& options) {
    const HostGroup group(comm, options.while_waiting);
    return std::make_unique<OrderedCommunicator>(device, group.rank(), group.size(), options,
                                                 std::make_unique<NcclTransport>(device, group, options.chain));
}

}  // namespace longlora::parallel
