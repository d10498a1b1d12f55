// A random attention problem: its strided tensors on the host, their copies to a device and back, and the comparison
// with the reference. The tests of attention share it. No tests here.
#pragma once

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "core/random.h"
#include "tests/reference/attention.h"
#include "tests/support/test_device.h"

namespace longlora::attention_testing {

using reference::AttentionProblem;
using Values = std::vector<double>;

inline Values normal_values(std::size_t n, std::uint64_t seed, std::uint64_t stream, DType dtype) {
    Values values(n);
    for (std::size_t i = 0; i < n; ++i) {
        const float x = static_cast<float>(random_normal(seed, stream, i));
        values[i] = dtype == DType::bfloat16 ? float(bf16(x)) : x;
    }
    return values;
}

/// Random windows that satisfy the contract of kernels/windows.h: dense, groups (plain, or shifted by half a group),
/// sliding, a random walk, or the diagonal alone.
inline std::vector<std::int32_t> random_first_keys(std::int64_t tokens, std::uint64_t seed, std::uint64_t stream) {
    std::vector<std::int32_t> first(static_cast<std::size_t>(tokens), 0);
    const auto below = [&](std::int64_t n, std::uint64_t index) {
        return static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(n), seed, stream, index));
    };
    const std::int64_t pattern = below(10, 0), size = 1 + below(tokens, 1);
    for (std::int64_t t = 1; t < tokens; ++t) {
        std::int64_t f = 0;
        if (pattern >= 1 && pattern <= 2) f = t / size * size;
        if (pattern >= 3 && pattern <= 4) f = t < size / 2 ? 0 : (t - size / 2) / size * size + size / 2;
        if (pattern == 5) f = std::max<std::int64_t>(0, t - size);
        if (pattern >= 6 && pattern <= 8)
            f = std::min(
                t, first[static_cast<std::size_t>(t - 1)] + (below(3, 2 * static_cast<std::uint64_t>(t))
                                                                 ? 0
                                                                 : below(6, 2 * static_cast<std::uint64_t>(t) + 1)));
        if (pattern == 9) f = t;
        first[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(f);
    }
    return first;
}

/// A tensor whose rows may lie further apart than they are wide. The gaps, and the memory of more_rows() further
/// rows, hold NaN; an operation must neither read nor change it.
struct Rows {
    std::vector<std::byte> memory;
    Tensor view;

    /// As many rows as a tile of a kernel may have beyond the last row.
    static std::int64_t more_rows() { return kOnGpu ? 128 : 1; }

    Rows(DType dtype, std::int64_t rows, std::int64_t width, std::int64_t gap, const Values& values = {})
        : memory(static_cast<std::size_t>((rows + more_rows()) * (width + gap) * size_of(dtype)), std::byte{0xff}),
          view(memory.data(), dtype, {rows, width}) {
        view.row_stride = width + gap;
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < width; ++c) {
                const float x =
                    values.empty() ? 0.0f : static_cast<float>(values[static_cast<std::size_t>(r * width + c)]);
                if (dtype == DType::float32) view.data<float>()[r * view.row_stride + c] = x;
                else view.data<bf16>()[r * view.row_stride + c] = bf16(x);
            }
        }
    }
    Rows(const Rows& other) : memory(other.memory), view(other.view) { view.bytes = memory.data(); }
    Rows& operator=(const Rows&) = delete;

    double at(std::int64_t r, std::int64_t c) const {
        return view.dtype == DType::float32 ? view.data<float>()[r * view.row_stride + c]
                                            : float(view.data<bf16>()[r * view.row_stride + c]);
    }
    Values values() const {
        Values out;
        for (std::int64_t r = 0; r < view.num_rows(); ++r) {
            for (std::int64_t c = 0; c < view.width(); ++c) out.push_back(at(r, c));
        }
        return out;
    }
    bool gaps_untouched() const {
        const auto size = static_cast<std::size_t>(size_of(view.dtype));
        for (std::size_t i = 0; i < memory.size(); ++i) {
            const auto element = static_cast<std::int64_t>(i / size);
            const bool inside = element < view.num_rows() * view.row_stride && element % view.row_stride < view.width();
            if (!inside && memory[i] != std::byte{0xff}) return false;
        }
        return true;
    }
    bool same_bits(const Rows& other) const { return memory == other.memory; }
};

struct Case {
    AttentionProblem problem;
    DType dtype = DType::float32, gradient = DType::float32, out = DType::float32;
    std::int64_t gap = 0;
    Values q, k, v, d_out;
};

struct CaseOptions {
    std::int64_t tokens = 64, num_heads = 9, num_kv_heads = 3, head_dim = 16;
    DType dtype = DType::float32, gradient = DType::float32;
    bool offsets = false;      ///< queries and keys are random ranges of the tokens
    std::int64_t skipped = 0;  ///< without offsets: so many first queries are left out, but not their keys
    bool wide_out = false;     ///< out is float32, as it must be when keys come in pieces
    std::int64_t gap = -1;     ///< between rows; -1: random. A multiple of 8 makes rows start at multiples of 16 bytes
};

inline Case make_case(const CaseOptions& o, std::uint64_t seed) {
    Case c;
    AttentionProblem& p = c.problem;
    const auto below = [&](std::int64_t n, std::uint64_t index) {
        return static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(n), seed, stream_of("case"), index));
    };
    p.query_begin = o.offsets ? below(o.tokens, 0) : o.skipped;
    p.key_begin = o.offsets ? below(o.tokens, 1) : 0;
    p.num_queries = o.offsets ? 1 + below(o.tokens - p.query_begin, 2) : o.tokens - o.skipped;
    p.num_keys = o.offsets ? 1 + below(o.tokens - p.key_begin, 3) : o.tokens;
    p.num_heads = o.num_heads, p.num_kv_heads = o.num_kv_heads, p.head_dim = o.head_dim;
    p.num_plain_heads = below(4, 4) ? o.num_heads / 2 : below(o.num_heads + 1, 5);
    for (std::uint64_t kind = 0; kind < 2; ++kind) p.first_key[kind] = random_first_keys(o.tokens, seed, 100 + kind);
    p.scale = 1 / std::sqrt(static_cast<double>(o.head_dim));
    c.dtype = o.dtype, c.gradient = o.gradient, c.out = o.wide_out ? DType::float32 : o.dtype,
    c.gap = o.gap >= 0 ? o.gap : std::array<std::int64_t, 3>{0, 5, 8}[static_cast<std::size_t>(below(3, 6))];
    const auto nq = static_cast<std::size_t>(p.num_queries * p.num_heads * p.head_dim),
               nk = static_cast<std::size_t>(p.num_keys * p.num_kv_heads * p.head_dim);
    c.q = normal_values(nq, seed, 1, c.dtype), c.k = normal_values(nk, seed, 2, c.dtype),
    c.v = normal_values(nk, seed, 3, c.dtype), c.d_out = normal_values(nq, seed, 4, c.dtype);
    return c;
}

/// Copies of some Rows on a device, gaps included. download() brings back what a call wrote.
class OnDevice {
public:
    OnDevice(Device& device, const std::vector<Rows*>& all) : device_(device) {
        for (Rows* rows : all) {
            const Shape bytes{static_cast<std::int64_t>(rows->memory.size())};
            images_.push_back({rows, device.memory().tensor(DType::uint8, bytes, Use::workspace),
                               device.pinned().tensor(DType::uint8, bytes, Use::workspace)});
            std::copy(rows->memory.begin(), rows->memory.end(), images_.back().host->bytes);
            device.copy_to_device(images_.back().storage, images_.back().host, Device::compute_stream());
        }
    }
    Tensor operator()(const Rows& rows) const {
        const auto image =
            std::find_if(images_.begin(), images_.end(), [&](const Image& i) { return i.rows == &rows; });
        BOOST_REQUIRE(image != images_.end());
        Tensor view = rows.view;
        view.bytes = image->storage->bytes;
        return view;
    }
    void download() {
        for (const Image& image : images_) device_.copy_to_host(image.host, image.storage, Device::compute_stream());
        device_.synchronize(Device::compute_stream());
        for (const Image& image : images_)
            std::copy_n(image.host->bytes, image.rows->memory.size(), image.rows->memory.begin());
    }

private:
    struct Image {
        Rows* rows;
        ArenaTensor storage, host;
    };
    Device& device_;
    std::vector<Image> images_;
};

/// The tensors of a case as the kernels take them.
struct Operands {
    Rows q, k, v, d_out, out, lse, d_q, d_k, d_v;
    std::vector<std::int32_t> first_key;
    Windows windows;  ///< without the device tensor first_key, which on() makes
    AttentionPlace place;

    explicit Operands(const Case& c)
        : q(c.dtype, c.problem.num_queries, c.problem.num_heads * c.problem.head_dim, c.gap, c.q),
          k(c.dtype, c.problem.num_keys, c.problem.num_kv_heads * c.problem.head_dim, c.gap, c.k),
          v(c.dtype, c.problem.num_keys, c.problem.num_kv_heads * c.problem.head_dim, c.gap, c.v),
          d_out(c.dtype, c.problem.num_queries, q.view.width(), c.gap, c.d_out),
          out(c.out, c.problem.num_queries, q.view.width(), c.gap),
          lse(DType::float32, c.problem.num_heads, c.problem.num_queries, c.gap),
          d_q(c.gradient, c.problem.num_queries, q.view.width(), c.gap),
          d_k(c.gradient, c.problem.num_keys, k.view.width(), c.gap),
          d_v(d_k) {
        const auto& first = c.problem.first_key;
        for (const auto& row : first) first_key.insert(first_key.end(), row.begin(), row.end());
        const std::size_t n = first[0].size();
        windows.host[0] = std::span<const std::int32_t>(first_key).first(n);
        windows.host[1] = std::span<const std::int32_t>(first_key).subspan(n);
        windows.num_plain_heads = c.problem.num_plain_heads;
        place = {c.problem.head_dim, c.problem.query_begin, c.problem.key_begin, static_cast<float>(c.problem.scale)};
    }
    Operands(const Operands&) = delete;

    /// Copies all rows to the device, calls call(ops, at, windows), and copies them back. at(rows) is the tensor on the
    /// device. `more` are rows in addition to those of the case.
    template <class Call> void on(Device& device, Call&& call, const std::vector<Rows*>& more = {}) {
        std::vector<Rows*> all{&q, &k, &v, &d_out, &out, &lse, &d_q, &d_k, &d_v};
        all.insert(all.end(), more.begin(), more.end());
        OnDevice at(device, all);
        const Shape shape{2, static_cast<std::int64_t>(windows.host[0].size())};
        const ArenaTensor keys = device.memory().tensor(DType::int32, shape, Use::batch),
                          staging = device.pinned().tensor(DType::int32, shape, Use::batch);
        std::copy(first_key.begin(), first_key.end(), staging->data<std::int32_t>());
        device.copy_to_device(keys, staging, Device::compute_stream());
        Windows there = windows;
        there.first_key = keys;
        call(device.ops(), at, there);
        at.download();
    }
    void forward(Device& device, bool accumulate = false) {
        on(device, [&](Ops ops, const OnDevice& at, const Windows& there) {
            ops.attention_forward({.out = at(out), .lse = at(lse)}, {.q = at(q), .k = at(k), .v = at(v)}, there, place,
                                  accumulate);
        });
    }
    /// The workspace (H,T) that the operation takes gets the place of `room`, right in front of q: a write beyond its
    /// end would damage q and be noticed.
    void backward(Device& device) {
        ArenaTensor room = device.memory().tensor(DType::float32, lse.view.shape, Use::workspace);
        on(device, [&](Ops ops, const OnDevice& at, const Windows& there) {
            room.release();
            ops.attention_backward(
                {.d_q = at(d_q), .d_k = at(d_k), .d_v = at(d_v)},
                {.q = at(q), .k = at(k), .v = at(v), .d_out = at(d_out), .out = at(out), .lse = at(lse)}, there, place);
        });
    }
    bool gaps_untouched() const {
        for (const Rows* r : {&q, &k, &v, &d_out, &out, &lse, &d_q, &d_k, &d_v}) {
            if (!r->gaps_untouched()) return false;
        }
        return true;
    }
};

inline double max_abs(const Values& a) {
    double largest = 0;
    for (double x : a) largest = std::max(largest, std::isfinite(x) ? std::abs(x) : 0.0);
    return largest;
}

/// The largest |a - b|; infinite where a value is NaN or only one of the two is infinite.
inline double max_difference(const Values& a, const Values& b) {
    BOOST_REQUIRE_EQUAL(a.size(), b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i] == b[i]) continue;
        const double difference = std::abs(a[i] - b[i]);
        largest = std::max(largest, std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference);
    }
    return largest;
}

/// Checks max|kernel - ref| <= 2 max|plain - ref| + 4 eps max|ref|, where plain is the same formula by plain loops in
/// float, stored in the type of the kernel.
inline void check_budget(const Values& kernel, const Values& plain, const Values& ref, DType dtype,
                         const std::string& what) {
    const double eps = dtype == DType::bfloat16 ? 0x1p-8 : 0x1p-24;
    const double found = max_difference(kernel, ref), budget = 2 * max_difference(plain, ref) + 4 * eps * max_abs(ref);
    BOOST_TEST(found <= budget, what << ": difference " << found << " exceeds " << budget);
}

/// Tensor cores take bfloat16 operands. So plain bfloat16 arithmetic on a GPU rounds probabilities and gradients of
/// scores; the CPU kernels keep them in float.
struct PlainOperand {
    DType dtype;
    float operator()(float x) const { return kOnGpu && dtype == DType::bfloat16 ? float(bf16(x)) : x; }
};

inline std::vector<float> narrow(const Values& values) { return {values.begin(), values.end()}; }
inline Values stored(const std::vector<float>& values, DType dtype) {
    Values out(values.begin(), values.end());
    if (dtype == DType::bfloat16) {
        for (double& x : out) x = float(bf16(static_cast<float>(x)));
    }
    return out;
}

}  // namespace longlora::attention_testing
