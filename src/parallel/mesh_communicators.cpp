// Splits the ranks by axis. Colours and keys follow from coordinates in the mesh, so the order of ranks along an axis
// is that of parallel/mesh.h.
#include "parallel/mesh_communicators.h"

#include "parallel/mpi_check.h"

namespace longlora::parallel {
namespace {

/// Makes each communicator with line(colour, rank in it, its size, whether it is a chain of stages): the ranks of one
/// colour share a communicator.
template <class Line> MeshCommunicators make_all(MeshShape shape, int rank, Line&& line) {
    MeshCommunicators mesh;
    mesh.shape = shape;
    mesh.at = coordinate_of(shape, rank);
    const MeshCoordinate at = mesh.at;
    const int of_stage = shape.data * shape.sequence, in_stage = at.data * shape.sequence + at.sequence;
    mesh.sequence = line(rank / shape.sequence, at.sequence, shape.sequence, false);
    mesh.data = line(at.pipeline, in_stage, of_stage, false);
    if (shape.pipeline == 1) return mesh;
    mesh.forward = line(in_stage, at.pipeline, shape.pipeline, true);
    mesh.backward = line(in_stage, at.pipeline, shape.pipeline, true);
    return mesh;
}

}  // namespace

void MeshCommunicators::progress() const {
    for (const auto* line : {&sequence, &data, &forward, &backward})
        if (*line) (*line)->progress();
}

std::map<std::string, TrafficByUnit> MeshCommunicators::traffic_by_unit() const {
    std::map<std::string, TrafficByUnit> out;
    const auto add = [&](const char* axis, const std::unique_ptr<Communicator>& line) {
        TrafficByUnit& sum = out[axis];
        if (!line) return;
        for (const auto& [unit, sent] : line->traffic_by_unit()) sum[unit] += sent;
    };
    add("pipeline", forward);
    add("pipeline", backward);
    add("data", data);
    add("sequence", sequence);
    return out;
}

std::map<std::string, Traffic> MeshCommunicators::traffic() const {
    std::map<std::string, Traffic> out;
    for (const auto& [axis, units] : traffic_by_unit()) {
        Traffic& sum = out[axis];
        for (const auto& [unit, sent] : units) sum += sent;
    }
    return out;
}

MeshCommunicators make_mesh(const MakeCommunicator& make_communicator, Device& device, MPI_Comm ranks, MeshShape shape,
                            const CommunicatorOptions& options) {
    int rank = 0, size = 0;
    check_mpi(MPI_Comm_rank(ranks, &rank), "MPI_Comm_rank", 0);
    check_mpi(MPI_Comm_size(ranks, &size), "MPI_Comm_size", rank);
    ensure(size == shape.num_ranks(), "the mesh has as many places as there are ranks");
    return make_all(shape, rank, [&](int colour, int key, int, bool chain) {
        MPI_Comm part = MPI_COMM_NULL;
        check_mpi(MPI_Comm_split(ranks, colour, key, &part), "MPI_Comm_split", rank);
        CommunicatorOptions of_line = options;
        of_line.chain = chain;
        auto line = make_communicator(device, part, of_line);
        release(part);
        return line;
    });
}

MeshCommunicators make_plan_mesh(Device& device, MeshShape shape, int rank, const CommunicatorOptions& options) {
    ensure(rank >= 0 && rank < shape.num_ranks(), "the planned rank is a rank of the mesh");
    return make_all(shape, rank, [&](int, int along, int size, bool) {
        return make_plan_communicator(device, along, size, options);
    });
}

}  // namespace longlora::parallel
