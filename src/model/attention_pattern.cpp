// Computes the windows of patterns and copies them to a device. StepContext::windows says which layer uses which
// windows.
#include "model/attention_pattern.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace longlora {

namespace {

constexpr std::pair<AttentionKind, std::string_view> kNames[] = {
    {AttentionKind::dense, "dense"},   {AttentionKind::shifted, "shifted"},
    {AttentionKind::plain, "plain"},   {AttentionKind::shifted_only, "shifted-only"},
    {AttentionKind::layers, "layers"}, {AttentionKind::sliding, "sliding"},
};

/// The pattern's first key for one kind of head, before documents are considered.
std::int64_t pattern_first_key(const AttentionPattern& pattern, int variant, HeadKind head, std::int64_t t) {
    const std::int64_t group = pattern.group;
    switch (pattern.kind) {
        case AttentionKind::dense:
            return 0;
        case AttentionKind::shifted:
            return head == HeadKind::plain ? plain_first_key(t, group) : shifted_first_key(t, group);
        case AttentionKind::plain:
            return plain_first_key(t, group);
        case AttentionKind::shifted_only:
            return shifted_first_key(t, group);
        case AttentionKind::layers:
            return variant == 0 ? plain_first_key(t, group) : shifted_first_key(t, group);
        case AttentionKind::sliding:
            return std::max<std::int64_t>(0, t - group + 1);
    }
    ensure(false, "every attention kind has a pattern");
    return 0;
}

}  // namespace

AttentionKind attention_kind(const std::string& name) {
    std::string known;
    for (const auto& [kind, spelling] : kNames) {
        if (spelling == name) return kind;
        known += (known.empty() ? "" : ", ") + std::string(spelling);
    }
    fail(text("the attention pattern \"", name, "\" is not known; known patterns are ", known));
}

std::string_view name_of(AttentionKind kind) {
    for (const auto& [known, spelling] : kNames)
        if (known == kind) return spelling;
    return "?";
}

std::int64_t plain_first_key(std::int64_t t, std::int64_t group) { return t / group * group; }

std::int64_t shifted_first_key(std::int64_t t, std::int64_t group) {
    const std::int64_t shift = group / 2;
    return t < shift ? 0 : (t - shift) / group * group + shift;
}

int window_variant(const AttentionPattern& pattern, std::int64_t layer) {
    return pattern.kind == AttentionKind::layers ? static_cast<int>(layer % 2) : 0;
}

int num_window_variants(const AttentionPattern& pattern) { return pattern.kind == AttentionKind::layers ? 2 : 1; }

HostWindows make_windows(const AttentionPattern& pattern, int variant, std::int64_t num_tokens, std::int64_t num_heads,
                         std::span<const std::int64_t> document_begin) {
    ensure(num_heads > 0 && variant >= 0 && variant < num_window_variants(pattern),
           "windows need at least one head and an existing variant");
    ensure(std::is_sorted(document_begin.begin(), document_begin.end()), "documents begin in ascending order");
    require(num_tokens >= 1 && num_tokens <= std::numeric_limits<std::int32_t>::max(), "a context of ", num_tokens,
            " tokens is not possible; it must be between 1 and 2147483647");
    require(pattern.kind == AttentionKind::dense || pattern.group >= 1, "the attention pattern ", name_of(pattern.kind),
            " needs a group of at least 1 token, not ", pattern.group);
    HostWindows windows;
    // If all heads are alike, both rows hold the same numbers, so that code that reads the unused row finds valid
    // windows.
    windows.num_plain_heads = pattern.kind == AttentionKind::shifted ? num_heads / 2 : num_heads;
    for (const HeadKind head : {HeadKind::plain, HeadKind::shifted}) {
        auto& first_key = windows.first_key[static_cast<int>(head)];
        first_key.resize(num_tokens);
        std::int64_t document = 0;
        auto next = document_begin.begin();
        for (std::int64_t t = 0; t < num_tokens; ++t) {
            while (next != document_begin.end() && *next <= t) document = std::max<std::int64_t>(0, *next++);
            first_key[t] = static_cast<std::int32_t>(std::max(document, pattern_first_key(pattern, variant, head, t)));
        }
    }
    return windows;
}

DeviceWindows::DeviceWindows(Device& device, HostWindows host, Uploads* uploads) : host_(std::move(host)) {
    const std::int64_t count = host_.first_key[0].size();
    ensure(count > 0 && host_.first_key[1].size() == host_.first_key[0].size(),
           "both rows of windows have one entry per token");
    for (const auto& first_key : host_.first_key)
        for (std::int64_t t = 0; t < count; ++t) {
            const std::int32_t first = first_key[t];
            const std::int32_t before = t ? first_key[t - 1] : 0;
            ensure(first >= before && first <= t, "first_key is non-decreasing and never after its own token");
        }
    const auto fill = [this](Tensor staging) {
        for (int row = 0; row < 2; ++row)
            std::copy(host_.first_key[row].begin(), host_.first_key[row].end(),
                      staging.rows(row, 1).data<std::int32_t>());
    };
    first_key_ = uploads ? uploads->upload({2, count}, fill) : upload(device, {2, count}, fill);
    windows_.first_key = first_key_;
    for (int row = 0; row < 2; ++row) windows_.host[row] = host_.first_key[row];
    windows_.num_plain_heads = host_.num_plain_heads;
}

}  // namespace longlora
