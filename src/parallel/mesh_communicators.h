// MeshCommunicators: the communicators of one rank, one for each axis of the mesh and two for the pipeline, and what
// the rank sent over each axis. Coordinates of ranks are in parallel/mesh.h. What is sent is decided in src/model and
// src/train.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace longlora::parallel {

/// With one pipeline stage `forward` and `backward` are empty. `sequence` and `data` always exist, if only with one
/// rank.
struct MeshCommunicators {
    MeshShape shape;
    MeshCoordinate at;
    /// The ranks that share a sequence, by sequence coordinate. Carries keys and values, or queries.
    std::unique_ptr<Communicator> sequence;
    /// All data x sequence ranks of this stage, sequence fastest. Carries sums of gradients and the shards of ZeRO.
    std::unique_ptr<Communicator> data;
    /// The stages of this data and sequence coordinate, by stage. `forward` carries activations, `backward` their
    /// gradients.
    std::unique_ptr<Communicator> forward, backward;

    /// Lets messages move on every communicator. Cheap.
    void progress() const;
    /// What this rank has sent so far, by axis ("pipeline", "data", "sequence") and unit of the model.
    std::map<std::string, TrafficByUnit> traffic_by_unit() const;
    /// The same, summed over units.
    std::map<std::string, Traffic> traffic() const;
};

/// Makes a communicator over the ranks of `line`. Collective over them.
using MakeCommunicator =
    std::function<std::unique_ptr<Communicator>(Device& device, MPI_Comm line, const CommunicatorOptions& options)>;
/// Collective over `ranks`, which has shape.num_ranks() ranks. All ranks make their communicators in the same order.
MeshCommunicators make_mesh(const MakeCommunicator& make_communicator, Device& device, MPI_Comm ranks, MeshShape shape,
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
/// The communicators of rank `rank` of a planned mesh, which move nothing.
MeshCommunicators make_plan_mesh(Device& device, MeshShape shape, int rank, const CommunicatorOptions& options = {});

}  // namespace longlora::parallel
