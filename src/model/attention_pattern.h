// Attention patterns as data: a pattern is one number per token and kind of head, first_key[t]; token t sees keys
// first_key[t] .. t. The geometry of S2-Attn is here (src/model/stage.cpp also counts its visible pairs in closed
// form). Source: Chen et al. 2024 (LongLoRA), in the variant whose groups do not wrap around, so no token sees a later
// one. kernels/windows.h has the form in which operations take a pattern.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/uploads.h"

namespace longlora {

enum class AttentionKind { dense, shifted, plain, shifted_only, layers, sliding };
AttentionKind attention_kind(const std::string& name);  ///< "shifted-only" etc.; the error lists all names
std::string_view name_of(AttentionKind kind);

struct AttentionPattern {
    AttentionKind kind = AttentionKind::dense;
    std::int64_t group = 0;  ///< G, tokens per group; for sliding: how many keys a query sees, including its own
};

/// The windows of one layer over `num_tokens` tokens, on the host. The first key of token t is t/G*G in plain heads and
/// t < G/2 ? 0 : (t-G/2)/G*G + G/2 in shifted heads, where divisions round down; 0 in dense attention, and max(0,
/// t-G+1) in sliding attention.
struct HostWindows {
    FirstKeys first_key[2];  ///< by HeadKind
    std::int64_t num_plain_heads = 0;
};
/// Which of the pattern's window tables (at most two) a layer uses: layer % 2 for AttentionKind::layers, otherwise 0.
int window_variant(const AttentionPattern& pattern, std::int64_t layer);
int num_window_variants(const AttentionPattern& pattern);
/// document_begin: where documents begin in the sequence, in tokens, ascending; an entry <= 0 is a document that
/// began before the sequence or with it. Empty: no document mask.
HostWindows make_windows(const AttentionPattern& pattern, int variant, std::int64_t num_tokens, std::int64_t num_heads,
                         std::span<const std::int64_t> document_begin = {});

/// The same as operations take them, without the tensor on a device.
Windows on_host(const HostWindows& host);

/// Windows on a device, with the memory that they point to. The constructor checks, once, that first_key is
/// non-decreasing and first_key[t] <= t.
class DeviceWindows {
public:
    DeviceWindows() = default;
    /// uploads: makes the copy as a part of the current micro-batch, for which begin() has counted 2 N integers for
    /// these windows. With nullptr the host waits for the copy.
    DeviceWindows(Device& device, const HostWindows& host, Uploads* uploads = nullptr);
    const Windows& operator*() const { return windows_; }

private:
    ArenaTensor first_key_;
    Windows windows_;
};

}  // namespace longlora
