// A merge sort in which a block reads and writes neighbouring keys of device memory. Blocks sort runs of kThreads keys.
// Then they merge pairs of runs into runs of twice that length, of four times that length, and so on. A block makes
// kThreads neighbouring keys of the result. It finds where they come from by the merge path (Green, McColl, Bader 2012,
// "GPU merge path"). Inside a block, Batcher's bitonic merge (1968) sorts and merges keys, one key per thread.
#include <utility>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/token_order.cuh"

namespace longlora::cuda {
namespace {

constexpr Key kBehindAll = ~Key{0};

/// Sorts every group of `length` keys; the keys of a group must first rise and then fall, or first fall and then rise.
/// Thread i holds the key at place i. room: shared memory for kThreads keys.
inline __device__ Key sort_bitonic(Key own, unsigned length, bool rising, Key* room) {
    for (unsigned distance = length / 2; distance > 0; distance /= 2) {
        Key other;
        if (distance < kWarp) other = __shfl_xor_sync(kAllLanes, own, distance);
        else {
            __syncthreads();
            room[threadIdx.x] = own;
            __syncthreads();
            other = room[threadIdx.x ^ distance];
        }
        const bool first = (threadIdx.x & distance) == 0;
        own = first == rising ? min(own, other) : max(own, other);
    }
    return own;
}

/// Makes the keys of the tokens and sorts them in runs of kThreads.
__global__ void __launch_bounds__(kThreads) sort_runs_kernel(Key* keys, const int* ids, unsigned count) {
    __shared__ Key room[kThreads];
    const unsigned token = blockIdx.x * kThreads + threadIdx.x;
    Key own = token < count ? Key{static_cast<unsigned>(ids[token])} << 32 | token : kBehindAll;
    for (unsigned length = 2; length <= kThreads; length *= 2)
        own = sort_bitonic(own, length, (threadIdx.x & length) == 0, room);
    if (token < count) keys[token] = own;
}

struct Run {
    const Key* keys;
    unsigned length;
};
/// How many of the first n keys of a and b, merged, are keys of a.
inline __device__ unsigned share_of_first(unsigned n, Run a, Run b) {
    unsigned least = n > b.length ? n - b.length : 0, most = min(n, a.length);
    while (least < most) {
        const unsigned middle = least + (most - least) / 2;
        if (a.keys[middle] < b.keys[n - 1 - middle]) least = middle + 1;
        else most = middle;
    }
    return least;
}

/// Merges pairs of sorted runs of `length` keys into sorted runs of 2 * length. length: a multiple of kThreads.
__global__ void __launch_bounds__(kThreads)
    merge_runs_kernel(Key* to, const Key* from, unsigned count, unsigned length) {
    __shared__ Key room[kThreads];
    const unsigned begin = blockIdx.x * kThreads, pair = begin / (2 * length) * (2 * length),
                   middle = min(pair + length, count), end = min(middle + length, count);
    const Run a{from + pair, middle - pair}, b{from + middle, end - middle};
    const unsigned n = min(kThreads, end - begin), a_begin = share_of_first(begin - pair, a, b),
                   b_begin = begin - pair - a_begin;
    const unsigned from_a = share_of_first(begin - pair + n, a, b) - a_begin, from_b = n - from_a;
    // The keys of a come first and rise; the keys of b come last and fall; kBehindAll fills the places between them.
    const unsigned i = threadIdx.x, from_last = kThreads - 1 - i;
    Key own = i < from_a ? a.keys[a_begin + i] : from_last < from_b ? b.keys[b_begin + from_last] : kBehindAll;
    own = sort_bitonic(own, kThreads, true, room);
    if (i < n) to[begin + i] = own;
}

}  // namespace

const Key* tokens_in_order(cudaStream_t stream, const Tensor& scratch, const ConstTensor& ids) {
    const auto count = static_cast<unsigned>(ids.count()), num_blocks = (count + kThreads - 1) / kThreads;
    Key *keys = pointer_to<Key>(scratch), *other = keys + count;
    sort_runs_kernel<<<num_blocks, kThreads, 0, stream>>>(keys, pointer_to<const int>(ids), count);
    check(cudaGetLastError(), "embedding_backward");
    for (unsigned length = kThreads; length < count; length *= 2) {
        merge_runs_kernel<<<num_blocks, kThreads, 0, stream>>>(other, keys, count, length);
        check(cudaGetLastError(), "embedding_backward");
        std::swap(keys, other);
    }
    return keys;
}

}  // namespace longlora::cuda
