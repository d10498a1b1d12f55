// What the backward kernels for keys and for queries share: probabilities and score gradients of a tile in registers,
// and the statistics of its queries.
//
// With s = q.k, c = scale * log2(e), L = lse * log2(e), for every visible pair:   p = 2^(c s - L)    dp = d_out . v ds
// = p (dp - delta)
//   dV_j += sum_t p_tj d_out_t      dK_j += scale sum_t ds_tj q_t      dQ_t += scale sum_j ds_tj k_j
// (Dao 2023, algorithm 2). There dQ is added to by many blocks, in any order, with atomics. Here one kernel owns keys
// (dK, dV: 4 products per pair of tiles) and another owns queries (dQ: 3 products), so 7 products instead of 5, but no
// atomics, no workspace of the size of dQ per tile of keys, and sums in a fixed order. Both make p and ds again. Also
// no blocks that wait for each other's turn, which the simulation of tests/sim could not vouch for.
#pragma once

#include "kernels/cuda/attention/tiles.cuh"

namespace longlora::cuda {

/// L of the comment above. A query that saw nothing, or does not exist, gets +inf: all of its p are 0.
__device__ inline float scaled_lse(float lse) { return lse == -INFINITY ? INFINITY : lse * 1.4426950408889634f; }

}  // namespace longlora::cuda
