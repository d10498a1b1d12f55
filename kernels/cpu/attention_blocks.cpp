// Copies rows for attention. Compiled for AVX2, which every build requires: wider vectors hardly speed up copies.
#include "kernels/cpu/attention_blocks.h"

#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

namespace longlora::cpu {

AttentionShape attention_shape(const ConstTensor& q, const ConstTensor& k, const AttentionPlace& place,
                               std::int64_t lanes) {
    AttentionShape s{};
    s.head_dim = place.head_dim;
    s.width = round_up(place.head_dim, lanes);
    s.num_heads = q.width() / place.head_dim;
    s.num_kv_heads = k.width() / place.head_dim;
    s.group = s.num_heads / s.num_kv_heads;
    s.query_begin = place.query_begin;
    s.query_end = place.query_begin + q.num_rows();
    s.key_begin = place.key_begin;
    s.key_end = place.key_begin + k.num_rows();
    return s;
}

AttentionTiles attention_tiles(InstructionSet isa) {
    return isa == InstructionSet::avx512 ? attention_tiles_avx512() : attention_tiles_avx2();
}

std::span<const std::int32_t> first_keys_of(const Windows& windows, std::int64_t head) {
    const auto row = windows.first_key.rows(head >= windows.num_plain_heads ? 1 : 0, 1);
    return {row.data<std::int32_t>(), static_cast<std::size_t>(row.count())};
}

void load_rows(float* out, const AttentionShape& shape, std::int64_t padded_rows, const ConstTensor& t,
               std::int64_t begin, std::int64_t n, std::int64_t column) {
    const std::int64_t e = shape.head_dim, w = shape.width, offset = begin * t.row_stride + column;
    for (std::int64_t r = 0; r < n; ++r, out += w) {
        if (t.dtype == DType::float32) {
            std::copy_n(t.data<float>() + offset + r * t.row_stride, e, out);
        } else {
            const bf16* in = t.data<bf16>() + offset + r * t.row_stride;
            for (std::int64_t i = 0; i < e; ++i) out[i] = in[i];
        }
        std::fill(out + e, out + w, 0.0f);
    }
    std::fill(out, out + (padded_rows - n) * w, 0.0f);
}

RowBlock block_of_rows(float* buffer, const AttentionShape& shape, std::int64_t padded_rows,
                       std::int64_t column_multiple, const ConstTensor& t, std::int64_t begin, std::int64_t n,
                       std::int64_t column) {
    // In floats. Strides that are a multiple of 2 KiB put all rows into at most two sets of a 64-set cache.
    constexpr std::int64_t kBadStride = 512;
    if (t.dtype == DType::float32 && shape.head_dim % column_multiple == 0 && begin + padded_rows <= t.num_rows() &&
        t.row_stride % kBadStride != 0) {
        return {t.data<float>() + begin * t.row_stride + column, t.row_stride};
    }
    load_rows(buffer, shape, padded_rows, t, begin, n, column);
    return {buffer, shape.width};
}

void add_rows(const Tensor& t, std::int64_t begin, std::int64_t n, std::int64_t column, const float* rows,
              const AttentionShape& shape) {
    const std::int64_t e = shape.head_dim, offset = begin * t.row_stride + column;
    for (std::int64_t r = 0; r < n; ++r, rows += shape.width) {
        if (t.dtype == DType::float32) {
            float* to = t.data<float>() + offset + r * t.row_stride;
            for (std::int64_t i = 0; i < e; ++i) to[i] += rows[i];
        } else {
            bf16* to = t.data<bf16>() + offset + r * t.row_stride;
            for (std::int64_t i = 0; i < e; ++i) to[i] = bf16(to[i] + rows[i]);
        }
    }
}

namespace {

void transpose_8x8(float* out, std::int64_t out_stride, const float* in, std::int64_t in_stride) {
    __m256 a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(in + i * in_stride);
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

}  // namespace

void transpose(float* out, std::int64_t out_stride, const float* in, std::int64_t in_stride, std::int64_t rows,
               std::int64_t columns) {
    for (std::int64_t r = 0; r < rows; r += 8) {
        for (std::int64_t c = 0; c < columns; c += 8)
            transpose_8x8(out + c * out_stride + r, out_stride, in + r * in_stride + c, in_stride);
    }
}

Scratch::Scratch(std::int64_t num_floats) {
    struct Free {
        void operator()(float* p) const { std::free(p); }
    };
    thread_local std::unique_ptr<float, Free> memory;
    thread_local std::int64_t size = 0;
    if (size < num_floats) {
        size = 0;
        memory.reset(static_cast<float*>(
            std::aligned_alloc(64, static_cast<std::size_t>(round_up(num_floats, 16)) * sizeof(float))));
        if (!memory) throw std::bad_alloc();
        size = num_floats;
    }
    next_ = memory.get();
    end_ = next_ + size;
}

float* Scratch::floats(std::int64_t n) {
    float* part = next_;
    next_ += round_up(n, 16);
    ensure(next_ <= end_, "the scratch memory of attention is too small");
    return part;
}

}  // namespace longlora::cpu
