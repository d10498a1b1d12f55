// How the forward kernels of both types turn the running sums of a query into its row of out and its lse, alone or
// merged with an earlier result over other keys. merge.cu merges two complete results.
#pragma once

#include <cmath>

namespace longlora::cuda {

/// lse = log(exp(own) + exp(before)). The new out is own_factor * o + kept * (the old out).
struct MergedResult {
    float lse, own_factor, kept;
};

/// o and sum are the sums over keys of exp(score - maximum) v and of exp(score - maximum). own: the log of the sum of
/// exp(score), -inf if the query saw no key. before: lse of an earlier result, -inf if there is none. If only one of
/// the two results saw keys, it is the merged result. With kept = 0 the caller must not read the old out.
__device__ inline MergedResult merge_result(float own, float sum, float before) {
    if (before == -INFINITY) return {own, sum == 0 ? 0 : 1 / sum, 0};
    if (own == -INFINITY) return {before, 0, 1};
    const float larger = fmaxf(own, before), lse = larger + logf(expf(own - larger) + expf(before - larger));
    return {lse, expf(own - lse) / sum, expf(before - lse)};
}

}  // namespace longlora::cuda
