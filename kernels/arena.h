// Arena: all memory of a device, or all pinned host memory, in one reserved address range. It hands out tensors
// first-fit, takes them back at the end of their scope, and remembers the peak by use. It is not thread-safe: only
// the main thread allocates. It never touches the memory itself.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace longlora {

/// What memory is for. These are the rows of the table that `plan` and the end of a run print.
enum class Use : std::uint8_t { weights, masters, moments, gradients, activations, workspace, exchange, batch };
constexpr int kNumUses = 8;
constexpr std::string_view name_of(Use use) {
    constexpr std::string_view names[] = {"weights",     "masters",   "moments",  "gradients",
                                          "activations", "workspace", "exchange", "batch"};
    return names[static_cast<int>(use)];
}

class Arena;

/// Owns a piece of an arena and shows it as a tensor. Move-only. The owner may release it while work that uses it is
/// still in the compute stream, since later users of the same bytes are queued after that work. The owner must first
/// wait for any other stream that uses it.
class ArenaTensor {
public:
    ArenaTensor() = default;
    ArenaTensor(ArenaTensor&& other) noexcept;
    ArenaTensor& operator=(ArenaTensor&& other) noexcept;
    ~ArenaTensor() { release(); }

    void release();
    explicit operator bool() const { return static_cast<bool>(view_); }
    operator const Tensor&() const { return view_; }
    operator ConstTensor() const { return view_; }
    const Tensor& operator*() const { return view_; }
    const Tensor* operator->() const { return &view_; }

private:
    friend class Arena;
    ArenaTensor(Arena* arena, Tensor view) : arena_(arena), view_(view) {}
    Arena* arena_ = nullptr;
    Tensor view_;
};

/// An arena calls its watcher for every tensor that it hands out and takes back. Tools that check accesses need this.
/// bytes is the size of the tensor itself, not rounded up.
class ArenaWatcher {
public:
    virtual ~ArenaWatcher() = default;
    virtual void handed_out(const std::byte* begin, std::int64_t bytes) = 0;
    virtual void came_back(const std::byte* begin) = 0;
};

class Arena {
public:
    /// Hands out [base, base + capacity). `name` is for messages, such as "device memory".
    Arena(std::byte* base, std::int64_t capacity, std::string name);
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    /// The arena calls this watcher from now on; nullptr: none. The watcher must outlive the tensors.
    void set_watcher(ArenaWatcher* watcher) { watcher_ = watcher; }

    /// Returns uninitialised memory, aligned to 256 bytes. If no hole is large enough, throws Error(does_not_fit)
    /// that names the use, the size and how much is in use.
    ArenaTensor tensor(DType dtype, Shape shape, Use use);

    std::int64_t capacity() const { return capacity_; }
    std::int64_t in_use_bytes() const { return in_use_; }
    /// The end of the highest tensor ever handed out, in bytes from base. The device must have so much memory, since
    /// holes between tensors count.
    std::int64_t high_water_bytes() const { return high_water_; }
    /// Bytes in use by each Use at the moment when most bytes were in use.
    const std::array<std::int64_t, kNumUses>& at_peak() const { return at_peak_; }
    /// How many tensors have been made so far.
    std::int64_t num_made() const { return num_made_; }
    /// The tensors in use: how many of the first `num_older` ones, and the places (begin, bytes) of the others, in the
    /// order in which they were made. If the older ones are as many as before, they are the same.
    struct Layout {
        std::int64_t num_older = 0;
        std::vector<std::pair<std::int64_t, std::int64_t>> newer;
        bool operator==(const Layout&) const = default;
    };
    Layout layout(std::int64_t num_older) const;
    /// Forgets the peak and the high water, so that a phase can be measured by itself. Tensors in use stay.
    void reset_marks();

private:
    friend class ArenaTensor;
    void give_back(std::byte* address);
    struct Block {
        std::int64_t bytes;
        Use use;
        std::int64_t number;  // of tensors made before
    };
    std::byte* base_;
    std::int64_t num_made_ = 0;
    std::int64_t capacity_, in_use_ = 0, high_water_ = 0, peak_in_use_ = 0;
    std::string name_;
    ArenaWatcher* watcher_ = nullptr;
    std::map<std::int64_t, std::int64_t> free_;  // begin -> bytes; neighbouring holes are joined
    std::map<std::int64_t, Block> used_;         // begin -> block
    std::array<std::int64_t, kNumUses> by_use_{}, at_peak_{};
};

}  // namespace longlora
