// Rotary position embedding in place; cosines and sines come from tables. A thread turns the same pairs of several
// heads of one token, so that it reads their cosines and sines once.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

constexpr unsigned kHeadsPerThread = 8;

/// A row of the sheet is a token and a share of its heads, the columns are the first half of a head. The thread turns
/// the pack at a column together with the pack half a head further.
template <class T> struct RotaryTurn {
    static constexpr int kElements = kPack<T, float>;
    Rows<T> x;
    Rows<const float> cos, sin;  ///< tables, from the position of the first token on
    unsigned num_heads, half, shares;
    float sign;
    bool aligned, tables_aligned;
    __device__ void operator()(std::int64_t row, unsigned column, int count) const {
        const unsigned token = static_cast<unsigned>(row) / shares,
                       first_head = (static_cast<unsigned>(row) - token * shares) * kHeadsPerThread;
        float c[kElements], s[kElements];
        load(c, cos.at(token, column), count, tables_aligned);
        load(s, sin.at(token, column), count, tables_aligned);
        const unsigned end_head = min(first_head + kHeadsPerThread, num_heads);
        for (unsigned head = first_head; head < end_head; ++head) {
            T *first = x.at(token, head * 2 * half + column), *second = first + half;
            float a[kElements], b[kElements];
            load(a, first, count, aligned);
            load(b, second, count, aligned);
#pragma unroll
            for (int i = 0; i < kElements; ++i) {
                const float turn = sign * s[i], was = a[i];
                a[i] = was * c[i] - b[i] * turn;
                b[i] = b[i] * c[i] + was * turn;
            }
            store(first, a, count, aligned);
            store(second, b, count, aligned);
        }
    }
};

}  // namespace

void rotary(cudaStream_t stream, Tensor x, const RotaryAngles& angles, std::int64_t head_dim,
            std::int64_t position_begin, bool inverse) {
    const std::int64_t num_tokens = x.shape[0], num_heads = x.width() / head_dim, half = head_dim / 2,
                       shares = (num_heads + kHeadsPerThread - 1) / kHeadsPerThread;
    if (x.count() == 0) return;
    ensure(num_tokens * shares < (std::int64_t{1} << 32), "too many tokens for a kernel");
    const ConstTensor c = angles.cos.rows(position_begin, num_tokens), s = angles.sin.rows(position_begin, num_tokens);
    with_type(x.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        constexpr int n = RotaryTurn<T>::kElements;
        const RotaryTurn<T> turn{rows_of<T>(x),
                                 {pointer_to<const float>(c), half},
                                 {pointer_to<const float>(s), half},
                                 static_cast<unsigned>(num_heads),
                                 static_cast<unsigned>(half),
                                 static_cast<unsigned>(shares),
                                 inverse ? -1.0f : 1.0f,
                                 packs_aligned(n, x) && half % n == 0,
                                 packs_aligned(n, c, s) && half % n == 0};
        elementwise(stream, "rotary", turn, num_tokens * shares, half);
    });
}

}  // namespace longlora::cuda
