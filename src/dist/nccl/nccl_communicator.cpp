// The nccl transport: messages between GPUs, queued on streams of their own, so that nobody waits for them but streams. It computes nothing: sums are
// OrderedCommunicator's, as over MPI.
//
// NCCL has no tags: between two ranks messages match in their order, and one that waits for its partner holds up all later ones of its communicator. So all ranks
// start theirs in one common order (communicator.h), those of a start in one group. A chain of stages has no such order (the pipeline's schedule is another one on each
// stage); there each link between neighbours is by itself: a rank's two links belong to two NCCL communicators, "lanes", with a stream each.
#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <string>

#include "dist/agree.h"
#include "dist/nccl/nccl_library.h"
#include "dist/ordered_communicator.h"
#include "kernels/cuda/native.h"

namespace longlora::dist {

namespace {

/// A stage's receive waits on the GPU while the task before computes, so it gets few thread blocks.
constexpr int kChainBlocks = 4;

/// One NCCL communicator and its stream.
class Lane {
public:
    /// Collective over `group`.
    Lane(Device& device, const NcclLibrary& nccl, const HostGroup& group, bool chain) : device_(device), nccl_(nccl), rank_(group.rank()), stream_(device.make_stream()) {
        ncclUniqueId id{};
        if (rank_ == 0) nccl.check(nccl.get_unique_id(&id), "ncclGetUniqueId", rank_, nullptr);
        const std::string bytes = group.broadcast(std::string(id.internal, sizeof id.internal));
        std::memcpy(id.internal, bytes.data(), sizeof id.internal);
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 1;   // a rank that is lost meanwhile is the watchdog's business
        if (chain) config.maxCTAs = kChainBlocks;
        nccl.check(nccl.init_rank(&comm_, group.size(), id, rank_, &config), "ncclCommInitRankConfig", rank_, nullptr);
    }
    /// After an error messages may wait for ever: they are given up, so that memory and streams of the device can be given back.
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
    void send(const Piece& piece) { check(nccl_.send(piece.bytes, static_cast<std::size_t>(piece.size), ncclUint8, piece.peer, comm_, native()), "ncclSend"); }
    void receive(const Piece& piece) { check(nccl_.receive(piece.bytes, static_cast<std::size_t>(piece.size), ncclUint8, piece.peer, comm_, native()), "ncclRecv"); }
    Event behind() { return device_.record(stream_); }

    void check_alive() const {
        ncclResult_t state = ncclSuccess;
        check(nccl_.get_async_error(comm_, &state), "ncclCommGetAsyncError");
        if (state != ncclInProgress) check(state, "a message under way");
    }

private:
    void check(ncclResult_t result, const char* call) const { nccl_.check(result, call, rank_, comm_); }
    cudaStream_t native() const { return cuda::native_stream(device_, stream_); }

    Device& device_;
    const NcclLibrary& nccl_;
    int rank_;
    Stream stream_;
    ncclComm_t comm_ = nullptr;
};

class NcclTransport final : public Transport {
public:
    NcclTransport(Device& device, const HostGroup& group, bool chain) : device_(device), rank_(group.rank()) {
        if (group.size() == 1) return;
        const int num_lanes = chain && group.size() > 2 ? 2 : 1;
        for (int i = 0; i < num_lanes; ++i) lanes_.push_back(std::make_unique<Lane>(device, nccl_, group, chain));
    }

    Ticket start(const std::vector<Piece>& sends, const std::vector<Piece>& receives, int, Stream after) override {
        const Event ready = device_.record(after);
        std::vector<Event> ends;
        for (std::size_t i = 0; i < lanes_.size(); ++i) {
            const auto belongs = [&](const Piece& piece) { return lane_of(piece.peer) == i; };
            if (std::none_of(sends.begin(), sends.end(), belongs) && std::none_of(receives.begin(), receives.end(), belongs)) continue;
            lanes_[i]->start(ready, [&](Lane& lane) {
                for (const Piece& piece : sends)
                    if (belongs(piece)) lane.send(piece);
                for (const Piece& piece : receives)
                    if (belongs(piece)) lane.receive(piece);
            });
            ends.push_back(lanes_[i]->behind());
        }
        under_way_.emplace(++last_ticket_, std::move(ends));
        return last_ticket_;
    }

    void finish(Ticket ticket, Stream before) override {
        const auto found = under_way_.find(ticket);
        ensure(found != under_way_.end(), "a communication is finished once");
        for (const Event end : found->second) device_.wait(before, end);
        under_way_.erase(found);
    }

    void progress() override {
        for (const auto& lane : lanes_) lane->check_alive();
    }

private:
    /// That of the link below: the same on both of its ends, and another one than that of the link above.
    std::size_t lane_of(int peer) const { return static_cast<std::size_t>(std::min(rank_, peer)) % lanes_.size(); }

    Device& device_;
    const NcclLibrary nccl_;
    int rank_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    Ticket last_ticket_ = 0;
    std::map<Ticket, std::vector<Event>> under_way_;   // what is to be waited for
};

}  // namespace

void require_nccl() { static_cast<void>(NcclLibrary()); }

std::unique_ptr<Communicator> make_nccl_communicator(Device& device, MPI_Comm comm, const CommunicatorOptions& options) {
    const HostGroup group(comm, options.while_waiting);
    return std::make_unique<OrderedCommunicator>(device, group.rank(), group.size(), options, std::make_unique<NcclTransport>(device, group, options.chain));
}

}  // namespace longlora::dist
