// Searching with the planner: which meshes fit and are fastest, and how long a context fits. What a plan of one mesh
// is, is plan_mesh.h.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "jobs/plan/mesh.h"

namespace longlora {

/// A way to spread a step over ranks.
struct Spread {
    parallel::MeshShape mesh;
    int zero = 0;
    std::int64_t micro_batch = 1;
    bool operator==(const Spread&) const = default;
};

/// `request` on that spread.
PlanRequest spread_request(const PlanRequest& request, const Spread& spread);

/// Every mesh of `ranks` ranks that divides them, has no more stages than layers, no more ranks of a sequence than
/// tokens and none without a sequence, with every ZeRO stage that differs there and micro-batches of 1, 2, 4, 8
/// sequences as far as there are so many.
std::vector<Spread> spreads_of(const PlanRequest& request, int ranks);

struct Found {
    Spread spread;
    MeshPlan plan;
};

/// The spreads that fit, fastest first, the best of each mesh and micro-batch, at most `count`. All are planned cheaply
/// (keeping the least, their first and last stage), the most promising with what fits kept.
std::vector<Found> find_spreads(const PlanRequest& request, const PlanGoal& goal, int ranks, std::size_t count);

/// The request of a step at `context` tokens (rotary scaling and group follow it).
using RequestAt = std::function<PlanRequest(std::int64_t context)>;

struct LongestContext {
    std::int64_t context = 0;  ///< a multiple of `unit`; 0: not even one unit fits
    Spread spread;
    MeshPlan plan;  ///< fits
};
/// Over the given spreads. The search keeps the least and looks at the extreme ranks; then what it found is planned in
/// full, and shortened until that fits.
LongestContext longest_context(const RequestAt& request_at, const std::vector<Spread>& spreads, const PlanGoal& goal,
                               std::int64_t unit);

}  // namespace longlora
