// Each phase that can fail on one rank alone ends in parallel::agree().
#include "jobs/prepare/assemble.h"

#include <algorithm>
#include <exception>

#include "core/error.h"
#include "io/token_file.h"
#include "parallel/agree.h"

namespace longlora {

namespace {

using Pieces = std::vector<ChecksumPiece>;

/// Gives this rank the bytes that other ranks have of its blocks.
SharedBytes receive_bytes(const parallel::HostGroup& group, const SharedWrite& plan, SliceReader& reader) {
    SharedBytes bytes = parallel::agreed(group, [&] { return SharedBytes(plan); });
    std::exception_ptr failure;  // thrown when the others have their messages
    const auto read = [&](const PartPiece& piece, void* out) {
        try {
            if (!failure) reader.read(piece, out);
        } catch (const std::exception&) {
            failure = std::current_exception();
        }
    };
    exchange_pieces(plan, bytes, read, [&](const char* out, const auto& bytes_to, char* in, const auto& bytes_from) {
        group.exchange(out, bytes_to, in, bytes_from);
    });
    parallel::agree(group, [&] {
        if (failure) std::rethrow_exception(failure);
    });
    return bytes;
}

Pieces write_blocks(const NamedTensorLayout& layout, const SharedWrite& plan, const SharedBytes& bytes,
                    SliceReader& reader) {
    Pieces pieces;
    if (plan.writes.empty()) return pieces;
    const FileHandle file = FileHandle::open_write(layout.path);
    std::vector<char> buffer(kChecksumBlock);
    for (const SharedWrite::Write& w : plan.writes)
        for (std::int64_t at = 0, n = 0; at < w.bytes; at += n) {
            n = std::min(w.bytes - at, kChecksumBlock);
            if (w.part >= 0) reader.read({w.part, w.at + at, n}, buffer.data());
            write_slice(file, layout, w.tensor, w.begin + at,
                        w.part >= 0 ? buffer.data() : bytes.received.data() + w.at + at, n, pieces);
        }
    file.sync();
    return pieces;
}

Pieces joined(const std::vector<Pieces>& lists) {
    Pieces all;
    for (const Pieces& list : lists) all.insert(all.end(), list.begin(), list.end());
    return all;
}

/// `written` has the pieces of each rank.
void read_back_blocks(const parallel::HostGroup& group, const NamedTensorLayout& layout,
                      const std::vector<Pieces>& written, ReadBack how) {
    const int partner = read_back_partners(group.all_gather(group.node()))[group.rank()];
    parallel::agree(group, [&] {
        try {
            read_back(layout, pieces_to_read(written[partner], how, 0));
            if (partner == 0) read_back_own(layout, kTokenFileFormat, kTokenFileVersion, joined(written));
        } catch (const Error& error) {
            fail(text(cannot_read_back(group.rank(), partner), error.what(),
                      "; the file system lost or mixed what was written, so prepare into another folder"));
        }
    });
}

}  // namespace

void fill_token_file(const parallel::HostGroup& group, const NamedTensorLayout& layout,
                     const std::vector<std::vector<UnitSlice>>& slices, SliceReader& reader, ReadBack how) {
    std::vector<std::vector<FilePart>> parts(slices.size());
    for (std::size_t r = 0; r < slices.size(); ++r)
        for (const UnitSlice& slice : slices[r]) parts[r].push_back(slice.place);
    const SharedWrite plan = plan_shared_write(layout, parts, group.rank());
    const SharedBytes bytes = receive_bytes(group, plan, reader);
    Pieces mine;
    parallel::agree(group, [&] {
        mine = write_blocks(layout, plan, bytes, reader);
        reader.verify_tokens();
    });
    std::vector<Pieces> written;
    for (const std::string& theirs : group.all_gather(pack_pieces(mine))) written.push_back(unpack_pieces(theirs));
    parallel::agree(group, [&] {
        if (group.rank() != 0) return;
        const FileHandle file = FileHandle::open_write(layout.path);
        write_checksums(file, layout, joined(written));
        file.sync();
    });
    read_back_blocks(group, layout, written, how);
}

}  // namespace longlora
