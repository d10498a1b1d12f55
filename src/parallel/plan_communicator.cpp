// The plan transport: it moves nothing and never waits. Messages are counted in parallel/ordered_communicator.cpp.
#include "parallel/ordered_communicator.h"

namespace longlora::parallel {

namespace {

class PlanTransport final : public Transport {
public:
    Ticket start(const std::vector<SentPiece>&, const std::vector<ReceivedPiece>&, int, Stream) override { return 0; }
    void finish(Ticket, Stream) override {}
    void progress() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_plan_communicator(Device& device, int rank, int size,
                                                     const CommunicatorOptions& options) {
    return std::make_unique<OrderedCommunicator>(device, rank, size, options, std::make_unique<PlanTransport>());
}

}  // namespace longlora::parallel
