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

/// Groups of `group` tokens; the first one begins at token `first`, and the tokens before it are a group of their own.
FirstKeys groups_from(std::int64_t first, std::int64_t group, std::int64_t num_tokens) {
    FirstKeysBuilder keys;
    keys.add(std::min(first, num_tokens), 0, false);
    for (std::int64_t begin = first, count = 0; begin < num_tokens; begin += count) {
        count = std::min(group, num_tokens - begin);
        keys.add(count, begin, false);
    }
    return std::move(keys).build();
}

FirstKeys last_keys(std::int64_t count, std::int64_t num_tokens) {
    FirstKeysBuilder keys;
    keys.add(std::min(count, num_tokens), 0, false);
    keys.add(std::max<std::int64_t>(num_tokens - count, 0), 1, true);
    return std::move(keys).build();
}

/// The pattern's first keys for one kind of head, before documents are considered.
FirstKeys pattern_first_keys(const AttentionPattern& pattern, int variant, HeadKind head, std::int64_t num_tokens) {
    const auto groups = [&](bool shifted) {
        return groups_from(shifted ? pattern.group / 2 : 0, pattern.group, num_tokens);
    };
    switch (pattern.kind) {
        case AttentionKind::dense:
            return groups_from(num_tokens, num_tokens, num_tokens);
        case AttentionKind::shifted:
            return groups(head == HeadKind::shifted);
        case AttentionKind::plain:
            return groups(false);
        case AttentionKind::shifted_only:
            return groups(true);
        case AttentionKind::layers:
            return groups(variant != 0);
        case AttentionKind::sliding:
            return last_keys(pattern.group, num_tokens);
    }
    ensure(false, "every attention kind has a pattern");
    return {};
}

/// Adds the tokens [begin, end) of a stretch of the pattern; all are in the document that begins at `document`.
void add_later(FirstKeysBuilder& keys, const FirstKeys::Stretch& pattern, std::int64_t begin, std::int64_t end,
               std::int64_t document) {
    const std::int64_t first = pattern.at(begin);
    const std::int64_t hidden = first >= document ? 0
                                : pattern.grows   ? std::min(document - first, end - begin)
                                                  : end - begin;
    keys.add(hidden, document, false);
    if (begin + hidden < end) keys.add(end - begin - hidden, pattern.at(begin + hidden), pattern.grows);
}

/// The later of the pattern's first key and the beginning of the token's document.
FirstKeys within_documents(const FirstKeys& pattern, std::span<const std::int64_t> document_begin) {
    FirstKeysBuilder keys;
    std::int64_t document = 0;
    auto next = document_begin.begin();
    const auto stretches = pattern.stretches();
    for (std::size_t i = 0; i < stretches.size(); ++i) {
        const std::int64_t end = i + 1 < stretches.size() ? stretches[i + 1].begin : pattern.num_tokens();
        for (std::int64_t at = stretches[i].begin; at < end;) {
            while (next != document_begin.end() && *next <= at) document = std::max<std::int64_t>(0, *next++);
            const std::int64_t until = next == document_begin.end() ? end : std::min(end, *next);
            add_later(keys, stretches[i], at, until, document);
            at = until;
        }
    }
    return std::move(keys).build();
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
        FirstKeys& first_key = windows.first_key[static_cast<int>(head)];
        first_key = pattern_first_keys(pattern, variant, head, num_tokens);
        if (!document_begin.empty()) first_key = within_documents(first_key, document_begin);
    }
    return windows;
}

Windows on_host(const HostWindows& host) {
    return {.first_key = {}, .host = {host.first_key[0], host.first_key[1]}, .num_plain_heads = host.num_plain_heads};
}

DeviceWindows::DeviceWindows(Device& device, const HostWindows& host, Uploads* uploads) {
    const std::int64_t count = host.first_key[0].num_tokens();
    ensure(count > 0 && host.first_key[1].num_tokens() == count, "both rows of windows have one entry per token");
    for (const FirstKeys& first_key : host.first_key)
        ensure(first_key.valid(), "first_key is non-decreasing and never after its own token");
    const auto fill = [&host](Tensor staging) {
        for (int row = 0; row < 2; ++row)
            host.first_key[row].write({staging.rows(row, 1).data<std::int32_t>(), host.first_key[row].size()});
    };
    first_key_ = uploads ? uploads->upload({2, count}, fill) : upload(device, {2, count}, fill);
    windows_ = on_host(host);
    windows_.first_key = first_key_;
}

}  // namespace longlora
