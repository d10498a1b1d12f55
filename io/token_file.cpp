// Reads token files and writes small ones.
#include "io/token_file.h"

#include <algorithm>

#include "core/error.h"
#include "io/checksum.h"
#include "io/json.h"

namespace longlora {

namespace {

std::vector<std::uint64_t> read_positions(const NamedTensorReader& reader, const std::string& name, std::int64_t last) {
    const TensorEntry& entry = reader.entry(name);
    require(entry.dtype == DType::uint64 && entry.shape.rank == 1 && entry.shape[0] >= 1, reader.path(), ": ", name,
            " should be a list of uint64");
    std::vector<std::uint64_t> values(entry.shape[0]);
    reader.read(name, 0, entry.shape[0], values.data());
    const bool ordered = values.front() == 0 && std::is_sorted(values.begin(), values.end()) &&
                         values.back() == static_cast<std::uint64_t>(last);
    require(ordered, reader.path(), ": ", name, " must rise from 0 to ", last, ", but does not");
    return values;
}

TokenFileInfo read_info(const NamedTensorReader& reader) {
    const std::string where = reader.path() + ", attributes";
    const Json json = parse_json(reader.attributes(), where);
    TokenFileInfo info;
    info.tokenizer_kind = get_text(json, "tokenizer_kind", where);
    info.tokenizer_hash = get_text(json, "tokenizer_hash", where);
    info.vocabulary = get_integer(json, "vocabulary", where);
    require(info.vocabulary >= 1 && info.vocabulary <= 0x7fffffff, where, ": \"vocabulary\" is ", info.vocabulary,
            "; it must be 1 to 2147483647");
    for (const auto& [key, id] : {std::pair{"bos", &info.bos}, std::pair{"eos", &info.eos}}) {
        const std::int64_t value = get_integer(json, key, where);
        require(value >= -1 && value < info.vocabulary, where, ": \"", key, "\" is ", value,
                ", beyond the vocabulary of ", info.vocabulary);
        *id = static_cast<std::int32_t>(value);
    }
    info.sources = to_line(member(json, "sources", where));
    return info;
}

}  // namespace

TokenFile::TokenFile(const std::string& path)
    : reader_(path, kTokenFileFormat, kTokenFileVersion),
      info_(read_info(reader_)),
      tokens_(reader_.entry("tokens")) {
    require(tokens_.dtype == token_dtype_for(info_.vocabulary) && tokens_.shape.rank == 1, path,
            ": tokens should be a list of ", name_of(token_dtype_for(info_.vocabulary)));
    num_tokens_ = tokens_.shape[0];
    document_begin_ = read_positions(reader_, "document_begin", num_tokens_);
    const TensorEntry& names = reader_.entry("document_name");
    require(names.dtype == DType::uint8 && names.shape.rank == 1, path, ": document_name should be a list of uint8");
    name_begin_ = read_positions(reader_, "document_name_begin", names.shape[0]);
    require(name_begin_.size() == document_begin_.size(), path, " has ", num_documents(), " documents but ",
            name_begin_.size() - 1, " names");
    Sha256 hash;
    const std::int64_t sizes[] = {info_.vocabulary, num_tokens_, num_documents()};
    hash.add(sizes, sizeof sizes);
    for (const char* name : {"tokens", "document_begin"})
        hash.add(reader_.checksums(name).data(), 4 * reader_.checksums(name).size());
    content_hash_ = hash.finish();
}

std::string TokenFile::document_name(std::int64_t document) const {
    ensure(document >= 0 && document < num_documents(), "the file does not have this document");
    const auto begin = name_begin_[document], end = name_begin_[static_cast<std::size_t>(document) + 1];
    std::string name(end - begin, '\0');
    reader_.read("document_name", begin, end - begin, name.data());
    return name;
}

std::int64_t TokenFile::document_of(std::int64_t token) const {
    ensure(token >= 0 && token < num_tokens_, "the file does not have this token");
    return std::upper_bound(document_begin_.begin(), document_begin_.end(), static_cast<std::uint64_t>(token)) -
           document_begin_.begin() - 1;
}

void TokenFile::read(std::int64_t begin, std::int64_t count, std::int32_t* out) const {
    require(begin >= 0 && count >= 0 && begin <= num_tokens_ && count <= num_tokens_ - begin, path(),
            ": cannot read tokens ", begin, " to ", begin + count, " of ", num_tokens_);
    if (count == 0) return;
    const auto beyond = [&](std::int64_t at, std::uint32_t id) {
        require(false, path(), ": token ", begin + at, " is ", id, ", beyond its vocabulary of ", info_.vocabulary);
    };
    if (tokens_.dtype == DType::uint16) {
        std::vector<std::uint16_t> ids(count);
        reader_.read("tokens", begin, count, ids.data());
        for (std::int64_t i = 0; i < count; ++i) {
            const std::uint16_t id = ids[i];
            if (id >= info_.vocabulary) beyond(i, id);
            out[i] = id;
        }
        return;
    }
    reader_.read("tokens", begin, count, out);
    for (std::int64_t i = 0; i < count; ++i)
        if (static_cast<std::uint32_t>(out[i]) >= info_.vocabulary) beyond(i, out[i]);
}

void TokenFile::verify_all() const {
    reader_.verify_all();
    constexpr std::int64_t kPiece = 1 << 20;
    std::vector<std::int32_t> ids(std::min(kPiece, num_tokens_));
    for (std::int64_t begin = 0; begin < num_tokens_; begin += kPiece)
        read(begin, std::min(kPiece, num_tokens_ - begin), ids.data());
}

DType token_dtype_for(std::int64_t vocabulary) { return vocabulary <= 65536 ? DType::uint16 : DType::uint32; }

std::vector<NamedTensor> token_file_tensors(std::int64_t vocabulary, std::int64_t num_tokens,
                                            std::int64_t num_documents, std::int64_t name_bytes) {
    return {{"tokens", token_dtype_for(vocabulary), {num_tokens}},
            {"document_begin", DType::uint64, {num_documents + 1}},
            {"document_name", DType::uint8, {name_bytes}},
            {"document_name_begin", DType::uint64, {num_documents + 1}}};
}

std::string token_file_attributes(const TokenFileInfo& info) {
    return to_line({{"tokenizer_kind", info.tokenizer_kind},
                    {"tokenizer_hash", info.tokenizer_hash},
                    {"vocabulary", info.vocabulary},
                    {"bos", info.bos},
                    {"eos", info.eos},
                    {"sources", parse_json(info.sources, "the list of sources")}});
}

void write_token_file(const std::string& path, const TokenFileInfo& info,
                      const std::vector<std::vector<std::int32_t>>& documents, const std::vector<std::string>& names) {
    std::vector<std::uint64_t> begin{0}, name_begin{0};
    std::vector<std::uint16_t> narrow;
    std::vector<std::uint32_t> wide;
    std::string all_names;
    for (std::size_t d = 0; d < documents.size(); ++d) {
        for (std::int32_t id : documents[d]) {
            require(id >= 0 && id < info.vocabulary, path, ": document ", d, " has the id ", id,
                    ", beyond the vocabulary of ", info.vocabulary);
            if (info.vocabulary <= 65536) narrow.push_back(static_cast<std::uint16_t>(id));
            else wide.push_back(static_cast<std::uint32_t>(id));
        }
        begin.push_back(begin.back() + documents[d].size());
        all_names += d < names.size() ? names[d] : text("document ", d);
        name_begin.push_back(all_names.size());
    }
    const auto tensors = token_file_tensors(info.vocabulary, begin.back(), documents.size(), all_names.size());
    const NamedTensorLayout layout = create_named_tensor_file(path + ".partial", kTokenFileFormat, kTokenFileVersion,
                                                              tensors, token_file_attributes(info));
    const FileHandle file = FileHandle::open_write(layout.path);
    std::vector<ChecksumPiece> pieces;
    const void* contents[] = {narrow.empty() ? static_cast<const void*>(wide.data()) : narrow.data(), begin.data(),
                              all_names.data(), name_begin.data()};
    for (std::int64_t i = 0; i < 4; ++i) write_slice(file, layout, i, 0, contents[i], tensors[i].size_bytes(), pieces);
    write_checksums(file, layout, std::move(pieces));
    file.sync();
    rename_file(layout.path, path);
}

}  // namespace longlora
