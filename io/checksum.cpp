// CRC-32C by the SSE4.2 instruction (x86-64-v3, which the program requires, includes it) and SHA-256 in plain C++.
#include "io/checksum.h"

#include <nmmintrin.h>

#include <bit>
#include <cstring>
#include <vector>

#include "io/file.h"

namespace longlora {

namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // Castagnoli, bits reversed
constexpr std::uint32_t kOne = 0x80000000u;        // x^0
constexpr std::size_t kLane = 4096;                // bytes of each of the three lanes of crc32c()

/// a * b modulo the polynomial. Bit 31 is the coefficient of x^0.
constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
    std::uint32_t product = 0;
    for (int i = 31; i >= 0; --i) {
        if ((a >> i) & 1u) product ^= b;
        b = (b >> 1) ^ ((b & 1u) ? kPolynomial : 0u);
    }
    return product;
}

/// x^(8n): what n zero bytes multiply a checksum by.
constexpr std::uint32_t power_of_bytes(std::uint64_t n) {
    std::uint32_t power = kOne, square = kOne >> 8;  // x^0, x^8
    for (; n; n >>= 1, square = multiply(square, square))
        if (n & 1u) power = multiply(power, square);
    return power;
}

std::uint64_t with_word(std::uint64_t state, const unsigned char* p) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    return _mm_crc32_u64(state, word);
}

}  // namespace

// The instruction has a result only after three cycles, so three lanes take turns.
std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t crc) {
    constexpr std::uint32_t lane_power = power_of_bytes(kLane);
    const auto* p = static_cast<const unsigned char*>(data);
    std::uint64_t state = ~crc;
    for (; bytes >= 3 * kLane; bytes -= 3 * kLane, p += 3 * kLane) {
        std::uint64_t second = 0, third = 0;
        for (std::size_t i = 0; i < kLane; i += 8) {
            state = with_word(state, p + i);
            second = with_word(second, p + kLane + i);
            third = with_word(third, p + 2 * kLane + i);
        }
        const std::uint32_t two =
            multiply(static_cast<std::uint32_t>(state), lane_power) ^ static_cast<std::uint32_t>(second);
        state = multiply(two, lane_power) ^ static_cast<std::uint32_t>(third);
    }
    for (; bytes >= 8; bytes -= 8, p += 8) state = with_word(state, p);
    auto narrow = static_cast<std::uint32_t>(state);
    for (; bytes; --bytes, ++p) narrow = _mm_crc32_u8(narrow, *p);
    return ~narrow;
}

std::uint32_t crc32c_combine(std::uint32_t a, std::uint32_t b, std::uint64_t length_b) {
    // The inversions before and after cancel between a and b.
    return multiply(a, power_of_bytes(length_b)) ^ b;
}

namespace {

constexpr std::array<std::uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t big_endian(const unsigned char* p) {
    return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | std::uint32_t{p[3]};
}

}  // namespace

void Sha256::block(const unsigned char* p) {
    std::array<std::uint32_t, 64> w;
    for (std::size_t i = 0; i < 16; ++i) w[i] = big_endian(p + 4 * i);
    for (std::size_t i = 16; i < 64; ++i) {
        const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
        const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t i = 0; i < 64; ++i) {
        const std::uint32_t t1 =
            h + (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
        const std::uint32_t t2 =
            (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    const std::array<std::uint32_t, 8> sum = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += sum[i];
}

void Sha256::add(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(data);
    std::size_t held = length_ % 64;
    length_ += bytes;
    while (bytes) {
        if (held == 0 && bytes >= 64) {
            block(p);
            p += 64, bytes -= 64;
            continue;
        }
        const std::size_t n = std::min(bytes, 64 - held);
        std::memcpy(buffer_.data() + held, p, n);
        p += n, bytes -= n, held += n;
        if (held == 64) block(buffer_.data()), held = 0;
    }
}

std::string Sha256::finish() {
    const std::uint64_t bits = length_ * 8;
    const unsigned char one = 0x80, zero = 0;
    add(&one, 1);
    while (length_ % 64 != 56) add(&zero, 1);
    std::array<unsigned char, 8> tail;
    for (std::size_t i = 0; i < 8; ++i) tail[i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
    add(tail.data(), 8);
    std::string hex;
    for (std::uint32_t word : state_)
        for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[(word >> shift) & 15u];
    return hex;
}

std::string sha256_of(std::string_view text) {
    Sha256 hash;
    hash.add(text);
    return hash.finish();
}

std::string sha256_of_file(const std::string& path) {
    const FileHandle file = FileHandle::open_read(path);
    std::vector<char> buffer(1 << 20);
    Sha256 hash;
    std::int64_t offset = 0;
    while (const std::int64_t n = file.read_some(buffer.data(), buffer.size(), offset)) {
        hash.add(buffer.data(), n);
        offset += n;
    }
    return hash.finish();
}

}  // namespace longlora
