// CRC-32C (Castagnoli) of data, or combined from the checksums of its parts; and SHA-256, which identifies a file
// whatever its name is. Only sha256_of_file reads a file. The layout of checksums in our files is in
// io/block_checksums.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace longlora {

/// CRC-32C of `bytes` bytes. A stream may be fed in parts: `crc` is the checksum of the preceding parts, 0 for the
/// first.
std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t crc = 0);

/// CRC-32C of the concatenation of two streams, from the checksums `a` and `b` of both and the length of the second
/// in bytes.
std::uint32_t crc32c_combine(std::uint32_t a, std::uint32_t b, std::uint64_t length_b);

/// SHA-256 (FIPS 180-4), fed in parts.
class Sha256 {
public:
    void add(const void* data, std::size_t bytes);
    void add(std::string_view text) { add(text.data(), text.size()); }
    /// Returns 64 hexadecimal digits. The object must not be used afterwards.
    std::string finish();

private:
    void block(const unsigned char* p);
    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<unsigned char, 64> buffer_{};
    std::uint64_t length_ = 0;  // bytes fed so far
};

std::string sha256_of(std::string_view text);
/// SHA-256 of a whole file; an Error names the file if it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace longlora
