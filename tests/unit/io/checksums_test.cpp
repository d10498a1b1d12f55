// CRC-32C and SHA-256 against published values and a bit-by-bit loop; block checksums that are cut, joined and
// verified.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/random.h"
#include "io/block_checksums.h"
#include "io/checksum.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(checksums)

static std::uint32_t slow_crc(const std::string& bytes) {
    std::uint32_t crc = 0xffffffffu;
    for (unsigned char byte : bytes) {
        crc ^= byte;
        for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1u) ? 0x82f63b78u : 0u);
    }
    return ~crc;
}

static std::string random_bytes(std::int64_t n, std::uint64_t seed) {
    std::string bytes(static_cast<std::size_t>(n), '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(random_bits(seed, 1, i));
    return bytes;
}

BOOST_AUTO_TEST_CASE(crc32c_of_published_texts) {
    BOOST_TEST(crc32c("123456789", 9) == 0xe3069283u);                    // the check value of CRC-32C
    BOOST_TEST(crc32c(std::string(32, '\0').data(), 32) == 0x8a9136aau);  // RFC 3720, B.4
    BOOST_TEST(crc32c("", 0) == 0u);
}

BOOST_AUTO_TEST_CASE(crc32c_equals_a_plain_loop_and_combines_at_every_cut) {
    for (std::int64_t n : {0, 1, 7, 8, 9, 63, 200}) {
        const std::string bytes = random_bytes(n, 5);
        const std::uint32_t whole = crc32c(bytes.data(), bytes.size());
        BOOST_TEST(whole == slow_crc(bytes));
        for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
            const std::uint32_t a = crc32c(bytes.data(), cut), b = crc32c(bytes.data() + cut, bytes.size() - cut);
            BOOST_TEST(crc32c_combine(a, b, bytes.size() - cut) == whole);
            BOOST_TEST(crc32c(bytes.data() + cut, bytes.size() - cut, a) == whole);
        }
    }
    const std::string big = random_bytes(3'000'001, 6);
    BOOST_TEST(crc32c_combine(crc32c(big.data(), 17), crc32c(big.data() + 17, big.size() - 17), big.size() - 17) ==
               crc32c(big.data(), big.size()));
}

BOOST_AUTO_TEST_CASE(sha256_of_published_texts) {
    BOOST_TEST(sha256_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    BOOST_TEST(sha256_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    BOOST_TEST(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    Sha256 parts;
    const std::string million(1'000'000, 'a');
    for (std::size_t at = 0, step = 1; at < million.size(); at += step, step = step % 200 + 1)
        parts.add(million.data() + at, std::min(step, million.size() - at));
    BOOST_TEST(parts.finish() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

BOOST_AUTO_TEST_CASE(pieces_of_any_cut_give_the_block_checksums) {
    const std::int64_t size = 3 * kChecksumBlock + 12345;
    const std::string bytes = random_bytes(size, 7);
    for (std::uint64_t trial = 0; trial < 6; ++trial) {
        std::vector<std::int64_t> cuts{0, size};
        for (std::uint64_t i = 0; i < 9 * trial; ++i)
            cuts.push_back(static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(size), 8, trial, i)));
        std::sort(cuts.begin(), cuts.end());
        std::vector<ChecksumPiece> pieces;
        for (std::size_t i = cuts.size() - 1; i > 0; --i)  // the last one first: the order does not matter
            append_checksum_pieces(pieces, 1, cuts[i - 1], bytes.data() + cuts[i - 1], cuts[i] - cuts[i - 1]);
        const auto blocks = combine_checksum_pieces(unpack_pieces(pack_pieces(pieces)), {0, size, 0});
        BOOST_TEST(blocks.size() == 3u);
        BOOST_TEST(blocks[0].empty());
        for (std::int64_t b = 0; b < 4; ++b) {
            const auto n = static_cast<std::size_t>(std::min(kChecksumBlock, size - b * kChecksumBlock));
            BOOST_TEST(blocks[1][static_cast<std::size_t>(b)] == crc32c(bytes.data() + b * kChecksumBlock, n));
        }
    }
}

BOOST_AUTO_TEST_CASE(pieces_that_overlap_or_leave_holes_are_internal_errors) {
    const std::string bytes = random_bytes(100, 9);
    std::vector<ChecksumPiece> pieces;
    append_checksum_pieces(pieces, 0, 0, bytes.data(), 50);
    BOOST_CHECK_THROW(combine_checksum_pieces(pieces, {100}), std::logic_error);
    append_checksum_pieces(pieces, 0, 49, bytes.data(), 51);
    BOOST_CHECK_THROW(combine_checksum_pieces(pieces, {100}), std::logic_error);
    BOOST_CHECK_THROW(combine_checksum_pieces(pieces, {}), std::logic_error);
}

BOOST_AUTO_TEST_CASE(verified_reads_give_the_slice_or_name_the_block) {
    const std::int64_t size = 2 * kChecksumBlock + 777;
    std::string bytes = random_bytes(size, 10);
    std::vector<ChecksumPiece> pieces;
    append_checksum_pieces(pieces, 0, 0, bytes.data(), size);
    const auto sums = combine_checksum_pieces(pieces, {size})[0];
    const auto fetch = [&](void* out, std::int64_t n, std::int64_t at) {
        std::memcpy(out, bytes.data() + at, static_cast<std::size_t>(n));
    };
    const auto read = [&](std::int64_t begin, std::int64_t n) {
        std::string out(static_cast<std::size_t>(n), '\0');
        read_verified(fetch, sums, size, begin, n, out.data(), "the thing");
        return out;
    };
    for (auto [begin, n] : {std::pair<std::int64_t, std::int64_t>{0, size},
                            {5, 0},
                            {size, 0},
                            {kChecksumBlock - 3, 7},
                            {size - 1, 1},
                            {100, kChecksumBlock * 2}})
        BOOST_TEST((read(begin, n) == bytes.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(n))));
    bytes[kChecksumBlock + 5] ^= 1;
    BOOST_TEST(read(0, kChecksumBlock).size() == static_cast<std::size_t>(kChecksumBlock));
    REFUSED("the thing is damaged: the checksum of its bytes 1048576 to 2097151", read(kChecksumBlock - 1, 2));
    REFUSED("the thing", read(2 * kChecksumBlock - 1, 1));
}

BOOST_AUTO_TEST_SUITE_END()
