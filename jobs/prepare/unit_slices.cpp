// Keeps the result of one unit at a time, since a unit may have many documents.
#include "jobs/prepare/unit_slices.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "io/checksum.h"

namespace longlora {

namespace {

constexpr std::int64_t kPosition = 8;  // bytes of a position of a document or a name

/// The positions at which the documents, or their names, of a unit end.
std::vector<std::uint64_t> ends_of(const UnitResult& result, std::int64_t tensor, const UnitSizes& before) {
    std::vector<std::uint64_t> ends;
    if (tensor == kDocumentBegin) {
        ends = result.document_ends;
        for (std::uint64_t& end : ends) end += static_cast<std::uint64_t>(before.tokens);
        return ends;
    }
    auto end = static_cast<std::uint64_t>(before.name_bytes);
    for (const std::string& name : result.names) ends.push_back(end += name.size());
    return ends;
}

std::string joined(const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) all += name;
    return all;
}

}  // namespace

std::vector<std::vector<UnitSlice>> slices_of_ranks(const NamedTensorLayout& layout,
                                                    const std::vector<UnitSizes>& units, const std::vector<int>& owner,
                                                    int num_ranks) {
    const std::int64_t width = size_of(layout.entries[kTokens].dtype);
    std::vector<std::vector<UnitSlice>> slices(num_ranks);
    for (const std::int64_t tensor : {kDocumentBegin, kDocumentNameBegin})
        slices[0].push_back({{tensor, 0, kPosition}, -1, {}});
    UnitSizes before;
    for (std::size_t u = 0; u < units.size(); ++u) {
        const UnitSizes& unit = units[u];
        const std::int64_t position = kPosition * (before.documents + 1), positions = kPosition * unit.documents;
        for (const FilePart& place : {FilePart{kTokens, before.tokens * width, unit.tokens * width},
                                      {kDocumentBegin, position, positions},
                                      {kDocumentNameBegin, position, positions},
                                      {kDocumentName, before.name_bytes, unit.name_bytes}})
            slices[owner[u]].push_back({place, static_cast<std::int64_t>(u), before});
        before.tokens += unit.tokens, before.documents += unit.documents, before.name_bytes += unit.name_bytes;
    }
    return slices;
}

SliceReader::SliceReader(const std::vector<UnitSlice>& slices, const std::string& parts_folder,
                         std::int64_t token_width, std::function<std::string(std::int64_t)> key_of)
    : slices_(slices),
      parts_folder_(parts_folder),
      token_width_(token_width),
      key_of_(std::move(key_of)) {}

void SliceReader::open(std::int64_t unit) {
    if (unit == open_unit_) return;
    open_unit_ = -1;
    result_ = read_unit_result(parts_folder_, unit);
    require(result_.key == key_of_(unit), unit_result_path(parts_folder_, unit),
            " holds other documents than this job wrote there; remove its folder and start again");
    spool_ = FileHandle::open_read(unit_tokens_path(parts_folder_, unit));
    const std::int64_t bytes = result_.num_tokens * token_width_;
    require(spool_.size() == bytes, spool_.path(), " has ", spool_.size(), " bytes, but ", bytes,
            " were written; remove its folder and start again");
    open_unit_ = unit;
}

void SliceReader::read(const PartPiece& piece, void* out) {
    const UnitSlice& slice = slices_[piece.part];
    if (slice.unit < 0) {
        std::memset(out, 0, piece.bytes);
        return;
    }
    open(slice.unit);
    const auto copy = [&](const void* data) {
        std::memcpy(out, static_cast<const char*>(data) + piece.begin, piece.bytes);
    };
    if (slice.place.tensor == kTokens) {
        spool_.read_at(out, piece.bytes, piece.begin);
        token_pieces_.push_back({slice.unit, piece.begin, piece.bytes, crc32c(out, piece.bytes), 0});
    } else if (slice.place.tensor == kDocumentName) {
        copy(joined(result_.names).data());
    } else {
        copy(ends_of(result_, slice.place.tensor, slice.before).data());
    }
}

void SliceReader::verify_tokens() const {
    std::vector<ChecksumPiece> pieces = token_pieces_;
    std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
        return a.stream != b.stream ? a.stream < b.stream : a.begin < b.begin;
    });
    for (std::size_t i = 0; i < pieces.size();) {
        const std::int64_t unit = pieces[i].stream;
        std::uint32_t crc = pieces[i].crc;
        for (++i; i < pieces.size() && pieces[i].stream == unit; ++i)
            crc = crc32c_combine(crc, pieces[i].crc, pieces[i].length);
        require(crc == read_unit_result(parts_folder_, unit).tokens_crc, unit_tokens_path(parts_folder_, unit),
                " is damaged; remove its folder and start again");
    }
}

}  // namespace longlora
