// Attention patterns as data: every pattern is first_key[t] per head kind (design section 4). The only place that knows
// S2-Attn's geometry. Source: Chen et al. 2024 (LongLoRA), the variant in which groups do not wrap around, so nothing
// sees the future.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/uploads.h"

namespace longlora {

enum class AttentionKind { dense, shifted, plain, shifted_only, layers, sliding };
AttentionKind attention_kind(const std::string& name);  ///< "shifted-only" etc.; an unknown name lists the known ones
std::string_view name_of(AttentionKind kind);

struct AttentionPattern {
    AttentionKind kind = AttentionKind::dense;
    std::int64_t group = 0;  ///< G in tokens; for sliding: how many keys a query sees, itself included
};

/// first_key for plain heads: t/G*G; shifted: t < G/2 ? 0 : (t-G/2)/G*G + G/2; dense: 0; sliding: max(0, t-G+1).
std::int64_t plain_first_key(std::int64_t t, std::int64_t group);
std::int64_t shifted_first_key(std::int64_t t, std::int64_t group);

/// One layer's windows over `num_tokens` tokens, host side. document_begin: starts of documents in the sequence,
/// ascending, in tokens (an entry <= 0 means from before the sequence); empty = no document mask.
struct HostWindows {
    std::vector<std::int32_t> first_key[2];  ///< by HeadKind
    std::int64_t num_plain_heads = 0;
};
/// Which of the pattern's (at most two) window tables layer `layer` uses: 0, or layer % 2 for `layers`.
int window_variant(const AttentionPattern& pattern, std::int64_t layer);
int num_window_variants(const AttentionPattern& pattern);
HostWindows make_windows(const AttentionPattern& pattern, int variant, std::int64_t num_tokens, std::int64_t num_heads,
                         std::span<const std::int64_t> document_begin = {});

/// Windows on a device, with what they point to. Checks non-decreasing and first_key[t] <= t once, here.
class DeviceWindows {
public:
    DeviceWindows() = default;
    /// uploads: those of a micro-batch, which has begun and counts 2 N for it; none: the host waits for the copy.
    DeviceWindows(Device& device, HostWindows host, Uploads* uploads = nullptr);
    const Windows& operator*() const { return windows_; }

private:
    HostWindows host_;
    ArenaTensor first_key_;
    Windows windows_;
};

}  // namespace longlora
