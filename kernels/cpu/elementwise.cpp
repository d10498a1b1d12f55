// fill, add and copy: rows of any stride, and every combination of real types.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {
namespace {

struct Extent {
    std::int64_t num_rows, width;
};

/// The rows and width of tensors of one shape; one long row if all are contiguous.
template <class... Tensors> Extent extent_of(const ConstTensor& first, const Tensors&... others) {
    if ((first.contiguous() && ... && others.contiguous())) return {1, first.count()};
    return {first.num_rows(), first.width()};
}

template <class T> void fill_with(const Tensor& x, T value) {
    const Rows<T> rows(x);
    const auto [num_rows, width] = extent_of(x);
    for_pieces(num_rows, width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
        std::fill(rows[row] + begin, rows[row] + end, value);
    });
}

}  // namespace

void fill(Tensor x, float value) {
    if (x.dtype == DType::float64) return fill_with(x, static_cast<double>(value));
    if (x.dtype == DType::int32) return fill_with(x, static_cast<std::int32_t>(value));
    if (x.dtype == DType::float32) return fill_with(x, value);
    x.dtype = DType::uint16;  // the bits of bfloat16: structs would be filled one by one
    fill_with(x, bf16(value).bits);
}

void add(Tensor y, ConstTensor x, float alpha) {
    if (y.dtype == DType::float64) {
        *y.data<double>() += static_cast<double>(alpha) * *x.data<double>();
        return;
    }
    with_type(y.dtype, [&](auto y_type) {
        with_type(x.dtype, [&](auto x_type) {
            using Y = decltype(y_type);
            using X = decltype(x_type);
            const Rows<Y> to(y);
            const Rows<const X> from(x);
            const auto [num_rows, width] = extent_of(y, x);
            for_pieces(num_rows, width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                Y* a = to[row];
                const X* b = from[row];
#pragma omp simd
                for (std::int64_t i = begin; i < end; ++i) put(a[i], float(a[i]) + alpha * float(b[i]));
            });
        });
    });
}

void copy(Tensor y, ConstTensor x) {
    const auto [num_rows, width] = extent_of(y, x);
    if (y.dtype == x.dtype) {
        const std::int64_t size = size_of(y.dtype);
        for_pieces(num_rows, width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
            std::memcpy(y.bytes + (row * y.row_stride + begin) * size, x.bytes + (row * x.row_stride + begin) * size,
                        (end - begin) * size);
        });
        return;
    }
    with_type(y.dtype, [&](auto y_type) {
        with_type(x.dtype, [&](auto x_type) {
            using Y = decltype(y_type);
            using X = decltype(x_type);
            const Rows<Y> to(y);
            const Rows<const X> from(x);
            for_pieces(num_rows, width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                Y* a = to[row];
                const X* b = from[row];
#pragma omp simd
                for (std::int64_t i = begin; i < end; ++i) put(a[i], float(b[i]));
            });
        });
    });
}

}  // namespace longlora::cpu
