// HostGroup over MPI. Calls are started and tested but never block, so that a waiting rank can call while_waiting().
// Strings may have any length: long ones travel in pieces that fit the int counts of MPI.
#include "parallel/host_group.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "parallel/mpi_check.h"

namespace longlora::parallel {

namespace {

constexpr std::int64_t kMaxPiece = std::int64_t{1} << 30;  // bytes of one MPI call

/// Counts and displacements as MPI_Alltoallv takes them.
struct IntCounts {
    std::vector<int> counts, begins;
    explicit IntCounts(const std::vector<std::int64_t>& bytes) {
        std::int64_t total = 0;
        for (const std::int64_t n : bytes) {
            counts.push_back(static_cast<int>(n));
            begins.push_back(static_cast<int>(total));
            total += n;
        }
        ensure(total <= std::numeric_limits<int>::max(), "an exchange of bytes is below 2 GiB");
    }
};

}  // namespace

HostGroup::HostGroup(MPI_Comm parent, std::function<void()> while_waiting)
    : comm_(duplicate(parent)),
      while_waiting_(std::move(while_waiting)) {
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank", 0);
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size", rank_);
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node), "MPI_Comm_split_type",
              rank_);
    check_mpi(MPI_Comm_rank(node, &node_rank_), "MPI_Comm_rank", rank_);
    check_mpi(MPI_Comm_size(node, &node_size_), "MPI_Comm_size", rank_);
    check_mpi(MPI_Allreduce(&rank_, &node_, 1, MPI_INT, MPI_MIN, node), "MPI_Allreduce", rank_);
    release(node);
}

HostGroup::~HostGroup() { release(comm_); }

void HostGroup::finish(int started, MPI_Request& request, const char* call) const {
    constexpr int kTestsBetweenCalls = 64;
    check_mpi(started, call, rank_);
    for (int done = 0, tests = 1;; ++tests) {
        check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), call, rank_);
        if (done) return;
        if (while_waiting_ && tests % kTestsBetweenCalls == 0) while_waiting_();
    }
}

void HostGroup::barrier() const {
    MPI_Request request = MPI_REQUEST_NULL;
    finish(MPI_Ibarrier(comm_, &request), request, "MPI_Ibarrier");
}

bool HostGroup::any(bool mine) const {
    const int in = mine ? 1 : 0;
    int out = 0;
    MPI_Request request = MPI_REQUEST_NULL;
    finish(MPI_Iallreduce(&in, &out, 1, MPI_INT, MPI_MAX, comm_, &request), request, "MPI_Iallreduce");
    return out != 0;
}

void HostGroup::broadcast(void* data, std::int64_t bytes, int root) const {
    MPI_Request request = MPI_REQUEST_NULL;
    finish(MPI_Ibcast(data, static_cast<int>(bytes), MPI_BYTE, root, comm_, &request), request, "MPI_Ibcast");
}

std::string HostGroup::broadcast(const std::string& bytes, int root) const {
    ensure(root >= 0 && root < size_, "the root of a broadcast is one of the ranks");
    std::string out = rank_ == root ? bytes : std::string();
    std::int64_t length = out.size();
    broadcast(&length, sizeof length, root);
    out.resize(length);
    for (std::int64_t begin = 0; begin < length; begin += kMaxPiece)
        broadcast(out.data() + begin, std::min(kMaxPiece, length - begin), root);
    return out;
}

std::vector<int> HostGroup::all_gather(int mine) const {
    std::vector<int> all(size_);
    MPI_Request request = MPI_REQUEST_NULL;
    finish(MPI_Iallgather(&mine, 1, MPI_INT, all.data(), 1, MPI_INT, comm_, &request), request, "MPI_Iallgather");
    return all;
}

std::vector<std::string> HostGroup::all_gather(const std::string& bytes) const {
    const std::size_t num_ranks = size_;
    const std::int64_t mine = bytes.size();
    std::vector<std::int64_t> lengths(num_ranks);
    MPI_Request request = MPI_REQUEST_NULL;
    finish(MPI_Iallgather(&mine, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, comm_, &request), request,
           "MPI_Iallgather");
    std::int64_t total = 0;
    for (const std::int64_t length : lengths) total += length;
    std::vector<std::string> out(num_ranks);
    if (total > kMaxPiece) {  // does not fit one call: one broadcast per rank
        for (int r = 0; r < size_; ++r) out[r] = broadcast(bytes, r);
        return out;
    }
    std::vector<int> counts(num_ranks), begins(num_ranks);
    std::string all(total, '\0');
    for (std::size_t r = 0; r < num_ranks; ++r) {
        counts[r] = static_cast<int>(lengths[r]);
        begins[r] = r ? begins[r - 1] + counts[r - 1] : 0;
    }
    finish(MPI_Iallgatherv(bytes.data(), counts[rank_], MPI_BYTE, all.data(), counts.data(), begins.data(), MPI_BYTE,
                           comm_, &request),
           request, "MPI_Iallgatherv");
    for (std::size_t r = 0; r < num_ranks; ++r) out[r] = all.substr(begins[r], counts[r]);
    return out;
}

void HostGroup::exchange(const char* out, const std::vector<std::int64_t>& bytes_to, char* in,
                         const std::vector<std::int64_t>& bytes_from) const {
    const IntCounts to(bytes_to), from(bytes_from);
    MPI_Request request = MPI_REQUEST_NULL;
    finish(MPI_Ialltoallv(out, to.counts.data(), to.begins.data(), MPI_BYTE, in, from.counts.data(), from.begins.data(),
                          MPI_BYTE, comm_, &request),
           request, "MPI_Ialltoallv");
}

}  // namespace longlora::parallel
