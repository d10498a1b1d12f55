// All inline PTX instructions of the kernels, one wrapper each. The tensor-core and copy instructions are those of
// sm_80, which later GPUs run as well. The algorithms are elsewhere: attention/tiles.cuh uses most of these.
//
// Fragments of mma.m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16") in lane l of a warp, with g = l / 4 and
// t = l % 4. Each register of a and b holds two neighbouring bfloat16:
//   a[0] (row g, columns 2t, 2t+1)   a[1] (g+8, 2t ..)   a[2] (g, 2t+8 ..)   a[3] (g+8, 2t+8 ..)
//   b[0] (rows 2t, 2t+1, column g)   b[1] (rows 2t+8 .., g)
//   d[0] (g, 2t)   d[1] (g, 2t+1)   d[2] (g+8, 2t)   d[3] (g+8, 2t+1)         d is float32
#pragma once

#include <cstddef>
#include <cstdint>

namespace longlora::cuda {

/// The address that the PTX instructions below take: bytes from the start of the block's shared memory.
__device__ inline unsigned shared_address(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// Adds no instruction. It makes the compiler keep the pointer as one value; otherwise the compiler carries the parts
/// of its computation through a loop, in two registers each.
__device__ inline void settle(const std::byte*& pointer) { asm("" : "+l"(pointer)); }

/// Starts an asynchronous copy of 16 bytes. It reads the first `bytes` of them (0 or 16) and sets the others to 0. Both
/// addresses are multiples of 16.
__device__ inline void copy_async(unsigned to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/// Waits until all copies that this thread has started are in shared memory. Other threads see them after a barrier.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Loads four 8x8 matrices of bfloat16. Lane l gives the address of row l % 8 of matrix l / 8. Its r[m] gets
/// (row l/4, columns 2(l%4), 2(l%4)+1) of matrix m.
__device__ inline void load_matrices(std::uint32_t (&r)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/// The same with each matrix transposed: r[m] gets (rows 2(l%4), 2(l%4)+1, column l/4) of matrix m.
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/// d (16x8) += a (16x16) b (16x8).
__device__ inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
        "%2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// 2^x, accurate to 2 units in the last place. Results below 2^-126 are 0; 2^-inf = 0.
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// Rounds two floats to bfloat16 (to nearest even); `low` goes to the lower half.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
    std::uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

__device__ inline void store_shared(unsigned to, float a, float b) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(a), "f"(b) : "memory");
}
__device__ inline void store_shared(unsigned to, uint4 x) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
                 : "memory");
}
__device__ inline float4 load_shared(unsigned from) {
    float4 x;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
                 : "r"(from)
                 : "memory");
    return x;
}

}  // namespace longlora::cuda
