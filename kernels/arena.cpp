// First-fit with joined holes: the same sequence of requests gives the same addresses on every device.
#include "kernels/arena.h"

#include <algorithm>
#include <utility>

#include "core/clock.h"

namespace longlora {

ArenaTensor::ArenaTensor(ArenaTensor&& other) noexcept
    : arena_(std::exchange(other.arena_, nullptr)),
      view_(std::exchange(other.view_, Tensor{})) {}

ArenaTensor& ArenaTensor::operator=(ArenaTensor&& other) noexcept {
    if (this != &other) {
        release();
        arena_ = std::exchange(other.arena_, nullptr);
        view_ = std::exchange(other.view_, Tensor{});
    }
    return *this;
}

void ArenaTensor::release() {
    if (arena_) arena_->give_back(view_.bytes);
    arena_ = nullptr;
    view_ = {};
}

Arena::Arena(std::byte* base, std::int64_t capacity, std::string name)
    : base_(base),
      capacity_(capacity),
      name_(std::move(name)) {
    free_[0] = capacity;
}

ArenaTensor Arena::tensor(DType dtype, Shape shape, Use use) {
    constexpr std::int64_t kAlignment = 256;
    Tensor view(nullptr, dtype, shape);
    const std::int64_t bytes =
        std::max<std::int64_t>((view.size_bytes() + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
    auto hole = free_.begin();
    while (hole != free_.end() && hole->second < bytes) ++hole;
    if (hole == free_.end())
        fail(text(name_, " is too small: ", bytes_text(bytes), " more for ", name_of(use),
                  " do not fit in addition to the ", bytes_text(in_use_), " of ", bytes_text(capacity_),
                  " that are in use; take a shorter context or more ranks, or allow more with --memory"),
             ExitCode::does_not_fit);
    const auto [begin, room] = *hole;
    free_.erase(hole);
    if (room > bytes) free_[begin + bytes] = room - bytes;
    used_[begin] = {bytes, use, num_made_++};
    in_use_ += bytes;
    by_use_[static_cast<std::size_t>(use)] += bytes;
    high_water_ = std::max(high_water_, begin + bytes);
    if (in_use_ > peak_in_use_) {
        peak_in_use_ = in_use_;
        at_peak_ = by_use_;
    }
    view.bytes = base_ + begin;
    if (watcher_) watcher_->handed_out(view.bytes, view.size_bytes());
    return {this, view};
}

void Arena::give_back(std::byte* address) {
    const auto used = used_.find(address - base_);
    if (used == used_.end()) return;
    if (watcher_) watcher_->came_back(address);
    auto [begin, block] = *used;
    used_.erase(used);
    in_use_ -= block.bytes;
    by_use_[static_cast<std::size_t>(block.use)] -= block.bytes;
    std::int64_t bytes = block.bytes;
    auto next = free_.lower_bound(begin);
    if (next != free_.end() && begin + bytes == next->first) {
        bytes += next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        auto previous = std::prev(next);
        if (previous->first + previous->second == begin) {
            previous->second += bytes;
            return;
        }
    }
    free_[begin] = bytes;
}

Arena::Layout Arena::layout(std::int64_t num_older) const {
    Layout layout;
    std::vector<std::pair<std::int64_t, std::int64_t>> newer;  // number, begin
    for (const auto& [begin, block] : used_)
        if (block.number >= num_older) newer.emplace_back(block.number, begin);
    layout.num_older = static_cast<std::int64_t>(used_.size() - newer.size());
    std::sort(newer.begin(), newer.end());
    for (const auto& [number, begin] : newer) layout.newer.emplace_back(begin, used_.at(begin).bytes);
    return layout;
}

void Arena::reset_marks() {
    peak_in_use_ = in_use_;
    at_peak_ = by_use_;
    high_water_ = used_.empty() ? 0 : used_.rbegin()->first + used_.rbegin()->second.bytes;
}

}  // namespace longlora
