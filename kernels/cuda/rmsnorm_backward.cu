// rmsnorm_backward (rmsnorm_forward.cu has the forward operation). The gradient of the weight is summed over chunks
// of rows, one block per chunk, and then over the chunks in a fixed order. Only shape and types determine the chunks,
// since scratch always has the same size.
#include "kernels/cuda/operations.h"
#include "kernels/cuda/rmsnorm.cuh"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

constexpr std::int64_t kLeastChunkRows = 16, kMostChunks = 512;

template <class DX, class DY, class X> struct Arguments {
    Rows<DX> d_x;
    Rows<const DY> d_y;
    Rows<const X> x;
    NormWeight weight;
    const float* rrms;
    /// (chunks, elements of all packs): the gradient of the weight of each chunk, in the layout of put_part; nullptr
    /// if the caller does not want it.
    float* parts;
};

/// Where the sums of a chunk lie. A pack has one or two groups of four elements. The first groups of all packs come
/// first, then the second groups of all packs. So a warp writes whole sectors.
inline __device__ float* part_at(float* part, const RowShape& shape, unsigned pack, int four) {
    return part + (four * shape.num_packs + pack) * 4;
}
template <int n> __device__ void put_part(float* part, const RowShape& shape, unsigned pack, const float (&sum)[n]) {
#pragma unroll
    for (int four = 0; four < n / 4; ++four)
        *reinterpret_cast<float4*>(part_at(part, shape, pack, four)) =
            make_float4(sum[4 * four], sum[4 * four + 1], sum[4 * four + 2], sum[4 * four + 3]);
}
template <int n> __device__ void get_part(float (&sum)[n], float* part, const RowShape& shape, unsigned pack) {
#pragma unroll
    for (int i = 0; i < n; ++i) sum[i] = part_at(part, shape, pack, i / 4)[i % 4];
}
/// The column of the weight whose sum lies at `place` of the sums of a chunk.
inline __device__ unsigned column_of(unsigned place, unsigned num_packs, unsigned n) {
    const unsigned four = place / 4, group = four / num_packs;
    return (four - group * num_packs) * n + group * 4 + place % 4;
}

template <int n>
__device__ float add_products(float sum, const float (&a)[n], const float (&b)[n], const float (&c)[n]) {
#pragma unroll
    for (int i = 0; i < n; ++i) sum += a[i] * b[i] * c[i];
    return sum;
}

/// d_x += r (w d_y - x r^2 mean(w d_y x)); part = the sum of d_y x r over the rows of the chunk.
template <bool whole, class DX, class DY, class X>
__global__ void __launch_bounds__(kMostRowThreads, 1)
    rmsnorm_backward_kernel(const Arguments<DX, DY, X> a, const RowShape shape) {
    constexpr int n = kPack<DX, DY, X>, kHeld = kHeldPacks<whole, n>;
    __shared__ float room[2][kMostRowThreads / kWarp];
    const unsigned begin = blockIdx.x * shape.rows_per_block, end = min(begin + shape.rows_per_block, shape.num_rows);
    float* part = a.parts ? a.parts + std::int64_t{blockIdx.x} * (shape.num_packs * n) : nullptr;
    const auto count_at = [&](unsigned pack) { return shape.count_at<whole, n>(pack); };
    float w[kHeld + 1][n], d_w[kHeld + 1][n] = {};
#pragma unroll
    for (int k = 0; k < kHeld; ++k)
        if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs)
            a.weight.template load<whole>(w[k], pack * n, count_at(pack));
    for (unsigned row = begin; row < end; ++row) {
        const float r = a.rrms[row];
        float d_y[kHeld + 1][n], x[kHeld + 1][n], dot = 0;  // dot: sum of w d_y x
        const auto take = [&](unsigned pack, float(&gradient)[n], float(&values)[n]) {
            load(gradient, a.d_y.at(row, pack * n), count_at(pack), whole);
            load(values, a.x.at(row, pack * n), count_at(pack), whole);
        };
#pragma unroll
        for (int k = 0; k < kHeld; ++k)
            if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs) {
                take(pack, d_y[k], x[k]);
                dot = add_products(dot, d_y[k], x[k], w[k]);
            }
        for (unsigned pack = threadIdx.x + kHeld * blockDim.x; pack < shape.num_packs; pack += blockDim.x) {
            float gradient[n], values[n], weights[n];
            take(pack, gradient, values);
            a.weight.template load<whole>(weights, pack * n, count_at(pack));
            dot = add_products(dot, gradient, values, weights);
        }
        const float factor = over_block(dot, room[row % 2], Add{}) / static_cast<float>(shape.width) * r * r;
        const auto put_gradients = [&](unsigned pack, const float(&gradient)[n], const float(&values)[n],
                                       const float(&weights)[n], float(&sum)[n]) {
            float out[n];
            DX* to = a.d_x.at(row, pack * n);
            load(out, to, count_at(pack), whole);
#pragma unroll
            for (int i = 0; i < n; ++i) {
                out[i] += r * (gradient[i] * weights[i] - values[i] * factor);
                sum[i] += gradient[i] * values[i] * r;
            }
            store(to, out, count_at(pack), whole);
        };
#pragma unroll
        for (int k = 0; k < kHeld; ++k)
            if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs)
                put_gradients(pack, d_y[k], x[k], w[k], d_w[k]);
        for (unsigned pack = threadIdx.x + kHeld * blockDim.x; pack < shape.num_packs; pack += blockDim.x) {
            float gradient[n], values[n], weights[n], sum[n] = {};  // the sums of these packs stay in device memory
            take(pack, gradient, values);
            a.weight.template load<whole>(weights, pack * n, count_at(pack));
            if (part && row > begin) get_part(sum, part, shape, pack);
            put_gradients(pack, gradient, values, weights, sum);
            if (part) put_part(part, shape, pack, sum);
        }
    }
    if (!part) return;
#pragma unroll
    for (int k = 0; k < kHeld; ++k)
        if (const unsigned pack = threadIdx.x + k * blockDim.x; pack < shape.num_packs)
            put_part(part, shape, pack, d_w[k]);
}

/// d_weight += the sum of parts over the chunks. Threads with the same threadIdx.y take every eighth chunk; then the
/// eight sums are added in order.
__global__ void __launch_bounds__(kThreads)
    rmsnorm_add_chunks_kernel(float* d_weight, const float* parts, unsigned num_chunks, RowShape shape, unsigned n) {
    constexpr unsigned kShares = kThreads / kWarp;
    __shared__ float room[kShares][kWarp];
    const unsigned place = blockIdx.x * kWarp + threadIdx.x, num_places = shape.num_packs * n;
    float sum = 0;
    if (place < num_places)
        for (unsigned chunk = threadIdx.y; chunk < num_chunks; chunk += kShares)
            sum += parts[std::int64_t{chunk} * num_places + place];
    room[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    const unsigned column = column_of(place, shape.num_packs, n);
    if (threadIdx.y > 0 || place >= num_places || column >= shape.width) return;
    for (unsigned share = 1; share < kShares; ++share) sum += room[share][threadIdx.x];
    d_weight[column] += sum;
}

std::int64_t chunk_rows_of(const ConstTensor& x, int n, std::int64_t scratch_bytes) {
    const std::int64_t places = (x.width() + n - 1) / n * n,
                       most_chunks = std::min(kMostChunks, scratch_bytes / (places * std::int64_t{sizeof(float)}));
    ensure(most_chunks > 0, "a row is longer than the scratch memory");
    return std::max(kLeastChunkRows, (x.shape[0] + most_chunks - 1) / most_chunks);
}

}  // namespace

void rmsnorm_backward(cudaStream_t stream, Tensor scratch, const RmsnormGradients& gradients,
                      const RmsnormBackwardInputs& inputs) {
    const auto& [d_x, d_weight] = gradients;
    const auto& [d_y, x, weight, rrms] = inputs;
    if (x.count() == 0) return;
    with_types(d_x.dtype, d_y.dtype, [&](auto dx_type, auto dy_type) {
        with_type(x.dtype, [&](auto x_type) {
            using DX = typename decltype(dx_type)::type;
            using DY = typename decltype(dy_type)::type;
            using X = typename decltype(x_type)::type;
            constexpr int n = kPack<DX, DY, X>;
            const RowShape shape = row_shape(x, n, chunk_rows_of(x, n, scratch.size_bytes()));
            const unsigned num_chunks = num_blocks_of(shape);
            const Arguments<DX, DY, X> arguments{
                rows_of<DX>(d_x),    rows_of<const DY>(d_y),        rows_of<const X>(x),
                norm_weight(weight), pointer_to<const float>(rrms), d_weight ? pointer_to<float>(scratch) : nullptr};
            const auto kernel = whole_packs(n, x.width(), d_x, d_y, x, weight)
                                    ? rmsnorm_backward_kernel<true, DX, DY, X>
                                    : rmsnorm_backward_kernel<false, DX, DY, X>;
            kernel<<<num_chunks, row_threads(shape, kHeldElements / n), 0, stream>>>(arguments, shape);
            check(cudaGetLastError(), "rmsnorm_backward");
            if (!d_weight) return;
            const unsigned num_blocks = (shape.num_packs * n + kWarp - 1) / kWarp;
            rmsnorm_add_chunks_kernel<<<num_blocks, dim3(kWarp, kThreads / kWarp), 0, stream>>>(
                pointer_to<float>(d_weight), arguments.parts, num_chunks, shape, n);
            check(cudaGetLastError(), "rmsnorm_backward");
        });
    });
}

}  // namespace longlora::cuda
