// The inner steps of attention on float tiles, with one implementation per instruction set. attention_forward.cpp and
// attention_backward.cpp load the tiles, find the visible ones and distribute them to threads. This file has only
// plain structs, since the AVX-512 file must not instantiate code that other files share.
//
// A panel is 3 vectors of lanes, so 24 or 48 queries or keys. W is head_dim E rounded up to whole vectors; the
// padding is 0.
#pragma once

#include <cstdint>

namespace longlora::cpu {

/// One panel of queries (one per lane) against rows of one block of keys: a step of the online softmax. Scores are in
/// units of log 2.
struct ForwardTile {
    const float* q_t;                       ///< (E, panel)
    float* o_t;                             ///< (W, panel): sum of exp2(score - max) * v
    float *max, *sum;                       ///< (panel)
    const std::int32_t *first_key, *token;  ///< (panel): the lane sees keys first_key .. token
    const float *k, *v;                     ///< (block rounded up to 8, E rounded up to 8); row r is key key_begin + r
    std::int64_t k_stride, v_stride;
    float* s;  ///< (block rounded up to 8, panel): workspace
    std::int64_t head_dim, width;
    std::int32_t key_begin;
    std::int64_t lo, hi;            ///< rows [lo, hi) hold all keys that a lane sees
    std::int64_t full_lo, full_hi;  ///< every lane sees rows [full_lo, full_hi), if full_lo < full_hi
    float scale;                    ///< scale of the scores, times log2(e)
};

/// One panel of keys (one per lane) against rows of one block of queries: computes p = exp2(s - lse) again, then the
/// products of the gradients.
struct BackwardTile {
    const float *k_t, *v_t;   ///< (E, panel)
    const float* k;           ///< (panel, W)
    float *d_k, *d_v;         ///< (panel, W): the tile adds to them; or null
    const std::int32_t* key;  ///< (panel): token of the lane, INT32_MAX for padding
    const float *q, *d_out;   ///< (rows rounded up to 8, W)
    std::int64_t q_stride, d_out_stride;
    float* d_q;                     ///< (rows rounded up to 8, W): the tile adds to it; or null
    const float *lse, *delta;       ///< (rows): lse in units of log 2, +inf for a query that sees no key
    const std::int32_t* first_key;  ///< (rows): row r sees keys first_key[r] .. token_begin + r
    float *p, *ds;                  ///< (rows rounded up to 8, panel): workspace
    std::int64_t head_dim, width;
    std::int32_t token_begin;
    std::int64_t lo, hi;            ///< rows [lo, hi) hold all queries that see a lane
    std::int64_t full_lo, full_hi;  ///< rows [full_lo, full_hi) see every lane, if full_lo < full_hi
    float score_scale, scale;       ///< scale * log2(e); scale of the scores
};

struct AttentionTiles {
    std::int64_t lanes, panel;
    void (*forward)(const ForwardTile&);
    void (*backward)(const BackwardTile&);
};

AttentionTiles attention_tiles_avx2();
AttentionTiles attention_tiles_avx512();

}  // namespace longlora::cpu
