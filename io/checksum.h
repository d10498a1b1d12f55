// CRC-32C (Castagnoli) of bytes, put together from pieces, and SHA-256 for knowing files by their content. Pure
// arithmetic: no files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace longlora {

/// CRC-32C of `bytes` bytes; `crc` is the checksum of what came before (0 at the beginning), so a stream may be fed in
/// parts.
std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t crc = 0);

/// CRC-32C of a followed by b, from the checksums of both and the length of b in bytes.
std::uint32_t crc32c_combine(std::uint32_t a, std::uint32_t b, std::uint64_t length_b);

/// SHA-256 (FIPS 180-4), fed in parts.
class Sha256 {
public:
    void add(const void* data, std::size_t bytes);
    void add(std::string_view text) { add(text.data(), text.size()); }
    /// 64 hexadecimal digits; the object must not be used afterwards.
    std::string finish();

private:
    void block(const unsigned char* p);
    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<unsigned char, 64> buffer_{};
    std::uint64_t length_ = 0;  // bytes fed so far
};

std::string sha256_of(std::string_view text);
/// Of a whole file; an Error names it if it cannot be read.
std::string sha256_of_file(const std::string& path);

}  // namespace longlora
