// Shared files: every block has one writer, the ranks together write every byte, and what is read back shows damage.
// The ranks are simulated here, with messages copied in memory; on real ranks tests/mpi and tests/faults/many_nodes.sh.
#include "io/shared_file.h"

#include <map>
#include <set>

#include "core/random.h"
#include "io/read_back.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

namespace {

constexpr std::int64_t kBlock = 64;  // a writer block of these tests

/// Tensors of odd sizes at odd places, without a file.
NamedTensorLayout odd_layout() {
    NamedTensorLayout layout;
    std::int64_t at = layout.own_bytes = 150;
    for (const std::int64_t bytes : {1, 700, 64, 3, 129, 2000, 5, 5}) {
        layout.entries.push_back({{text("t", at), DType::uint8, {bytes}}, at, 0});
        at += bytes + at % 3;
    }
    layout.file_bytes = at;
    return layout;
}

char byte_of(std::int64_t tensor, std::int64_t at) {
    return static_cast<char>(random_bits(5, static_cast<std::uint64_t>(tensor), static_cast<std::uint64_t>(at)));
}

/// Cuts each tensor at random places among random ranks.
std::vector<std::vector<FilePart>> random_parts(const NamedTensorLayout& layout, int num_ranks, std::uint64_t seed) {
    std::vector<std::vector<FilePart>> parts(num_ranks);
    for (std::size_t t = 0; t < layout.entries.size(); ++t) {
        const std::int64_t size = layout.entries[t].size_bytes();
        for (std::int64_t at = 0, n = 0; at < size; at += n) {
            const auto step = static_cast<std::uint64_t>(at);
            n = std::min(size - at, 1 + static_cast<std::int64_t>(random_below(300, seed, t, step)));
            parts[random_below(static_cast<std::uint64_t>(num_ranks), seed + 1000, t, step)].push_back(
                {static_cast<std::int64_t>(t), at, n});
        }
    }
    return parts;
}

struct Rank {
    SharedWrite plan;
    std::unique_ptr<SharedBytes> bytes;
};

/// Moves the messages of one round: what rank r sends to each rank, read from its parts.
void deliver(std::vector<Rank>& ranks, const std::vector<std::vector<FilePart>>& parts, std::size_t round,
             std::vector<std::int64_t>& arrived) {
    std::vector<std::vector<std::string>> messages(ranks.size(), std::vector<std::string>(ranks.size()));
    for (std::size_t from = 0; from < ranks.size(); ++from) {
        const SharedWrite::Round& mine = ranks[from].plan.rounds[round];
        std::string all;
        for (const PartPiece& piece : mine.sends)
            for (std::int64_t i = 0; i < piece.bytes; ++i)
                all += byte_of(parts[from][piece.part].tensor, parts[from][piece.part].begin + piece.begin + i);
        for (std::size_t to = 0, at = 0; to < ranks.size(); at += mine.bytes_to[to++])
            messages[to][from] = all.substr(at, mine.bytes_to[to]);
    }
    for (std::size_t to = 0; to < ranks.size(); ++to)
        for (std::size_t from = 0; from < ranks.size(); ++from) {
            const std::string& message = messages[to][from];
            BOOST_TEST(static_cast<std::int64_t>(message.size()) == ranks[to].plan.rounds[round].bytes_from[from]);
            std::copy(message.begin(), message.end(), ranks[to].bytes->received.begin() + arrived[to]);
            arrived[to] += static_cast<std::int64_t>(message.size());
        }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(shared_file)

BOOST_AUTO_TEST_CASE(each_block_has_one_writer_and_each_byte_is_written) {
    const NamedTensorLayout layout = odd_layout();
    for (int num_ranks = 1; num_ranks <= 5; ++num_ranks)
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
            const auto parts = random_parts(layout, num_ranks, seed);
            std::vector<Rank> ranks(num_ranks);
            for (int r = 0; r < num_ranks; ++r) {
                ranks[r].plan = plan_shared_write(layout, parts, r, kBlock);
                ranks[r].bytes = std::make_unique<SharedBytes>(ranks[r].plan);
                BOOST_TEST_REQUIRE(ranks[r].plan.rounds.size() == ranks[0].plan.rounds.size());
            }
            std::vector<std::int64_t> arrived(num_ranks, 0);
            for (std::size_t round = 0; round < ranks[0].plan.rounds.size(); ++round)
                deliver(ranks, parts, round, arrived);
            std::map<std::int64_t, std::set<int>> writers;  // of each block
            std::map<std::int64_t, int> times;              // each byte is written
            std::int64_t wrong = 0;
            for (int r = 0; r < num_ranks; ++r)
                for (const SharedWrite::Write& w : ranks[r].plan.writes)
                    for (std::int64_t i = 0; i < w.bytes; ++i) {
                        const std::int64_t place = layout.entries[w.tensor].offset + w.begin + i;
                        writers[place / kBlock].insert(r);
                        ++times[place];
                        const bool mine = w.part >= 0;
                        wrong += mine ? parts[r][w.part].tensor != w.tensor || parts[r][w.part].begin + w.at != w.begin
                                      : ranks[r].bytes->received[w.at + i] != byte_of(w.tensor, w.begin + i);
                    }
            std::int64_t bytes = 0;
            for (const TensorEntry& entry : layout.entries) bytes += entry.size_bytes();
            BOOST_TEST(wrong == 0);
            BOOST_TEST(static_cast<std::int64_t>(times.size()) == bytes);
            BOOST_TEST(std::ranges::all_of(times, [](const auto& entry) { return entry.second == 1; }));
            BOOST_TEST(std::ranges::all_of(writers, [](const auto& entry) { return entry.second.size() == 1; }));
            for (std::int64_t block = 0; block * kBlock < layout.own_bytes; ++block)
                BOOST_TEST((writers[block].empty() || *writers[block].begin() == 0));
        }
}

/// Many small shards: no rank writes much more than the others.
BOOST_AUTO_TEST_CASE(ranks_take_turns_in_small_shards) {
    NamedTensorLayout layout;
    layout.entries = {{{"t", DType::uint8, {160 * kBlock}}, 0, 0}};
    std::vector<std::vector<FilePart>> parts(8);
    for (std::int64_t at = 0; at < 160 * kBlock; at += kBlock / 16)
        parts[at / (kBlock / 16) % 8].push_back({0, at, kBlock / 16});
    for (int r = 0; r < 8; ++r) {
        std::int64_t bytes = 0;
        for (const SharedWrite::Write& w : plan_shared_write(layout, parts, r, kBlock).writes) bytes += w.bytes;
        BOOST_TEST(bytes == 20 * kBlock);
    }
}

/// Large shards: only the blocks at their ends travel.
BOOST_AUTO_TEST_CASE(little_travels_between_large_shards) {
    NamedTensorLayout layout;
    layout.entries = {{{"t", DType::uint8, {1000 * kBlock}}, 10, 0}};
    std::vector<std::vector<FilePart>> parts(4);
    for (std::int64_t r = 0; r < 4; ++r) parts[r] = {{0, r * 250 * kBlock, 250 * kBlock}};
    std::int64_t received = 0;
    for (int r = 0; r < 4; ++r) {
        const SharedWrite plan = plan_shared_write(layout, parts, r, kBlock);
        received += plan.received_bytes;
        BOOST_TEST(plan.writes.size() <= 3);
    }
    BOOST_TEST(received <= 3 * kBlock);
    BOOST_CHECK_THROW(plan_shared_write(layout, {{{0, 0, 5}}, {{0, 4, 5}}}, 0), std::logic_error);
}

/// What the file itself has lies at its front, so that rank 0 shares blocks with others nowhere else.
BOOST_AUTO_TEST_CASE(the_files_own_bytes_are_at_its_front) {
    Scratch scratch;
    for (const int num_tensors : {1, 9, 60, 400}) {
        std::vector<NamedTensor> tensors;
        std::int64_t bytes = 0;
        for (int t = 0; t < num_tensors; ++t) {
            tensors.push_back({text("moment1/model.layers.", t, ".self_attn.q_proj.lora_A.weight"),
                               DType::float32,
                               {t % 3 ? 200 : 30000}});
            bytes += tensors.back().size_bytes();
        }
        const NamedTensorLayout layout =
            create_named_tensor_file(scratch / "a.h5", "test file", 1, tensors, std::string(3001, 'a'));
        std::int64_t first = layout.file_bytes, gaps = layout.file_bytes - layout.own_bytes - bytes;
        for (const TensorEntry& entry : layout.entries) {
            first = std::min(first, entry.offset);
            BOOST_TEST(entry.checksums_offset < layout.own_bytes);
        }
        BOOST_TEST(first >= layout.own_bytes);
        // Only what is left over between pages and at the end of HDF5's pieces of memory for small tensors.
        BOOST_TEST(gaps <= 4096 * (num_tensors / 3 + 2) + 8192,
                   gaps << " bytes of gaps, " << num_tensors << " tensors");
        BOOST_TEST(layout.own_bytes <= 16384 + 1024 * num_tensors);
    }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(reading_back)

BOOST_AUTO_TEST_CASE(partners_are_on_other_nodes) {
    const auto check = [](const std::vector<int>& nodes, bool others) {
        const std::vector<int> partners = read_back_partners(nodes);
        BOOST_TEST(std::set<int>(partners.begin(), partners.end()).size() == nodes.size());
        for (std::size_t r = 0; r < nodes.size(); ++r) {
            BOOST_TEST((nodes.size() == 1 || partners[r] != static_cast<int>(r)));
            if (others) BOOST_TEST(nodes[partners[r]] != nodes[r]);
        }
    };
    check({0}, false);
    check({0, 0, 0}, false);
    check({0, 1}, true);
    check({0, 0, 2, 2}, true);
    check({0, 1, 0, 1, 0, 1}, true);
    check({7, 7, 7, 3, 3, 3, 5, 5}, true);
    check({0, 0, 0, 0, 4}, false);
}

BOOST_AUTO_TEST_CASE(samples_are_small_and_change) {
    std::vector<ChecksumPiece> written;
    for (std::int64_t i = 0; i < 400; ++i) written.push_back({0, i << 20, 1 << 20, 0, 0});
    BOOST_TEST(pieces_to_read(written, ReadBack::all, 0).size() == 400U);
    std::set<std::int64_t> seen;
    for (std::int64_t turn = 0; turn < 16; ++turn) {
        const auto chosen = pieces_to_read(written, ReadBack::sample, turn);
        BOOST_TEST((chosen.size() >= 24U && chosen.size() <= 26U));
        for (const ChecksumPiece& piece : chosen) seen.insert(piece.begin);
    }
    BOOST_TEST(seen.size() == 400U);
    written.resize(5);
    BOOST_TEST(pieces_to_read(written, ReadBack::sample, 3).size() == 5U);
    REFUSED("--verify is some; it must be sample or all", read_back_of("some", "--verify"));
}

BOOST_AUTO_TEST_CASE(damage_is_found) {
    Scratch scratch;
    const std::vector<NamedTensor> tensors = {{"w", DType::uint8, {3'000'000}}, {"b", DType::uint8, {10}}};
    const NamedTensorLayout layout = create_named_tensor_file(scratch / "a.h5", "test file", 1, tensors, "{}");
    std::vector<ChecksumPiece> pieces;
    {
        const FileHandle file = FileHandle::open_write(layout.path);
        for (std::int64_t t = 0; t < 2; ++t)
            write_slice(file, layout, t, 0, std::string(tensors[t].size_bytes(), 'x').data(), tensors[t].size_bytes(),
                        pieces);
        write_checksums(file, layout, pieces);
        file.sync();
    }
    read_back(layout, pieces);
    read_back_own(layout, "test file", 1, pieces);
    const auto with_byte_at = [&](std::int64_t place, const auto& check) {
        const std::string before = slurp(layout.path);
        std::string changed = before;
        changed[place] = static_cast<char>(changed[place] ^ 1);
        spill(layout.path, changed);
        check();
        spill(layout.path, before);
    };
    with_byte_at(layout.entries[0].offset + 1'100'000,
                 [&] { REFUSED("a.h5, w: its bytes 1048576 to 2097151 are other ones", read_back(layout, pieces)); });
    with_byte_at(layout.entries[0].checksums_offset + 5, [&] {
        REFUSED("a.h5: the checksums of w are not those", read_back_own(layout, "test file", 1, pieces));
    });
    with_byte_at(3, [&] { REFUSED("a.h5 is not an HDF5 file", read_back_own(layout, "test file", 1, pieces)); });
    std::filesystem::resize_file(layout.path, 2'000'000);
    REFUSED("its bytes 1048576 to 2097151", read_back(layout, pieces));
    std::filesystem::remove(layout.path);
    REFUSED("cannot open", read_back(layout, pieces));
}

BOOST_AUTO_TEST_SUITE_END()
