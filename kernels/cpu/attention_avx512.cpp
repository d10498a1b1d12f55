// The inner steps of attention with AVX-512.
#include "kernels/cpu/attention_tiles_impl.h"
#include "kernels/cpu/simd_avx512.h"

namespace longlora::cpu {

AttentionTiles attention_tiles_avx512() {
    return {Avx512::kLanes, 3 * Avx512::kLanes, &forward_tile<Avx512>, &backward_tile<Avx512>};
}

}  // namespace longlora::cpu
