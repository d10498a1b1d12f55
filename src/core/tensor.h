// Tensor: a non-owning view of elements in the memory of a device or of the host: pointer, type, shape, row stride.
// It is passed by value. Memory belongs to kernels/arena.h, computations are in kernels/ops.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace longlora {

/// Up to four dimensions. Shape{} is a scalar (one element).
struct Shape {
    int rank = 0;
    std::array<std::int64_t, 4> sizes{1, 1, 1, 1};

    Shape() = default;
    Shape(std::initializer_list<std::int64_t> list) : rank(static_cast<int>(list.size())) {
        ensure(list.size() <= 4, "a shape has at most four dimensions");
        std::copy(list.begin(), list.end(), sizes.begin());
    }
    std::int64_t operator[](int i) const { return sizes[static_cast<std::size_t>(i)]; }
    std::int64_t count() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }
    std::int64_t last() const { return rank ? (*this)[rank - 1] : 1; }
    bool operator==(const Shape&) const = default;
};

/// "(3, 4)"; "()" for a scalar.
inline std::string to_text(const Shape& shape) {
    std::string out = "(";
    for (int i = 0; i < shape.rank; ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
    return out + ")";
}

/// The rows are numbered over all dimensions but the last, in order. Neighbouring rows start row_stride elements
/// apart; the elements of a row are adjacent.
struct Tensor {
    std::byte* bytes = nullptr;
    DType dtype = DType::float32;
    Shape shape;
    std::int64_t row_stride = 1;

    Tensor() = default;
    Tensor(void* data, DType type, Shape sizes)
        : bytes(static_cast<std::byte*>(data)),
          dtype(type),
          shape(sizes),
          row_stride(sizes.last()) {}

    explicit operator bool() const { return bytes != nullptr; }
    std::int64_t count() const { return shape.count(); }
    std::int64_t width() const { return shape.last(); }
    std::int64_t num_rows() const { return width() ? count() / width() : 0; }
    bool contiguous() const { return row_stride == width() || num_rows() <= 1; }
    std::int64_t size_bytes() const { return count() * size_of(dtype); }
    /// One past the last byte that the view covers.
    std::byte* end() const {
        return count() ? bytes + ((num_rows() - 1) * row_stride + width()) * size_of(dtype) : bytes;
    }

    /// The typed pointer. Host code may call it only on tensors in host memory, kernels only on tensors of their own
    /// device.
    template <class T> T* data() const {
        ensure(dtype == dtype_of<T>(), "a tensor is read as another type than its own");
        return reinterpret_cast<T*>(bytes);
    }
    /// Rows [begin, begin + n): a view of shape (n, width).
    Tensor rows(std::int64_t begin, std::int64_t n) const {
        ensure(begin >= 0 && n >= 0 && begin + n <= num_rows(), "rows beyond the ends of a tensor");
        Tensor t = *this;
        t.bytes += begin * row_stride * size_of(dtype);
        t.shape = {n, width()};
        return t;
    }
    /// Columns [begin, begin + n) of every row: a view of shape (rows, n) with this tensor's row stride.
    Tensor columns(std::int64_t begin, std::int64_t n) const {
        ensure(begin >= 0 && n >= 0 && begin + n <= width(), "columns beyond the ends of a tensor");
        Tensor t = *this;
        t.bytes += begin * size_of(dtype);
        t.shape = {num_rows(), n};
        return t;
    }
    /// The same elements in another shape; only for contiguous tensors.
    Tensor reshaped(Shape to) const {
        ensure(contiguous() && to.count() == count(),
               "reshape needs a contiguous tensor and a shape of as many elements");
        return Tensor(bytes, dtype, to);
    }
    /// Elements [begin, begin + n) of a contiguous tensor, as a vector.
    Tensor slice(std::int64_t begin, std::int64_t n) const {
        return reshaped({count(), 1}).rows(begin, n).reshaped({n});
    }
};

/// Whether the byte ranges that two views cover overlap.
inline bool overlap(const Tensor& a, const Tensor& b) {
    return a.count() && b.count() && a.bytes < b.end() && b.bytes < a.end();
}

}  // namespace longlora
