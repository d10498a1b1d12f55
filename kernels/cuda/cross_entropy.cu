// Cross-entropy loss and its gradient, one block per row of logits. A first pass finds the maximum and the sum of
// exponentials together (Milakov, Gimelshein 2018, arXiv:1805.02867); sums are float within a thread and double over
// the threads. A second pass overwrites the logits with the gradient. A row that fits in shared memory is read from
// device memory once.
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/operations.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/types.h"

namespace longlora::cuda {
namespace {

constexpr unsigned kMostThreads = 1024;  // a row in shared memory leaves room for only one block on a multiprocessor

template <class T> struct Arguments {
    double* losses;  ///< one per row
    Rows<T> logits;
    const int* labels;
    unsigned width, num_packs;
    float scale;
    bool gradient, cached, aligned;  ///< cached: shared memory has room for num_packs packs
};

/// The largest element so far and the sum of exp(x - largest). The maximum ignores a NaN, but the sum becomes NaN.
struct Running {
    float most = -INFINITY, sum = 0;
    /// Elements of -inf add nothing.
    template <int n> __device__ void add(const float (&x)[n]) {
        float larger = most;
#pragma unroll
        for (const float value : x) larger = fmaxf(larger, value);
        // If all elements are -inf: exp(-inf - 0) is 0, but exp(-inf + inf) would be NaN.
        const float base = larger == -INFINITY ? 0.0f : larger;
        sum *= expf(most - base);
#pragma unroll
        for (const float value : x) sum += expf(value - base);
        most = larger;
    }
};

template <class T> __device__ void zero_row(const Arguments<T>& a, T* x) {
    constexpr int n = kPack<T>;
    const float zeros[n] = {};
    for (unsigned pack = threadIdx.x; pack < a.num_packs; pack += blockDim.x)
        store(x + pack * n, zeros, static_cast<int>(min(static_cast<unsigned>(n), a.width - pack * n)), a.aligned);
}

template <class T> __global__ void __launch_bounds__(kMostThreads) cross_entropy_kernel(const Arguments<T> a) {
    constexpr int n = kPack<T>;
    extern __shared__ uint4 cache[];  // one pack per element
    __shared__ float most_room[kMostThreads / kWarp];
    __shared__ double sum_room[kMostThreads / kWarp];
    T *x = a.logits.at(blockIdx.x, 0), *kept = reinterpret_cast<T*>(cache);
    const int label = a.labels[blockIdx.x];
    if (label < 0) {
        if (threadIdx.x == 0) a.losses[blockIdx.x] = 0;
        if (a.gradient) zero_row(a, x);
        return;
    }
    // Thread 0 reads the label's logit before the barriers in over_block (or __syncwarp below). Only after them does
    // any thread overwrite that logit with its gradient.
    __shared__ float at_label;
    const float read_at_label = threadIdx.x == 0 ? to_float(x[label]) : 0.0f;
    const auto count_at = [&](unsigned pack) {
        return static_cast<int>(min(static_cast<unsigned>(n), a.width - pack * n));
    };
    Running running;
    for (unsigned pack = threadIdx.x; pack < a.num_packs; pack += blockDim.x) {
        float values[n];
        load(values, x + pack * n, count_at(pack), a.aligned, -INFINITY);
        if (a.cached) store_at_once(kept + pack * n, values);
        running.add(values);
    }
    if (threadIdx.x == 0) at_label = read_at_label;
    const float most = over_block(running.most, most_room, Larger{});
    const double sum =
        over_block(static_cast<double>(running.sum) * static_cast<double>(expf(running.most - most)), sum_room, Add{});
    if (threadIdx.x == 0) a.losses[blockIdx.x] = log(sum) + (static_cast<double>(most) - static_cast<double>(at_label));
    if (!a.gradient) return;
    __syncwarp();  // over_block has no barrier for a single warp, and shuffles do not order memory accesses
    const float factor = static_cast<float>(static_cast<double>(a.scale) / sum);
    const float of_label = a.scale * (static_cast<float>(static_cast<double>(expf(at_label - most)) / sum) - 1.0f);
    for (unsigned pack = threadIdx.x; pack < a.num_packs; pack += blockDim.x) {
        float values[n];
        if (a.cached) load_at_once(values, kept + pack * n);
        else load(values, x + pack * n, count_at(pack), a.aligned);
#pragma unroll
        for (int i = 0; i < n; ++i)
            values[i] = static_cast<int>(pack * n) + i == label ? of_label : expf(values[i] - most) * factor;
        store(x + pack * n, values, count_at(pack), a.aligned);
    }
}

template <class T>
void launch(cudaStream_t stream, std::int64_t shared_bytes, const Arguments<T>& arguments, std::int64_t num_rows) {
    constexpr std::int64_t kOwnSharedBytes = 1024;  // shared memory of the reductions, rounded up
    Arguments<T> a = arguments;
    const std::int64_t row_bytes = std::int64_t{a.num_packs} * 16;
    a.cached = a.gradient && row_bytes + kOwnSharedBytes <= shared_bytes;
    const std::size_t bytes = a.cached ? static_cast<std::size_t>(row_bytes) : 0;
    if (a.cached)
        check(cudaFuncSetAttribute(cross_entropy_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(bytes)),
              "cudaFuncSetAttribute");
    const unsigned threads = std::clamp((a.num_packs + kWarp - 1) / kWarp * kWarp, kWarp, kMostThreads);
    cross_entropy_kernel<T><<<static_cast<unsigned>(num_rows), threads, bytes, stream>>>(a);
    check(cudaGetLastError(), "cross_entropy");
}

}  // namespace

void cross_entropy(cudaStream_t stream, Tensor scratch, std::int64_t shared_bytes, Tensor loss_sum, Tensor logits,
                   ConstTensor labels, float scale, bool gradient) {
    if (logits.count() == 0) return;
    ensure(logits.width() < (std::int64_t{1} << 31) - 16, "a row has too many elements for a kernel");
    const std::int64_t most = scratch.size_bytes() / std::int64_t{sizeof(double)};  // rows per launch
    for (std::int64_t begin = 0; begin < logits.shape[0]; begin += most) {
        const std::int64_t num_rows = std::min(most, logits.shape[0] - begin);
        const Tensor rows = logits.rows(begin, num_rows);
        auto* losses = pointer_to<double>(scratch);
        with_type(logits.dtype, [&](auto type) {
            using T = typename decltype(type)::type;
            constexpr int n = kPack<T>;
            const Arguments<T> arguments{losses,
                                         rows_of<T>(rows),
                                         pointer_to<const int>(labels.slice(begin, num_rows)),
                                         static_cast<unsigned>(rows.width()),
                                         static_cast<unsigned>((rows.width() + n - 1) / n),
                                         scale,
                                         gradient,
                                         false,
                                         packs_aligned(n, rows)};
            launch(stream, shared_bytes, arguments, num_rows);
        });
        add_sum(stream, pointer_to<double>(loss_sum), losses, static_cast<unsigned>(num_rows), "cross_entropy");
    }
}

}  // namespace longlora::cuda
