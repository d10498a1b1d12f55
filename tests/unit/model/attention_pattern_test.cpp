// Tests the windows of attention patterns against an independent brute force, which writes out groups as lists of
// tokens and documents as labels; and the copy of windows to a device.
#include <boost/test/unit_test.hpp>
#include <set>

#include "config_testing.h"
#include "model/attention_pattern.h"

using namespace longlora;
using config_testing::refuses;

namespace {

using Groups = std::vector<std::vector<std::int64_t>>;

/// Cuts tokens 0 .. n-1 into a first group of `first` tokens (of `group` if `first` is 0) and further groups of
/// `group` tokens; the last one may be shorter.
Groups cut(std::int64_t n, std::int64_t first, std::int64_t group) {
    Groups groups;
    std::int64_t room = 0;
    for (std::int64_t t = 0; t < n; ++t) {
        if (room == 0) {
            groups.emplace_back();
            room = t == 0 && first > 0 ? first : group;
        }
        groups.back().push_back(t);
        --room;
    }
    return groups;
}

/// The keys that each query sees: those of its own group and document that do not come after it.
std::vector<std::set<std::int64_t>> visible(const Groups& groups, std::int64_t n,
                                            const std::vector<std::int64_t>& document_begin) {
    std::vector<int> label(n, 0);
    for (std::int64_t t = 0; t < n; ++t)
        for (const std::int64_t begin : document_begin) label[t] += begin > 0 && t >= begin;
    std::vector<std::set<std::int64_t>> keys(n);
    for (const auto& group : groups)
        for (const std::int64_t query : group)
            for (const std::int64_t key : group)
                if (key <= query && label[key] == label[query]) keys[query].insert(key);
    return keys;
}

Groups groups_of(const AttentionPattern& pattern, int variant, bool shifted_head, std::int64_t n) {
    const std::int64_t g = pattern.group;
    switch (pattern.kind) {
        case AttentionKind::dense:
            return cut(n, 0, n);
        case AttentionKind::shifted:
            return cut(n, shifted_head ? g / 2 : 0, g);
        case AttentionKind::plain:
            return cut(n, 0, g);
        case AttentionKind::shifted_only:
            return cut(n, g / 2, g);
        case AttentionKind::layers:
            return cut(n, variant ? g / 2 : 0, g);
        case AttentionKind::sliding:
            break;
    }
    return {};
}

void compare(const AttentionPattern& pattern, std::int64_t n, std::int64_t heads,
             const std::vector<std::int64_t>& documents) {
    for (int variant = 0; variant < num_window_variants(pattern); ++variant) {
        const HostWindows windows = make_windows(pattern, variant, n, heads, documents);
        for (std::int64_t head = 0; head < heads; ++head) {
            const auto& first = windows.first_key[head < windows.num_plain_heads ? 0 : 1];
            const auto keys = visible(groups_of(pattern, variant, head >= heads / 2, n), n, documents);
            BOOST_REQUIRE(static_cast<std::int64_t>(first.size()) == n);
            for (std::int64_t t = 0; t < n; ++t) {
                std::set<std::int64_t> ours;
                for (std::int64_t key = first[t]; key <= t; ++key) ours.insert(key);
                BOOST_REQUIRE_MESSAGE(ours == keys[t], name_of(pattern.kind)
                                                           << " variant " << variant << " G " << pattern.group << " N "
                                                           << n << " head " << head << " t " << t);
            }
        }
        for (const auto& first : windows.first_key)
            for (std::int64_t t = 0; t < n; ++t) BOOST_REQUIRE(first[t] >= (t ? first[t - 1] : 0) && first[t] <= t);
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(attention_pattern)

BOOST_AUTO_TEST_CASE(windows_are_the_groups_written_out) {
    for (const AttentionKind kind : {AttentionKind::dense, AttentionKind::shifted, AttentionKind::plain,
                                     AttentionKind::shifted_only, AttentionKind::layers})
        for (const std::int64_t group : {1, 2, 3, 4, 5, 7, 8, 50})
            for (const std::int64_t n : {1, 2, 3, 5, 8, 16, 17, 33})
                for (const std::int64_t heads : {1, 2, 9}) {
                    compare({kind, group}, n, heads, {});
                    compare({kind, group}, n, heads, {-3, 0, 1, 6, 6, 15, 40});
                    compare({kind, group}, n, heads, {4});
                }
}

BOOST_AUTO_TEST_CASE(sliding_sees_the_last_keys) {
    for (const std::int64_t window : {1, 2, 5, 100})
        for (const std::int64_t n : {1, 7, 30}) {
            const HostWindows plain = make_windows({AttentionKind::sliding, window}, 0, n, 4);
            const HostWindows cut_off =
                make_windows({AttentionKind::sliding, window}, 0, n, 4, std::vector<std::int64_t>{0, 6});
            BOOST_TEST(plain.num_plain_heads == 4);
            for (std::int64_t t = 0; t < n; ++t) {
                BOOST_TEST(t - plain.first_key[0][t] + 1 == std::min(window, t + 1));
                BOOST_TEST(t - cut_off.first_key[0][t] + 1 == std::min(window, (t >= 6 ? t - 6 : t) + 1));
            }
        }
}

BOOST_AUTO_TEST_CASE(the_published_geometry) {
    // N 8192, G 2048: groups of shifted heads begin half a group later. The first and the last half group are groups
    // of their own; nothing wraps around.
    const HostWindows w = make_windows({AttentionKind::shifted, 2048}, 0, 8192, 32);
    BOOST_TEST(w.num_plain_heads == 16);
    BOOST_TEST(w.first_key[0][2047] == 0);
    BOOST_TEST(w.first_key[0][2048] == 2048);
    BOOST_TEST(w.first_key[1][1023] == 0);
    BOOST_TEST(w.first_key[1][1024] == 1024);
    BOOST_TEST(w.first_key[1][3071] == 1024);
    BOOST_TEST(w.first_key[1][3072] == 3072);
    BOOST_TEST(w.first_key[1][8191] == 7168);
    BOOST_TEST(make_windows({AttentionKind::shifted, 4}, 0, 8, 9).num_plain_heads == 4);
}

BOOST_AUTO_TEST_CASE(variants_and_names) {
    BOOST_TEST(num_window_variants({AttentionKind::layers, 4}) == 2);
    BOOST_TEST(num_window_variants({AttentionKind::shifted, 4}) == 1);
    BOOST_TEST(window_variant({AttentionKind::layers, 4}, 5) == 1);
    BOOST_TEST(window_variant({AttentionKind::layers, 4}, 6) == 0);
    BOOST_TEST(window_variant({AttentionKind::shifted, 4}, 5) == 0);
    for (const char* name : {"dense", "shifted", "plain", "shifted-only", "layers", "sliding"})
        BOOST_TEST(name_of(attention_kind(name)) == name);
    refuses([] { attention_kind("ring"); }, {"ring", "dense", "shifted-only", "sliding"});
    refuses([] { make_windows({AttentionKind::shifted, 0}, 0, 8, 2); }, {"shifted", "group"});
    refuses([] { make_windows({AttentionKind::plain, 2}, 0, 0, 2); }, {"context"});
    refuses([] { make_windows({AttentionKind::plain, 2}, 0, std::int64_t{1} << 31, 2); }, {"context"});
    BOOST_CHECK_NO_THROW(make_windows({AttentionKind::dense, 0}, 0, 8, 2));
}

BOOST_AUTO_TEST_CASE(windows_are_copied_to_a_device) {
    const auto device = make_cpu_device({.memory_bytes = 64 << 20, .num_threads = 1, .instruction_set = ""});
    const HostWindows host = make_windows({AttentionKind::shifted, 6}, 0, 21, 4);
    DeviceWindows first(*device, host);
    const DeviceWindows windows = std::move(first);  // the arrays that it points to must move with it
    const Windows& w = *windows;
    BOOST_TEST(w.num_tokens() == 21);
    BOOST_TEST(w.num_plain_heads == 2);
    BOOST_TEST(device->pinned().in_use_bytes() == 0);
    const ArenaTensor back = device->pinned().tensor(DType::int32, {2, 21}, Use::batch);
    device->copy_to_host(back, w.first_key, Device::compute_stream());
    device->synchronize(Device::compute_stream());
    for (int row = 0; row < 2; ++row)
        for (std::int64_t t = 0; t < 21; ++t) {
            BOOST_TEST(back->rows(row, 1).data<std::int32_t>()[t] == host.first_key[row][t]);
            BOOST_TEST(w.host[row][t] == host.first_key[row][t]);
        }
}

BOOST_AUTO_TEST_CASE(bad_windows_are_internal_errors) {
    const auto device = make_plan_device({.memory_bytes = 1 << 20, .num_threads = 1, .instruction_set = ""});
    HostWindows future = make_windows({AttentionKind::plain, 4}, 0, 8, 2);
    future.first_key[1] = std::vector<std::int32_t>{0, 0, 0, 0, 4, 6, 6, 6};
    BOOST_CHECK_THROW(DeviceWindows(*device, future), std::logic_error);
    HostWindows falling = make_windows({AttentionKind::plain, 4}, 0, 8, 2);
    falling.first_key[0] = std::vector<std::int32_t>{0, 0, 0, 0, 4, 4, 3, 4};
    BOOST_CHECK_THROW(DeviceWindows(*device, falling), std::logic_error);
    // The copy to a plan device must not touch its memory.
    BOOST_CHECK_NO_THROW(DeviceWindows(*device, make_windows({AttentionKind::plain, 4}, 0, 8, 2)));
}

BOOST_AUTO_TEST_SUITE_END()
