// The inner steps of attention with AVX2.
#include "kernels/cpu/attention_tiles_impl.h"
#include "kernels/cpu/simd_avx2.h"

namespace longlora::cpu {

AttentionTiles attention_tiles_avx2() {
    return {Avx2::kLanes, 3 * Avx2::kLanes, &forward_tile<Avx2>, &backward_tile<Avx2>};
}

}  // namespace longlora::cpu
