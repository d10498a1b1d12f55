// Matrices on a device whose rows are padded with a mark, and the comparison with the double-precision reference.
// Budget: twice the error of a plain float implementation plus four units of rounding. Shared by the tests of
// operations; tests of attention_forward and attention_backward use attention_case.h instead. No tests here.
#pragma once

#include <boost/test/unit_test.hpp>
#include <functional>
#include <string>
#include <vector>

#include "core/random.h"
#include "tests/reference/ops.h"
#include "tests/support/test_device.h"

namespace longlora::kernel_testing {

using reference::Ids;
using Values = reference::Matrix<double>;
using PlainValues = reference::Matrix<float>;
constexpr DType kFloat = DType::float32, kBfloat = DType::bfloat16;

inline double rounded(double x, DType dtype) {
    return dtype == kBfloat ? float(bf16(static_cast<float>(x))) : dtype == kFloat ? double(static_cast<float>(x)) : x;
}

/// Normal random numbers that the type can hold, so that kernel and reference see the same inputs.
inline Values random_values(std::int64_t rows, std::int64_t columns, std::uint64_t stream, DType dtype,
                            double scale = 1) {
    Values values(rows, columns);
    for (std::size_t i = 0; i < values.values.size(); ++i)
        values.values[i] = rounded(scale * random_normal(7, stream, i), dtype);
    return values;
}

inline double element(const ConstTensor& host, std::int64_t i, std::int64_t j) {
    const std::int64_t at = i * host.row_stride + j;
    if (host.dtype == kBfloat) return float(host.data<bf16>()[at]);
    if (host.dtype == DType::float64) return host.data<double>()[at];
    return host.data<float>()[at];
}

inline void set_element(const Tensor& host, std::int64_t i, std::int64_t j, double value) {
    const std::int64_t at = i * host.row_stride + j;
    if (host.dtype == kBfloat) host.data<bf16>()[at] = bf16(static_cast<float>(value));
    else if (host.dtype == DType::float64) host.data<double>()[at] = value;
    else host.data<float>()[at] = static_cast<float>(value);
}

/// A matrix on the device. Each row has `padding` further elements, which no operation may change.
class Buffer {
public:
    static constexpr double kMark = 12288;  // exact in bfloat16
    Buffer(Device& device, DType dtype, const Values& values, std::int64_t padding = 0)
        : device_(device),
          padding_(padding),
          storage_(device.memory().tensor(dtype, {values.rows, values.columns + padding}, Use::workspace)),
          host_(device.pinned().tensor(dtype, {values.rows, values.columns + padding}, Use::workspace)) {
        for (std::int64_t i = 0; i < values.rows; ++i)
            for (std::int64_t j = 0; j < values.columns + padding; ++j)
                set_element(host_, i, j, j < values.columns ? values(i, j) : kMark);
        device.copy_to_device(storage_, host_, Device::compute_stream());
        device.synchronize(Device::compute_stream());  // host_ may be released before anything else waits
    }
    Tensor tensor() const { return padding_ ? storage_->columns(0, storage_->width() - padding_) : *storage_; }
    /// All elements as a vector; only for a matrix without padding.
    Tensor vector() const { return Tensor(storage_->bytes, storage_->dtype, {storage_->count()}); }
    operator Tensor() const { return tensor(); }
    operator ConstTensor() const { return tensor(); }

    Values read() {
        device_.copy_to_host(host_, storage_, Device::compute_stream());
        device_.synchronize(Device::compute_stream());
        const std::int64_t columns = host_->width() - padding_;
        Values values(host_->shape[0], columns);
        bool intact = true;
        for (std::int64_t i = 0; i < values.rows; ++i) {
            for (std::int64_t j = 0; j < columns; ++j) values(i, j) = element(host_, i, j);
            for (std::int64_t j = columns; j < columns + padding_; ++j)
                intact = intact && element(host_, i, j) == kMark;
        }
        BOOST_TEST(intact, "an operation wrote between the rows");
        return values;
    }

private:
    Device& device_;
    std::int64_t padding_;
    ArenaTensor storage_, host_;
};

/// int32 numbers on the device.
class IdBuffer {
public:
    IdBuffer(Device& device, const Ids& ids)
        : storage_(device.memory().tensor(DType::int32, {static_cast<std::int64_t>(ids.size())}, Use::batch)) {
        const ArenaTensor host =
            device.pinned().tensor(DType::int32, {static_cast<std::int64_t>(ids.size())}, Use::batch);
        std::copy(ids.begin(), ids.end(), host->data<std::int32_t>());
        device.copy_to_device(storage_, host, Device::compute_stream());
        device.synchronize(Device::compute_stream());  // the staging memory is released here
    }
    operator Tensor() const { return storage_; }
    operator ConstTensor() const { return storage_; }
    Ids read(Device& device) const {
        const ArenaTensor host = device.pinned().tensor(DType::int32, storage_->shape, Use::batch);
        device.copy_to_host(host, storage_, Device::compute_stream());
        device.synchronize(Device::compute_stream());
        return {host->data<std::int32_t>(), host->data<std::int32_t>() + host->count()};
    }

private:
    ArenaTensor storage_;
};

inline double largest(const Values& x) {
    double most = 0;
    for (const double v : x.values) most = std::max(most, std::abs(v));
    return most;
}

inline double distance(const Values& a, const Values& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.values.size(); ++i) {
        const double d = std::abs(a.values[i] - b.values[i]);
        most = std::isnan(d) ? INFINITY : std::max(most, d);
    }
    return most;
}

/// Checks max|kernel - ref| <= 2 max|plain - ref| + 4 eps max|ref|, where plain is the float result rounded to the
/// type of the output.
inline void check_close(const Values& kernel, const Values& ref, const PlainValues& plain, DType dtype,
                        const std::string& what) {
    BOOST_REQUIRE(kernel.values.size() == ref.values.size());
    Values plain_rounded(plain);
    for (double& v : plain_rounded.values) v = rounded(v, dtype);
    const double eps = dtype == kBfloat ? 0x1p-8 : 0x1p-24;
    const double budget = 2 * distance(plain_rounded, ref) + 4 * eps * largest(ref), error = distance(kernel, ref);
    BOOST_TEST(error <= budget, what << ": error " << error << " exceeds " << budget);
}

/// Compares d with central differences of f at x, both in double.
inline void check_gradient(const std::function<double(const Values&)>& f, const Values& x, const Values& d,
                           const std::string& what) {
    constexpr double kStep = 1e-5;
    double error = 0;
    for (std::size_t i = 0; i < x.values.size(); ++i) {
        Values moved = x;
        moved.values[i] = x.values[i] + kStep;
        const double above = f(moved);
        moved.values[i] = x.values[i] - kStep;
        error = std::max(error, std::abs((above - f(moved)) / (2 * kStep) - d.values[i]));
    }
    BOOST_TEST(error <= 1e-7 * (1 + largest(d)), what << ": finite differences differ by " << error);
}

/// The sum of w * x: a scalar whose gradient with respect to x is w.
inline double dot(const Values& w, const Values& x) {
    double sum = 0;
    for (std::size_t i = 0; i < w.values.size(); ++i) sum += w.values[i] * x.values[i];
    return sum;
}

}  // namespace longlora::kernel_testing
