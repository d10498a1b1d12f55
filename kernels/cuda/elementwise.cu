// fill, add and copy; combine and scale, which matmul needs beside cuBLAS. They take rows of any stride, and add, copy
// and combine take any pair of real types.
#include <bit>

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

/// Copies one Unit: bits of any type.
template <class Unit> struct Move {
    static constexpr int kElements = 1;
    Rows<Unit> y;
    Rows<const Unit> x;
    __device__ void operator()(std::int64_t row, unsigned column, int) const {
        *y.at(row, column) = *x.at(row, column);
    }
};

template <class Unit> struct Fill {
    static constexpr int kElements = 16 / sizeof(Unit);
    Rows<Unit> x;
    Unit value;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        struct alignas(16) Pack {
            Unit unit[kElements];
        } pack;
#pragma unroll
        for (int i = 0; i < kElements; ++i) pack.unit[i] = value;
        Unit* to = x.at(row, column);
        if (aligned && count == kElements) {
            *reinterpret_cast<Pack*>(to) = pack;
        } else {
            for (int i = 0; i < count; ++i) to[i] = value;
        }
    }
};

template <class Y, class X> struct Cast {
    static constexpr int kElements = kPack<Y, X>;
    Rows<Y> y;
    Rows<const X> x;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        float values[kElements];
        load(values, x.at(row, column), count, aligned);
        store(y.at(row, column), values, count, aligned);
    }
};

/// y = beta * y + alpha * x. With beta = 1 the product alpha * x is not rounded before it is added.
template <class Y, class X> struct Combine {
    static constexpr int kElements = kPack<Y, X>;
    Rows<Y> y;
    Rows<const X> x;
    float alpha, beta;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        float a[kElements], b[kElements];
        load(a, y.at(row, column), count, aligned);
        load(b, x.at(row, column), count, aligned);
#pragma unroll
        for (int i = 0; i < kElements; ++i) a[i] = fmaf(alpha, b[i], beta * a[i]);
        store(y.at(row, column), a, count, aligned);
    }
};

template <class Y> struct Scale {
    static constexpr int kElements = kPack<Y>;
    Rows<Y> y;
    float beta;
    bool aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        float values[kElements];
        load(values, y.at(row, column), count, aligned);
#pragma unroll
        for (int i = 0; i < kElements; ++i) values[i] *= beta;
        store(y.at(row, column), values, count, aligned);
    }
};

__global__ void add_doubles_kernel(double* y, const double* x, double alpha) { *y += alpha * *x; }

/// Copies x to y, which has the same type, in units of sizeof(Unit) bytes.
template <class Unit> void move(cudaStream_t stream, const Tensor& y, const ConstTensor& x) {
    const std::int64_t units = sizeof(Unit);
    const auto strided = [&](const ConstTensor& t) {
        return t.num_rows() > 1 ? t.row_stride * size_of(t.dtype) / units : 0;
    };
    elementwise(stream, "copy", Move<Unit>{{pointer_to<Unit>(y), strided(y)}, {pointer_to<const Unit>(x), strided(x)}},
                y.num_rows(), y.width() * size_of(y.dtype) / units);
}

/// Copies x to y, which has the same type, in the largest units that fit all addresses, strides and widths.
void move_any(cudaStream_t stream, const Tensor& y, const ConstTensor& x) {
    const auto fits = [&](std::int64_t bytes) {
        return aligned_to(y, bytes) && aligned_to(x, bytes) && y.width() * size_of(y.dtype) % bytes == 0;
    };
    if (fits(16)) return move<uint4>(stream, y, x);
    if (fits(8)) return move<uint2>(stream, y, x);
    if (fits(4)) return move<unsigned>(stream, y, x);
    if (fits(2)) return move<unsigned short>(stream, y, x);
    move<unsigned char>(stream, y, x);
}

template <class Unit> void fill_with(cudaStream_t stream, const Tensor& x, Unit value) {
    for_sheets(
        [&](const Tensor& t) {
            elementwise(stream, "fill", Fill<Unit>{rows_of<Unit>(t), value, aligned_to(t, 16)}, t.num_rows(),
                        t.width());
        },
        x);
}

void add_scaled(cudaStream_t stream, const Tensor& y, const ConstTensor& x, float alpha, float beta) {
    with_types(y.dtype, x.dtype, [&](auto y_type, auto x_type) {
        using Y = typename decltype(y_type)::type;
        using X = typename decltype(x_type)::type;
        for_sheets(
            [&](const Tensor& to, const ConstTensor& from) {
                const bool aligned = packs_aligned(kPack<Y, X>, to, from);
                elementwise(stream, "add", Combine<Y, X>{rows_of<Y>(to), rows_of<const X>(from), alpha, beta, aligned},
                            to.num_rows(), to.width());
            },
            y, x);
    });
}

}  // namespace

void fill(cudaStream_t stream, Tensor x, float value) {
    if (x.dtype == DType::float64)
        return fill_with(stream, x, std::bit_cast<unsigned long long>(static_cast<double>(value)));
    if (x.dtype == DType::bfloat16) return fill_with(stream, x, static_cast<unsigned short>(bf16(value).bits));
    fill_with(stream, x,
              x.dtype == DType::int32 ? static_cast<unsigned>(static_cast<std::int32_t>(value))
                                      : std::bit_cast<unsigned>(value));
}

void combine(cudaStream_t stream, Tensor y, ConstTensor x, float beta) {
    if (beta == 0) return copy(stream, y, x);
    add_scaled(stream, y, x, 1, beta);
}

void add(cudaStream_t stream, Tensor y, ConstTensor x, float alpha) {
    if (y.dtype != DType::float64) return add_scaled(stream, y, x, alpha, 1);
    add_doubles_kernel<<<1, 1, 0, stream>>>(pointer_to<double>(y), pointer_to<const double>(x),
                                            static_cast<double>(alpha));
    check(cudaGetLastError(), "add");
}

void scale(cudaStream_t stream, Tensor y, float beta) {
    if (beta == 0) return fill(stream, y, 0);
    with_type(y.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        for_sheets(
            [&](const Tensor& t) {
                elementwise(stream, "scale", Scale<T>{rows_of<T>(t), beta, packs_aligned(kPack<T>, t)}, t.num_rows(),
                            t.width());
            },
            y);
    });
}

void copy(cudaStream_t stream, Tensor y, ConstTensor x) {
    for_sheets(
        [&](const Tensor& to, const ConstTensor& from) {
            if (to.dtype == from.dtype) return move_any(stream, to, from);
            const bool aligned = packs_aligned(kPack<float, bfloat16>, to, from);
            if (to.dtype == DType::float32)
                elementwise(stream, "copy",
                            Cast<float, bfloat16>{rows_of<float>(to), rows_of<const bfloat16>(from), aligned},
                            to.num_rows(), to.width());
            else
                elementwise(stream, "copy",
                            Cast<bfloat16, float>{rows_of<bfloat16>(to), rows_of<const float>(from), aligned},
                            to.num_rows(), to.width());
        },
        y, x);
}

}  // namespace longlora::cuda
