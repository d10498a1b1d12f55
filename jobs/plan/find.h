// Searches with the planner: which meshes fit and are fastest, and how long a context fits.
// The plan of one mesh is in jobs/plan/mesh.h.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "jobs/plan/mesh.h"

namespace longlora {

/// A way to spread a step over ranks.
struct MeshChoice {
    parallel::MeshShape mesh;
    int zero = 0;
    std::int64_t micro_batch = 1;
    bool operator==(const MeshChoice&) const = default;
};

/// `request` with the mesh, ZeRO stage and micro-batch of `spread`, for rank 0.
PlanRequest spread_request(const PlanRequest& request, const MeshChoice& choice);

/// All spreads over exactly `ranks` ranks. A mesh has at most one stage per layer, at most one sequence rank per token,
/// and at least one sequence of the global batch per data coordinate. Each mesh comes with ZeRO stages 0 to 3 (only 0
/// where no ranks share parameters) and with micro-batches of 1, 2, 4 and 8 sequences, as far as a data coordinate has
/// so many.
std::vector<MeshChoice> mesh_choices(const PlanRequest& request, int ranks);

struct Found {
    MeshChoice choice;
    MeshPlan plan;
};

/// The spreads that fit, fastest first: the best ZeRO stage of each mesh and micro-batch, at most `count` spreads. All
/// are planned cheaply (the least activations are kept, only the first and the last stage are planned); the most
/// promising are planned again with as many activations kept as fit.
std::vector<Found> find_meshes(const PlanRequest& request, const PlanGoal& goal, int ranks, std::size_t count);

/// Gives the request of a step at `context` tokens; rotary scaling and group size follow the context.
using RequestAt = std::function<PlanRequest(std::int64_t context)>;

struct LongestContext {
    std::int64_t context = 0;  ///< a multiple of `unit`; 0: one unit does not fit
    MeshChoice choice;
    MeshPlan plan;  ///< fits
};
/// The longest context over the given spreads. The search keeps the least activations and plans only the extreme ranks.
/// Then the context that it found is planned in full, and shortened by `unit` until that plan fits.
LongestContext longest_context(const RequestAt& request_at, const std::vector<MeshChoice>& choices,
                               const PlanGoal& goal, std::int64_t unit);

}  // namespace longlora
