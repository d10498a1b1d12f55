// Counter-based random numbers: a pure function of (seed, stream, index), so that no state has to be saved and any
// rank can compute any element. Uses SplitMix64's finaliser (Steele, Lea, Flood 2014) over the three words. Not for
// cryptography.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace longlora {

constexpr std::uint64_t mix64(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/// FNV-1a of a name, which serves as a stream.
constexpr std::uint64_t stream_of(std::string_view name) {
    std::uint64_t h = 0xcbf29ce484222325ull;
    for (char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    return h;
}

constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    return mix64(mix64(mix64(seed) ^ stream) ^ index);
}

/// Uniform in [0, 1), 53 bits.
constexpr double random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    return static_cast<double>(random_bits(seed, stream, index) >> 11) * 0x1p-53;
}

/// Standard normal by Box-Muller. Element i uses the counters 2i and 2i + 1.
inline double random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    const double u = 1.0 - random_uniform(seed, stream, 2 * index), v = random_uniform(seed, stream, 2 * index + 1);
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
}

/// Uniform integer in [0, n), n > 0. The bias of the multiplication is below n / 2^64.
constexpr std::uint64_t random_below(std::uint64_t n, std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(random_bits(seed, stream, index)) * n) >> 64);
}

}  // namespace longlora
