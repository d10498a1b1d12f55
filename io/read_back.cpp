// Opens the file again for each try: on NFS a node learns what others wrote when it opens a file, after they closed it.
#include "io/read_back.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/host.h"
#include "io/checksum.h"

namespace longlora {

namespace {

constexpr std::int64_t kLeastSample = std::int64_t{8} << 20;  // bytes that a rank reads, unless there are fewer
constexpr std::int64_t kPartOfSample = 16;                    // the part of larger files is 1 / kPartOfSample

FileHandle open_uncached(const std::string& path) {
    FileHandle file = FileHandle::open_read(path);
    file.forget_cached();
    return file;
}

bool reads_the_same(const NamedTensorLayout& layout, const ChecksumPiece& piece, const FileHandle& file,
                    std::vector<char>& scratch) {
    scratch.resize(piece.length);
    const std::int64_t offset = layout.entries.at(piece.stream).offset + piece.begin;
    return file.read_some(scratch.data(), piece.length, offset) == piece.length &&
           crc32c(scratch.data(), piece.length) == piece.crc;
}

std::vector<std::int64_t> sizes_of(const NamedTensorLayout& layout) {
    std::vector<std::int64_t> sizes;
    for (const TensorEntry& entry : layout.entries) sizes.push_back(entry.size_bytes());
    return sizes;
}

}  // namespace

ReadBack read_back_of(const std::string& text, const std::string& option) {
    require(text == "sample" || text == "all", option, " is ", text, "; it must be sample or all");
    return text == "all" ? ReadBack::all : ReadBack::sample;
}

std::vector<int> read_back_partners(const std::vector<int>& nodes) {
    const auto num_ranks = static_cast<std::ptrdiff_t>(nodes.size());
    std::vector<int> by_node(nodes.size()), partners(nodes.size());
    std::iota(by_node.begin(), by_node.end(), 0);
    std::stable_sort(by_node.begin(), by_node.end(), [&](int a, int b) { return nodes[a] < nodes[b]; });
    std::ptrdiff_t largest = 0;  // ranks of a node
    for (const int node : nodes) largest = std::max(largest, std::count(nodes.begin(), nodes.end(), node));
    const std::ptrdiff_t shift = largest < num_ranks ? largest : 1;
    for (std::ptrdiff_t i = 0; i < num_ranks; ++i) partners[by_node[i]] = by_node[(i + shift) % num_ranks];
    return partners;
}

std::string cannot_read_back(int rank, int partner) {
    return text("rank ", rank, " on node ", host_name(), " cannot read back what ",
                rank == partner ? "it" : text("rank ", partner), " wrote: ");
}

std::vector<ChecksumPiece> pieces_to_read(const std::vector<ChecksumPiece>& written, ReadBack how, std::int64_t turn) {
    std::int64_t bytes = 0;
    for (const ChecksumPiece& piece : written) bytes += piece.length;
    const std::int64_t wanted = std::max(kLeastSample, bytes / kPartOfSample);
    if (how == ReadBack::all || bytes <= wanted) return written;
    const auto step = static_cast<std::size_t>((bytes + wanted - 1) / wanted);
    std::vector<ChecksumPiece> chosen;
    for (std::size_t i = static_cast<std::size_t>(turn) % step; i < written.size(); i += step)
        chosen.push_back(written[i]);
    return chosen;
}

void read_back(const NamedTensorLayout& layout, const std::vector<ChecksumPiece>& pieces,
               const std::function<void()>& progress) {
    if (pieces.empty()) return;
    std::vector<char> scratch;
    const FileHandle file = open_uncached(layout.path);
    for (const ChecksumPiece& piece : pieces) {
        if (!reads_the_same(layout, piece, file, scratch) &&
            !reads_the_same(layout, piece, open_uncached(layout.path), scratch))
            fail(text(layout.path, ", ", layout.entries[piece.stream].name, ": its bytes ", piece.begin, " to ",
                      piece.begin + piece.length - 1, " are other ones"));
        if (progress) progress();
    }
}

void read_back_own(const NamedTensorLayout& layout, const std::string& format, std::int64_t schema_version,
                   const std::vector<ChecksumPiece>& pieces) {
    open_uncached(layout.path);
    const NamedTensorReader reader(layout.path, format, schema_version);
    const auto blocks = combine_checksum_pieces(pieces, sizes_of(layout));
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        const std::string& name = layout.entries[i].name;
        require(reader.has(name) && reader.entry(name).offset == layout.entries[i].offset, layout.path,
                ": the place of ", name, " is not the one that was written");
        require(reader.checksums(name) == blocks[i], layout.path, ": the checksums of ", name,
                " are not those that were written");
    }
}

}  // namespace longlora
