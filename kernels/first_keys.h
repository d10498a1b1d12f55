// FirstKeys: first_key as a function of the token, kept as stretches on which it is constant or grows by one for each
// token. Dense attention has one stretch, S2-Attn one for each group, whatever the number of tokens; a document adds at
// most two. All questions take a binary search. kernels/windows.h says what first_key means.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace longlora {

class FirstKeys {
public:
    /// Tokens from `begin` until the next stretch.
    struct Stretch {
        std::int64_t begin = 0, first = 0;  ///< the first token, and its first key
        bool grows = false;                 ///< whether each further token's first key is one more than the one before
        std::int64_t sum_before = 0;        ///< sum of the first keys of all tokens before `begin`
        std::int64_t at(std::int64_t token) const { return grows ? first + token - begin : first; }
    };

    /// No tokens.
    FirstKeys() = default;
    /// One number for each token, in any order.
    FirstKeys(std::span<const std::int32_t> by_token);
    FirstKeys(const std::vector<std::int32_t>& by_token) : FirstKeys(std::span<const std::int32_t>(by_token)) {}

    std::int64_t num_tokens() const { return num_tokens_; }
    std::size_t size() const { return static_cast<std::size_t>(num_tokens_); }
    std::span<const Stretch> stretches() const;
    std::int32_t operator[](std::int64_t token) const;
    /// Whether first keys never decrease and no token's first key is after the token itself or negative. The functions
    /// below need this.
    bool valid() const;
    /// The first token whose first key is `key` or later; num_tokens() if there is none.
    std::int64_t first_token_at(std::int64_t key) const;
    /// The sum of the first keys of the tokens before `token`.
    std::int64_t sum_before(std::int64_t token) const;
    /// Writes one number for each token.
    void write(std::span<std::int32_t> by_token) const;

private:
    friend class FirstKeysBuilder;
    const Stretch& stretch_of(std::int64_t token) const;
    std::shared_ptr<const std::vector<Stretch>> stretches_;  // never changed, so copies share it
    std::int64_t num_tokens_ = 0;
};

/// Builds FirstKeys from the first token to the last.
class FirstKeysBuilder {
public:
    /// The next `count` tokens have the first keys `first`, or first, first + 1, ... if it grows. Continues the stretch
    /// before if it can.
    void add(std::int64_t count, std::int64_t first, bool grows);
    FirstKeys build() &&;

private:
    std::vector<FirstKeys::Stretch> stretches_;
    std::int64_t num_tokens_ = 0, sum_ = 0;
};

}  // namespace longlora
