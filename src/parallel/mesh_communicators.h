// MeshCommunicators: one rank's lines along every axis of the mesh, and what went over them. Which ranks there are is
// mesh.h; what is sent is the callers'.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace longlora::parallel {

/// On a pipeline of one stage `forward` and `backward` are empty; `sequence` and `data` are always there (perhaps of
/// one rank).
struct MeshCommunicators {
    MeshShape shape;
    MeshCoordinate at;
    std::unique_ptr<Communicator>
        sequence;  ///< ranks that share a sequence, by sequence coordinate: halos of keys and values
    std::unique_ptr<Communicator>
        data;  ///< all data x sequence ranks of this stage, sequence fastest: sums of gradients, ZeRO's shards
    std::unique_ptr<Communicator> forward,
        backward;  ///< the stages of this data and sequence coordinate, by stage: activations, and their gradients

    /// Lets messages move on every line; cheap.
    void progress() const;
    /// What this rank sent so far, by axis ("pipeline", "data", "sequence") and unit of the model.
    std::map<std::string, TrafficByUnit> traffic_by_unit() const;
    /// The same, all units together.
    std::map<std::string, Traffic> traffic() const;
};

/// Makes a line over the ranks of a communicator; collective over them.
using MakeLine =
    std::function<std::unique_ptr<Communicator>(Device& device, MPI_Comm line, const CommunicatorOptions& options)>;
/// Collective over `ranks`, which has shape.num_ranks() ranks; all make their lines in one order.
MeshCommunicators make_mesh(const MakeLine& make_line, Device& device, MPI_Comm ranks, MeshShape shape,
                            const CommunicatorOptions& options);
/// Over NCCL for a CUDA device, else over MPI.
inline MeshCommunicators make_mesh(Device& device, MPI_Comm ranks, MeshShape shape,
                                   const CommunicatorOptions& options = {}) {
    return make_mesh(make_communicator, device, ranks, shape, options);
}
/// Over MPI.
inline MeshCommunicators make_mpi_mesh(Device& device, MPI_Comm ranks, MeshShape shape,
                                       const CommunicatorOptions& options = {}) {
    return make_mesh(make_mpi_communicator, device, ranks, shape, options);
}
/// Of rank `rank`, moving nothing.
MeshCommunicators make_plan_mesh(Device& device, MeshShape shape, int rank, const CommunicatorOptions& options = {});

}  // namespace longlora::parallel
