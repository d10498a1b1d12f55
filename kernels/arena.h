// Arena: all of a device's (or all pinned host) memory in one reserved address range, handed out first-fit, given back
// at scope end, with a high-water mark by use. Not thread-safe: the main thread allocates. It never touches the memory
// itself.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/tensor.h"

namespace longlora {

/// What memory is for; the rows of the table that `plan` and the end of a run print.
enum class Use : std::uint8_t { weights, masters, moments, gradients, activations, workspace, exchange, batch };
constexpr int kNumUses = 8;
constexpr std::string_view name_of(Use use) {
    constexpr std::string_view names[] = {"weights",     "masters",   "moments",  "gradients",
                                          "activations", "workspace", "exchange", "batch"};
    return names[static_cast<int>(use)];
}

class Arena;

/// Owns a piece of an arena and shows it as a tensor. Move-only. It may be released while work that uses it is still
/// queued on the compute stream (later users of the same bytes queue behind it); any other stream must have been waited
/// for.
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

/// Learns of every tensor that an arena hands out and gets back, as tools that check accesses want to know. bytes: the
/// tensor's own, without what rounds them up.
class ArenaWatcher {
public:
    virtual ~ArenaWatcher() = default;
    virtual void handed_out(const std::byte* begin, std::int64_t bytes) = 0;
    virtual void came_back(const std::byte* begin) = 0;
};

class Arena {
public:
    /// Hands out [base, base + capacity); `name` is for messages ("device memory").
    Arena(std::byte* base, std::int64_t capacity, std::string name);
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    /// Who is told from now on; nullptr: nobody. It outlives what is handed out.
    void set_watcher(ArenaWatcher* watcher) { watcher_ = watcher; }

    /// Uninitialised memory, 256-byte aligned. Throws Error(does_not_fit) naming use, size and what is in use when
    /// nothing fits.
    ArenaTensor tensor(DType dtype, Shape shape, Use use);

    std::int64_t capacity() const { return capacity_; }
    std::int64_t in_use_bytes() const { return in_use_; }
    /// The highest address ever handed out, from base: what the device must have (fragmentation included).
    std::int64_t high_water_bytes() const { return high_water_; }
    /// Bytes in use by each Use at the moment when the most was in use.
    const std::array<std::int64_t, kNumUses>& at_peak() const { return at_peak_; }
    /// Forgets the marks so far, so that a phase can be measured by itself; what is in use stays.
    void reset_marks();

private:
    friend class ArenaTensor;
    void give_back(std::byte* address);
    struct Block {
        std::int64_t bytes;
        Use use;
    };
    std::byte* base_;
    std::int64_t capacity_, in_use_ = 0, high_water_ = 0, peak_in_use_ = 0;
    std::string name_;
    ArenaWatcher* watcher_ = nullptr;
    std::map<std::int64_t, std::int64_t> free_;  // begin -> bytes, coalesced
    std::map<std::int64_t, Block> used_;         // begin -> block
    std::array<std::int64_t, kNumUses> by_use_{}, at_peak_{};
};

}  // namespace longlora
