// rotary: turns x in place, row by row, with angles from tables.
#include "kernels/cpu/operations.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

namespace longlora::cpu {

void rotary(Tensor x, const RotaryAngles& angles, std::int64_t head_dim, std::int64_t position_begin, bool inverse) {
    with_type(x.dtype, [&](auto type) {
        using T = decltype(type);
        const Rows<T> rows(x);
        const Rows<const float> cos_rows(angles.cos), sin_rows(angles.sin);
        const std::int64_t half = head_dim / 2, width = x.width();
        const float sign = inverse ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static) if (x.count() > kParallelElements)
        for (std::int64_t t = 0; t < x.shape[0]; ++t) {
            const float *c = cos_rows[position_begin + t], *s = sin_rows[position_begin + t];
            for (std::int64_t head = 0; head < width; head += head_dim) {
                T *first = rows[t] + head, *second = first + half;
#pragma omp simd
                for (std::int64_t i = 0; i < half; ++i) {
                    const float a = float(first[i]), b = float(second[i]), turn = sign * s[i];
                    put(first[i], a * c[i] - b * turn);
                    put(second[i], b * c[i] + a * turn);
                }
            }
        }
    });
}

}  // namespace longlora::cpu
