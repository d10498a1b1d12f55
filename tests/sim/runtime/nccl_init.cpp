// NcclInit: every member sends its rank to the rank that made the id. That rank sends the list of members to all
// members, and they make an MPI communicator.
#include "sim/runtime/nccl_init.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "sim/runtime/mpi_world.h"
#include "sim/runtime/nccl_connect.h"
#include "sim/runtime/nccl_task.h"
#include "sim/runtime/process.h"

namespace sim::runtime {
namespace {

constexpr std::uint64_t kMagic = 0x4E43434C73696D31;

struct Id {
    std::uint64_t magic = 0;
    std::uint32_t number = 0;  ///< number among the ids that the root made
    std::int32_t root = 0;     ///< rank in the world
};

struct Member {
    std::int32_t rank = -1, size = 0, world_rank = 0, gpu = 0;  ///< gpu: physical number
    char host[48] = {};
};

Member myself(MPI_Comm world, int rank, int size, int device) {
    Member member;
    member.rank = rank;
    member.size = size;
    member.gpu = settings().devices[static_cast<std::size_t>(device)];
    PMPI_Comm_rank(world, &member.world_rank);
    char name[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;
    PMPI_Get_processor_name(name, &length);
    std::copy_n(name, std::min<std::size_t>(static_cast<std::size_t>(length), sizeof member.host - 1), member.host);
    return member;
}

/// Waits and lets communication advance meanwhile. Misuse after SIM_NCCL_TIMEOUT.
void complete(MPI_Request* request, const char* what) {
    const auto begin = std::chrono::steady_clock::now();
    Patience patience;
    for (;;) {
        int done = 0;
        PMPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done) return;
        if (std::chrono::steady_clock::now() - begin > std::chrono::duration<double>(settings().nccl_timeout))
            misuse("ncclCommInitRank: has waited ", settings().nccl_timeout, " s (SIM_NCCL_TIMEOUT) for ", what);
        patience.wait_a_moment();
    }
}

/// The root's part: collects the members, which arrive in any order, and sends the list to them.
std::vector<Member> gather(MPI_Comm world, int tag, const Member& own) {
    std::vector<Member> members(static_cast<std::size_t>(own.size));
    members[static_cast<std::size_t>(own.rank)] = own;
    for (int i = 1; i < own.size; ++i) {
        Member arrived;
        MPI_Request request = MPI_REQUEST_NULL;
        PMPI_Irecv(&arrived, sizeof arrived, MPI_BYTE, MPI_ANY_SOURCE, tag, world, &request);
        complete(&request, "the other ranks of the communicator");
        if (arrived.size != own.size)
            misuse("ncclCommInitRank: one rank says that there are ", own.size, " ranks, another ", arrived.size);
        if (arrived.rank < 0 || arrived.rank >= own.size || members[static_cast<std::size_t>(arrived.rank)].rank >= 0)
            misuse("ncclCommInitRank: rank ", arrived.rank, " takes part twice");
        members[static_cast<std::size_t>(arrived.rank)] = arrived;
    }
    for (const Member& member : members) {
        if (member.world_rank == own.world_rank) continue;
        MPI_Request request = MPI_REQUEST_NULL;
        PMPI_Isend(members.data(), static_cast<int>(members.size() * sizeof(Member)), MPI_BYTE, member.world_rank, tag,
                   world, &request);
        complete(&request, "a rank of the communicator to go on");
    }
    return members;
}

std::vector<Member> meet(MPI_Comm world, int tag, int root, const Member& own) {
    if (own.world_rank == root) return gather(world, tag, own);
    std::vector<Member> members(static_cast<std::size_t>(own.size));
    MPI_Request request = MPI_REQUEST_NULL;
    PMPI_Isend(&own, sizeof own, MPI_BYTE, root, tag, world, &request);
    complete(&request, "the rank that made the unique id");
    PMPI_Irecv(members.data(), static_cast<int>(members.size() * sizeof(Member)), MPI_BYTE, root, tag, world, &request);
    complete(&request, "the rank that made the unique id and the others");
    return members;
}

/// Two ranks on one GPU are refused, as in the real library.
bool on_different_gpus(const std::vector<Member>& members) {
    for (std::size_t i = 0; i < members.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (members[i].gpu == members[j].gpu && !std::strcmp(members[i].host, members[j].host)) {
                nccl_last_error() = "Duplicate GPU detected : rank " + std::to_string(j) + " and rank " +
                                    std::to_string(i) + " both on CUDA device " + std::to_string(members[i].gpu);
                return false;
            }
    return true;
}

MPI_Comm make_messages(MPI_Comm world, int tag, const std::vector<int>& world_ranks) {
    MPI_Comm messages = MPI_COMM_NULL;
    MPI_Group all = MPI_GROUP_NULL, group = MPI_GROUP_NULL;
    PMPI_Comm_group(world, &all);
    PMPI_Group_incl(all, static_cast<int>(world_ranks.size()), world_ranks.data(), &group);
    PMPI_Comm_create_group(world, group, tag, &messages);
    PMPI_Group_free(&group);
    PMPI_Group_free(&all);
    return messages;
}

}  // namespace

std::string& nccl_last_error() {
    static auto* const sentence = new std::string;
    return *sentence;
}

ncclUniqueId make_unique_id() {
    static std::uint32_t number = 0;
    Id id{kMagic, number++, 0};
    PMPI_Comm_rank(messages_of_world("ncclGetUniqueId"), &id.root);
    ncclUniqueId bytes{};
    std::memcpy(bytes.internal, &id, sizeof id);
    return bytes;
}

ncclResult_t join(ncclComm_t* comm, int size, const ncclUniqueId& bytes, int rank, int device) {
    Id id;
    std::memcpy(&id, bytes.internal, sizeof id);
    if (!comm || id.magic != kMagic || size < 1 || rank < 0 || rank >= size) return ncclInvalidArgument;
    const MPI_Comm world = messages_of_world("ncclCommInitRank");
    const int tag = static_cast<int>(id.number % 30000);
    const std::vector<Member> members = meet(world, tag, id.root, myself(world, rank, size, device));
    if (!on_different_gpus(members)) return ncclInvalidUsage;
    auto made = std::make_unique<ncclComm>();
    made->id = std::uint64_t{id.number} << 32 | static_cast<std::uint32_t>(id.root);
    made->rank = rank;
    made->size = size;
    made->device = device;
    for (const Member& member : members) made->world_ranks.push_back(member.world_rank);
    made->messages = make_messages(world, tag, made->world_ranks);
    made->counts.sent.resize(static_cast<std::size_t>(size));
    made->counts.received.resize(static_cast<std::size_t>(size));
    made->connected_to.resize(static_cast<std::size_t>(size));
    made->connected_from.resize(static_cast<std::size_t>(size));
    *comm = made.release();
    return ncclSuccess;
}

void leave(ncclComm_t comm) {
    release_buffers(*comm);
    int finalised = 0;
    PMPI_Finalized(&finalised);
    // Open MPI frees it without communication with other ranks.
    if (!finalised && comm->messages != MPI_COMM_NULL) PMPI_Comm_free(&comm->messages);
    delete comm;
}

}  // namespace sim::runtime
