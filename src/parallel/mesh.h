// Mesh: ranks as pipeline x data x sequence, where the sequence coordinate changes fastest, so that the ranks of one
// sequence share a node. Arithmetic only; communicators of the axes are in parallel/mesh_communicators.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace longlora::parallel {

struct MeshShape {
    int pipeline = 1, data = 1, sequence = 1;
    constexpr int num_ranks() const { return pipeline * data * sequence; }
    bool operator==(const MeshShape&) const = default;
};

struct MeshCoordinate {
    int pipeline = 0, data = 0, sequence = 0;
    bool operator==(const MeshCoordinate&) const = default;
};

constexpr MeshCoordinate coordinate_of(MeshShape shape, int rank) {
    return {rank / (shape.data * shape.sequence), rank / shape.sequence % shape.data, rank % shape.sequence};
}
constexpr int rank_of(MeshShape shape, MeshCoordinate at) {
    return (at.pipeline * shape.data + at.data) * shape.sequence + at.sequence;
}

/// The mesh of `ranks` ranks with the given numbers of stages and of ranks per sequence. The number of data ranks
/// follows. Throws an Error if the product does not divide `ranks`.
inline MeshShape mesh_shape_of(int ranks, std::int64_t pipeline, std::int64_t sequence) {
    require(pipeline >= 1 && sequence >= 1 && ranks % (pipeline * sequence) == 0, "--pipeline ", pipeline,
            " x --sequence ", sequence, " does not divide the ", ranks, " rank(s) of this job; start a multiple of ",
            pipeline * sequence, " ranks, or take other degrees");
    return {static_cast<int>(pipeline), static_cast<int>(ranks / (pipeline * sequence)), static_cast<int>(sequence)};
}

/// Part of a flat or leading dimension.
struct Shard {
    std::int64_t begin = 0, count = 0;
    constexpr std::int64_t end() const { return begin + count; }
    bool operator==(const Shard&) const = default;
};

/// Part `part` of equal chunks of ceil(total / parts); the last chunks are shorter or empty.
constexpr Shard shard_of(std::int64_t total, int part, int parts) {
    const std::int64_t chunk = (total + parts - 1) / parts, begin = std::min(total, chunk * part);
    return {begin, std::min(chunk, total - begin)};
}

/// Part `part` of parts that have floor(total / parts) or ceil(total / parts) elements and may be empty. So the
/// sequences of a global batch are distributed to data ranks and the tokens of a sequence to sequence ranks.
constexpr Shard even_share_of(std::int64_t total, int part, int parts) {
    const std::int64_t begin = total * part / parts;
    return {begin, total * (part + 1) / parts - begin};
}

}  // namespace longlora::parallel
