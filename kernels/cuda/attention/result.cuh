// How a query's running sums become its part of out and lse, alone or beside an earlier result over other keys.
// Forward, of both types.
#pragma once

#include <cmath>

namespace longlora::cuda {

/// lse' = log(exp(own) + exp(before)), out = own_factor * o + kept * (what out was).
struct MergedResult {
    float lse, own_factor, kept;
};

/// o and sum are sums over keys of exp(score - maximum) v and exp(score - maximum); own is the log of the sum of
/// exp(score), -inf where no key was seen. before: lse of an earlier result, -inf without one. Where only one of both
/// saw keys the result is that one's; kept = 0 means that out is not read.
__device__ inline MergedResult merge_result(float own, float sum, float before) {
    if (before == -INFINITY) return {own, sum == 0 ? 0 : 1 / sum, 0};
    if (own == -INFINITY) return {before, 0, 1};
    const float larger = fmaxf(own, before), lse = larger + logf(expf(own - larger) + expf(before - larger));
    return {lse, expf(own - lse) / sum, expf(before - lse)};
}

}  // namespace longlora::cuda
