// Typed rows of tensors, and the choice between float and bf16 at run time, for the operations of the CPU.
#pragma once

#include <type_traits>

#include "core/tensor.h"

namespace longlora::cpu {

/// Calls f with a float or a bf16. f gets the type by decltype of its argument.
template <class F> void with_type(DType dtype, F&& f) {
    if (dtype == DType::float32) f(float{});
    else f(bf16{});
}

/// A matrix as pointer and stride: rows[i] is where row i begins. T is const if the matrix is only read.
template <class T> struct Rows {
    using View = std::conditional_t<std::is_const_v<T>, ConstTensor, Tensor>;
    T* data;
    std::int64_t stride;
    explicit Rows(const View& t) : data(t.template data<std::remove_const_t<T>>()), stride(t.row_stride) {}
    T* operator[](std::int64_t i) const { return data + i * stride; }
};

/// A contiguous tensor becomes one long row, so that loops over elements are fewer and longer.
inline ConstTensor flat(const ConstTensor& t) { return t.contiguous() ? t.reshaped({1, t.count()}) : t; }

/// Calls f(row, begin, end) in parallel for pieces that cover all rows of a matrix of this shape. Only the shape
/// determines the pieces.
template <class F> void for_pieces(std::int64_t num_rows, std::int64_t width, F&& f) {
    constexpr std::int64_t kPiece = 1 << 13;
    const std::int64_t pieces = (width + kPiece - 1) / kPiece, num_pieces = num_rows * pieces;
#pragma omp parallel for schedule(static) if (num_rows * width > 2 * kPiece)
    for (std::int64_t i = 0; i < num_pieces; ++i)
        f(i / pieces, i % pieces * kPiece, std::min(width, (i % pieces + 1) * kPiece));
}

}  // namespace longlora::cpu
