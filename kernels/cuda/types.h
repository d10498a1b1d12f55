// with_type, with_types: choose between float and bfloat16 at run time, for functions that launch kernels.
#pragma once

#include <cuda_bf16.h>

#include <type_traits>

#include "core/dtype.h"

namespace longlora::cuda {

/// Calls f with a std::type_identity of float or __nv_bfloat16.
template <class F> void with_type(DType dtype, F&& f) {
    if (dtype == DType::float32) f(std::type_identity<float>{});
    else f(std::type_identity<__nv_bfloat16>{});
}
template <class F> void with_types(DType first, DType second, F&& f) {
    with_type(first, [&](auto a) { with_type(second, [&](auto b) { f(a, b); }); });
}

}  // namespace longlora::cuda
