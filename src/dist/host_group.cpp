// HostGroup over MPI: blocking calls with small host data. Strings of any length: long ones go in pieces that fit MPI's int counts.
#include "dist/host_group.h"

#include <algorithm>

#include "core/error.h"
#include "dist/mpi_check.h"

namespace longlora::dist {

namespace {

constexpr std::int64_t kMaxPiece = std::int64_t{1} << 30;   // bytes of one MPI call

}  // namespace

HostGroup::HostGroup(MPI_Comm parent) : comm_(duplicate(parent)) {
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank", 0);
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size", rank_);
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node), "MPI_Comm_split_type", rank_);
    check_mpi(MPI_Comm_rank(node, &node_rank_), "MPI_Comm_rank", rank_);
    check_mpi(MPI_Comm_size(node, &node_size_), "MPI_Comm_size", rank_);
    release(node);
}

HostGroup::~HostGroup() { release(comm_); }

void HostGroup::barrier() const { check_mpi(MPI_Barrier(comm_), "MPI_Barrier", rank_); }

bool HostGroup::any(bool mine) const {
    const int in = mine ? 1 : 0;
    int out = 0;
    check_mpi(MPI_Allreduce(&in, &out, 1, MPI_INT, MPI_MAX, comm_), "MPI_Allreduce", rank_);
    return out != 0;
}

std::string HostGroup::broadcast(const std::string& bytes, int root) const {
    ensure(root >= 0 && root < size_, "the root of a broadcast is a rank");
    std::string out = rank_ == root ? bytes : std::string();
    auto length = static_cast<std::int64_t>(out.size());
    check_mpi(MPI_Bcast(&length, 1, MPI_INT64_T, root, comm_), "MPI_Bcast", rank_);
    out.resize(static_cast<std::size_t>(length));
    for (std::int64_t begin = 0; begin < length; begin += kMaxPiece)
        check_mpi(MPI_Bcast(out.data() + begin, static_cast<int>(std::min(kMaxPiece, length - begin)), MPI_BYTE, root, comm_), "MPI_Bcast", rank_);
    return out;
}

std::vector<std::string> HostGroup::all_gather(const std::string& bytes) const {
    const auto num_ranks = static_cast<std::size_t>(size_);
    const auto mine = static_cast<std::int64_t>(bytes.size());
    std::vector<std::int64_t> lengths(num_ranks);
    check_mpi(MPI_Allgather(&mine, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, comm_), "MPI_Allgather", rank_);
    std::int64_t total = 0;
    for (const std::int64_t length : lengths) total += length;
    std::vector<std::string> out(num_ranks);
    if (total > kMaxPiece) {   // does not fit one call: rank after rank
        for (int r = 0; r < size_; ++r) out[static_cast<std::size_t>(r)] = broadcast(bytes, r);
        return out;
    }
    std::vector<int> counts(num_ranks), begins(num_ranks);
    std::string all(static_cast<std::size_t>(total), '\0');
    for (std::size_t r = 0; r < num_ranks; ++r) {
        counts[r] = static_cast<int>(lengths[r]);
        begins[r] = r ? begins[r - 1] + counts[r - 1] : 0;
    }
    check_mpi(MPI_Allgatherv(bytes.data(), counts[static_cast<std::size_t>(rank_)], MPI_BYTE, all.data(), counts.data(), begins.data(), MPI_BYTE, comm_),
              "MPI_Allgatherv", rank_);
    for (std::size_t r = 0; r < num_ranks; ++r) out[r] = all.substr(static_cast<std::size_t>(begins[r]), static_cast<std::size_t>(counts[r]));
    return out;
}

}  // namespace longlora::dist
