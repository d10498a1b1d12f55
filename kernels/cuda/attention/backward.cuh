// The formulas of backward attention, why it has two kernels (backward_keys.cu and backward_queries.cu; in float32
// float_backward.cu), and the scaled lse that the bfloat16 ones use.
//
// With s = q.k, c = scale * log2(e) and L = lse * log2(e), for every visible pair of a query t and a key j:
//   p = 2^(c s - L)               dp = d_out . v                    ds = p (dp - delta)
//   dV_j += sum_t p_tj d_out_t    dK_j += scale sum_t ds_tj q_t     dQ_t += scale sum_j ds_tj k_j
// delta is computed in delta.cu. In algorithm 2 of Dao 2023 many blocks add to dQ with atomics, in any order. Here one
// kernel owns keys (dK, dV: 4 products per pair of tiles) and another owns queries (dQ: 3 products). Both compute p and
// ds, so there are 7 products instead of 5. In return there are no atomics, no workspace of the size of dQ per tile of
// keys, and sums have a fixed order. Blocks also never wait for their turn, which the simulation of tests/sim could not
// check.
#pragma once

#include "kernels/cuda/attention/tiles.cuh"

namespace longlora::cuda {

/// L of the formulas above. It is +inf for a query that saw no key or does not exist, so that all of its p are 0.
__device__ inline float scaled_lse(float lse) { return lse == -INFINITY ? INFINITY : lse * 1.4426950408889634f; }

}  // namespace longlora::cuda
