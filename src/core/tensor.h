// Tensor and ConstTensor: non-owning views of elements in the memory of a device or of the host: pointer, type, shape,
// row stride. The holder of a Tensor may write the elements, the holder of a ConstTensor only reads them. Both are
// passed by value. kernels/arena.h owns the memory; kernels/ops.h has the computations.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

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
    std::int64_t operator[](int i) const { return sizes[i]; }
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
/// apart; the elements of a row are adjacent. Byte is std::byte (Tensor) or const std::byte (ConstTensor).
template <class Byte> struct TensorView {
    static constexpr bool kReadOnly = std::is_const_v<Byte>;
    /// T, or const T where the elements are only read.
    template <class T> using Element = std::conditional_t<kReadOnly, const T, T>;

    Byte* bytes = nullptr;
    DType dtype = DType::float32;
    Shape shape;
    std::int64_t row_stride = 1;

    TensorView() = default;
    TensorView(Element<void>* data, DType type, Shape sizes)
        : bytes(static_cast<Byte*>(data)),
          dtype(type),
          shape(sizes),
          row_stride(sizes.last()) {}
    /// A Tensor becomes a ConstTensor; there is no way back.
    template <std::same_as<std::byte> Other>
    TensorView(const TensorView<Other>& other)
        : bytes(other.bytes),
          dtype(other.dtype),
          shape(other.shape),
          row_stride(other.row_stride) {}

    explicit operator bool() const { return bytes != nullptr; }
    std::int64_t count() const { return shape.count(); }
    std::int64_t width() const { return shape.last(); }
    std::int64_t num_rows() const { return width() ? count() / width() : 0; }
    bool contiguous() const { return row_stride == width() || num_rows() <= 1; }
    std::int64_t size_bytes() const { return count() * size_of(dtype); }
    /// One past the last byte that the view covers.
    Byte* end() const { return count() ? bytes + ((num_rows() - 1) * row_stride + width()) * size_of(dtype) : bytes; }

    /// The typed pointer. Host code may call it only on tensors in host memory, kernels only on tensors of their own
    /// device.
    template <class T> Element<T>* data() const {
        ensure(dtype == dtype_of<T>(), "a tensor is read as another type than its own");
        return reinterpret_cast<Element<T>*>(bytes);
    }
    /// Rows [begin, begin + n): a view of shape (n, width).
    TensorView rows(std::int64_t begin, std::int64_t n) const {
        ensure(begin >= 0 && n >= 0 && begin + n <= num_rows(), "rows beyond the ends of a tensor");
        TensorView t = *this;
        t.bytes += begin * row_stride * size_of(dtype);
        t.shape = {n, width()};
        return t;
    }
    /// Columns [begin, begin + n) of every row: a view of shape (rows, n) with this tensor's row stride.
    TensorView columns(std::int64_t begin, std::int64_t n) const {
        ensure(begin >= 0 && n >= 0 && begin + n <= width(), "columns beyond the ends of a tensor");
        TensorView t = *this;
        t.bytes += begin * size_of(dtype);
        t.shape = {num_rows(), n};
        return t;
    }
    /// The same elements in another shape; only for contiguous tensors.
    TensorView reshaped(Shape to) const {
        ensure(contiguous() && to.count() == count(),
               "reshape needs a contiguous tensor and a shape of as many elements");
        return TensorView(bytes, dtype, to);
    }
    /// Elements [begin, begin + n) of a contiguous tensor, as a vector.
    TensorView slice(std::int64_t begin, std::int64_t n) const {
        return reshaped({count(), 1}).rows(begin, n).reshaped({n});
    }
};

using Tensor = TensorView<std::byte>;
using ConstTensor = TensorView<const std::byte>;

/// Whether the byte ranges that two views cover overlap.
inline bool overlap(const ConstTensor& a, const ConstTensor& b) {
    return a.count() && b.count() && a.bytes < b.end() && b.bytes < a.end();
}

}  // namespace longlora
