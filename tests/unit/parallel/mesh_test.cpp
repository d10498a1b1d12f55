// The arithmetic of the mesh: ranks and coordinates, and how totals are divided into parts.
#include "parallel/mesh.h"

#include <boost/test/unit_test.hpp>

using namespace longlora::parallel;

namespace {

constexpr bool round_trips(MeshShape shape) {
    int rank = 0;
    for (int p = 0; p < shape.pipeline; ++p)
        for (int d = 0; d < shape.data; ++d)
            for (int s = 0; s < shape.sequence; ++s, ++rank)  // sequence fastest
                if (rank_of(shape, {p, d, s}) != rank || !(coordinate_of(shape, rank) == MeshCoordinate{p, d, s}))
                    return false;
    return rank == shape.num_ranks();
}
static_assert(round_trips({1, 1, 1}) && round_trips({2, 3, 4}) && round_trips({5, 1, 2}) && round_trips({1, 7, 1}) &&
              round_trips({1, 1, 8}));
static_assert(coordinate_of({2, 2, 2}, 1) == MeshCoordinate{0, 0, 1} &&
              coordinate_of({2, 2, 2}, 6) == MeshCoordinate{1, 1, 0});

constexpr bool shards_tile(std::int64_t total, int parts) {
    std::int64_t begin = 0;
    for (int i = 0; i < parts; ++i) {
        const Shard shard = shard_of(total, i, parts);
        if (shard.begin != begin || shard.count < 0 || shard.count > shard_of(total, 0, parts).count) return false;
        begin += shard.count;
    }
    return begin == total;
}
static_assert(shards_tile(0, 1) && shards_tile(1, 4) && shards_tile(7, 3) && shards_tile(10, 4) &&
              shards_tile(1000003, 64));

constexpr bool deals_tile(std::int64_t total, int parts) {
    std::int64_t begin = 0;
    for (int i = 0; i < parts; ++i) {
        const Shard deal = even_share_of(total, i, parts);
        if (deal.begin != begin || (deal.count != total / parts && deal.count != (total + parts - 1) / parts))
            return false;
        begin += deal.count;
    }
    return begin == total;
}
static_assert(deals_tile(0, 3) && deals_tile(1, 4) && deals_tile(7, 3) && deals_tile(64, 48) &&
              deals_tile(1000003, 64));

}  // namespace

BOOST_AUTO_TEST_SUITE(mesh)

BOOST_AUTO_TEST_CASE(parts_tile_every_total) {
    for (std::int64_t total = 0; total <= 130; ++total)
        for (int parts = 1; parts <= 17; ++parts)
            BOOST_CHECK_MESSAGE(shards_tile(total, parts) && deals_tile(total, parts), total << " in " << parts);
}

BOOST_AUTO_TEST_CASE(shards_are_full_chunks_then_a_rest_then_nothing) {
    BOOST_CHECK_EQUAL(shard_of(10, 0, 4).count, 3);
    BOOST_CHECK_EQUAL(shard_of(10, 2, 4).count, 3);
    BOOST_CHECK_EQUAL(shard_of(10, 3, 4).begin, 9);
    BOOST_CHECK_EQUAL(shard_of(10, 3, 4).count, 1);
    BOOST_CHECK_EQUAL(shard_of(5, 3, 4).count, 0);  // chunks of 2: 2 2 1 0
    BOOST_CHECK_EQUAL(shard_of(5, 3, 4).begin, 5);
}

BOOST_AUTO_TEST_SUITE_END()
