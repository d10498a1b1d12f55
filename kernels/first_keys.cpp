// Each stretch knows the sum of the first keys before it, so a sum up to any token needs one stretch only.
#include "kernels/first_keys.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace longlora {
namespace {

/// The sum of the first keys of `count` tokens of a stretch, from its beginning.
std::int64_t sum_of(const FirstKeys::Stretch& stretch, std::int64_t count) {
    return count * stretch.first + (stretch.grows ? count * (count - 1) / 2 : 0);
}

}  // namespace

FirstKeys::FirstKeys(std::span<const std::int32_t> by_token) {
    FirstKeysBuilder builder;
    for (const std::int32_t first : by_token) builder.add(1, first, false);
    *this = std::move(builder).build();
}

std::span<const FirstKeys::Stretch> FirstKeys::stretches() const {
    return stretches_ ? std::span<const Stretch>(*stretches_) : std::span<const Stretch>();
}

const FirstKeys::Stretch& FirstKeys::stretch_of(std::int64_t token) const {
    ensure(token >= 0 && token < num_tokens_, "first keys are asked for a token that they have");
    if (stretches_->size() == 1) return stretches_->front();
    const auto after = std::upper_bound(stretches_->begin(), stretches_->end(), token,
                                        [](std::int64_t t, const Stretch& stretch) { return t < stretch.begin; });
    return *std::prev(after);
}

std::int32_t FirstKeys::operator[](std::int64_t token) const {
    return static_cast<std::int32_t>(stretch_of(token).at(token));
}

bool FirstKeys::valid() const {
    std::int64_t before = 0;
    for (const Stretch& stretch : stretches()) {
        // Where it is constant, the first token has the least room; where it grows, all have the same.
        if (stretch.first < before || stretch.first > stretch.begin) return false;
        const bool last = &stretch == &stretches_->back();
        before = stretch.at((last ? num_tokens_ : (&stretch)[1].begin) - 1);
    }
    return true;
}

std::int64_t FirstKeys::first_token_at(std::int64_t key) const {
    const auto all = stretches();
    const auto beyond = std::partition_point(all.begin(), all.end(), [&](const Stretch& s) { return s.first < key; });
    const std::int64_t begin = beyond == all.end() ? num_tokens_ : beyond->begin;
    if (beyond == all.begin()) return begin;
    const Stretch& before = *std::prev(beyond);
    return before.grows ? std::min(begin, before.begin + key - before.first) : begin;
}

std::int64_t FirstKeys::sum_before(std::int64_t token) const {
    if (token <= 0) return 0;
    const Stretch& stretch = stretch_of(token - 1);
    return stretch.sum_before + sum_of(stretch, token - stretch.begin);
}

void FirstKeys::write(std::span<std::int32_t> by_token) const {
    ensure(by_token.size() == size(), "first keys are written for all tokens");
    for (const Stretch& stretch : stretches()) {
        const bool last = &stretch == &stretches_->back();
        const std::int64_t end = last ? num_tokens_ : (&stretch)[1].begin;
        for (std::int64_t t = stretch.begin; t < end; ++t)
            by_token[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(stretch.at(t));
    }
}

void FirstKeysBuilder::add(std::int64_t count, std::int64_t first, bool grows) {
    ensure(count >= 0, "a stretch has no negative number of tokens");
    if (count == 0) return;
    if (count == 1) grows = false;
    FirstKeys::Stretch* before = stretches_.empty() ? nullptr : &stretches_.back();
    // A stretch of one token may turn out to grow.
    if (before && num_tokens_ - before->begin == 1 && first == before->first + 1 && (grows || count == 1))
        before->grows = true;
    const bool continues = before && before->at(num_tokens_) == first && (before->grows == grows || count == 1);
    if (!continues) stretches_.push_back({num_tokens_, first, grows, sum_});
    sum_ += sum_of({.first = first, .grows = grows}, count);
    num_tokens_ += count;
}

FirstKeys FirstKeysBuilder::build() && {
    FirstKeys keys;
    keys.num_tokens_ = num_tokens_;
    keys.stretches_ = std::make_shared<const std::vector<FirstKeys::Stretch>>(std::move(stretches_));
    return keys;
}

}  // namespace longlora
