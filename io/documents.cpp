// Reads the kinds of files that io/documents.h lists.
#include "io/documents.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "core/host.h"
#include "io/byte_stream.h"
#include "io/checksum.h"
#include "io/file.h"
#include "io/json.h"
#include "io/utf8.h"

namespace longlora {

namespace {

constexpr const char* kExtensions = ".txt, .jsonl, .jsonl.gz, .jsonl.zst, .bin";

bool ends_with(const std::string& name, const std::string& end) {
    return name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

bool kind_of(const std::string& name, SourceKind& kind) {
    for (const auto& [end, found] : {std::pair{".txt", SourceKind::text},
                                     {".jsonl", SourceKind::jsonl},
                                     {".jsonl.gz", SourceKind::jsonl_gz},
                                     {".jsonl.zst", SourceKind::jsonl_zst},
                                     {".bin", SourceKind::bin}}) {
        if (!ends_with(name, end)) continue;
        kind = found;
        return true;
    }
    return false;
}

void append_folder(std::vector<Source>& sources, const std::string& folder) {
    namespace fs = std::filesystem;
    const std::size_t before = sources.size();
    try {
        for (auto at = fs::recursive_directory_iterator(folder); at != fs::recursive_directory_iterator(); ++at) {
            if (at->path().filename().string().starts_with('.')) {
                at.disable_recursion_pending();
                continue;
            }
            Source source;
            source.path = at->path().string();
            source.name = at->path().lexically_relative(folder).string();
            if (!kind_of(source.name, source.kind) || !at->is_regular_file()) continue;
            source.bytes = at->file_size();
            sources.push_back(std::move(source));
        }
    } catch (const fs::filesystem_error& problem) {
        fail(text("cannot read the folder ", folder, ": ", problem.code().message()));
    }
    require(sources.size() > before, folder, " has no file that prepare reads (", kExtensions, ")");
    std::sort(sources.begin() + before, sources.end(),
              [](const Source& a, const Source& b) { return a.name < b.name; });
}

/// Half of a surrogate pair, such as a lone "\ud800", is valid in JavaScript's JSON but is not a character. This
/// function replaces it by U+FFFD. Returns the number of replacements.
std::int64_t repair_surrogates(std::string& line) {
    std::int64_t replaced = 0;
    const auto unit = [&](std::size_t at) -> unsigned long {  // the value of the \uXXXX at position `at`, or 0
        if (at + 6 > line.size() || line[at] != '\\' || line[at + 1] != 'u') return 0;
        for (std::size_t i = at + 2; i < at + 6; ++i)
            if (!std::isxdigit(static_cast<unsigned char>(line[i]))) return 0;
        return std::stoul(line.substr(at + 2, 4), nullptr, 16);
    };
    for (std::size_t at = 0; at + 1 < line.size(); ++at) {
        if (line[at] != '\\') continue;
        const unsigned long first = unit(at);
        if (first >= 0xd800 && first < 0xdc00 && unit(at + 6) >= 0xdc00 && unit(at + 6) < 0xe000) {
            at += 11;
        } else if (first >= 0xd800 && first < 0xe000) {
            line.replace(at, 6, "\\ufffd");
            at += 5, ++replaced;
        } else {
            ++at;  // the escaped character, which may be a backslash
        }
    }
    return replaced;
}

Json parse_line(std::string& line, std::int64_t& replaced, const std::string& where) {
    replaced += repair_utf8(line);
    Json json = Json::parse(line, nullptr, false);
    if (!json.is_discarded()) return json;
    const std::int64_t halves = repair_surrogates(line);
    replaced += halves;
    return parse_json(line, where);
}

std::string name_in(const Json& json, const std::string& otherwise) {
    for (const char* key : {"id", "name", "title"}) {
        if (!json.contains(key)) continue;
        if (json[key].is_string()) return json[key].get<std::string>();
        if (json[key].is_number_integer()) return to_line(json[key]);
    }
    return otherwise;
}

DocumentPart document_of(std::string& line, const std::string& where, const std::string& fallback_name) {
    DocumentPart document;
    document.where = where;
    const Json json = parse_line(line, document.num_replaced, where);
    require(json.is_object(), where, " is not a JSON object");
    document.name = name_in(json, fallback_name);
    if (json.contains("tokens")) {
        const Json& tokens = json["tokens"];
        require(tokens.is_array(), where, ": \"tokens\" is not a list of ids");
        document.tokens.reserve(tokens.size());
        for (const Json& id : tokens) {
            const bool whole =
                id.is_number_integer() && !(id.is_number_unsigned() && id.get<std::uint64_t>() > 0x7fffffffffffffffull);
            require(whole, where, ": \"tokens\" has ", to_line(id).substr(0, 40), ", which is not an id");
            document.tokens.push_back(id.get<std::int64_t>());
        }
        return document;
    }
    require(json.contains("text"), where, " has neither \"text\" nor \"tokens\"");
    require(json["text"].is_string(), where, ": \"text\" is not a string");
    document.is_text = true;
    document.text = json["text"].get<std::string>();
    return document;
}

using Sink = std::function<void(DocumentPart&&)>;
using Progress = std::function<void(std::int64_t)>;

void require_checksum(const Source& source, const SourcePart& part, std::uint32_t found) {
    require(
        !part.checksum || *part.checksum == found, source.path, " on node ", host_name(),
        " has other bytes than when it was hashed, on the node of rank 0 before this; give all ranks the same files "
        "and do not change them meanwhile");
}

void read_lines(const Source& source, const SourcePart& part, const Sink& sink, const Progress& progress) {
    LineReader lines(source.kind == SourceKind::jsonl      ? open_plain(source.path, part.begin, part.end)
                     : source.kind == SourceKind::jsonl_gz ? open_gzip(source.path)
                                                           : open_zstd(source.path));
    std::string line;
    std::int64_t number = part.lines_before, reported = 0;
    try {
        while (lines.next(line)) {
            ++number;
            const std::int64_t now = lines.consumed();
            if (now != reported) progress(now - reported), reported = now;
            if (line.find_first_not_of(" \t") == std::string::npos) continue;
            sink(document_of(line, text(source.path, ", line ", number), text(source.name, ":", number)));
        }
    } catch (const Error&) {
        // If the file has changed, that is what the user must know, not what is wrong with one of its lines now.
        while (lines.next(line)) continue;
        require_checksum(source, part, lines.checksum());
        throw;
    }
    require_checksum(source, part, lines.checksum());
}

void read_text(const Source& source, const SourcePart& part, const Sink& sink, const Progress& progress) {
    DocumentPart document;
    document.name = source.name;
    document.where = source.path;
    document.is_text = true;
    document.text = read_text_file(source.path);
    require_checksum(source, part, crc32c(document.text.data(), document.text.size()));
    document.num_replaced = repair_utf8(document.text);
    progress(source.bytes);
    sink(std::move(document));
}

void read_ids(const Source& source, const SourcePart& part, DType type, const Sink& sink, const Progress& progress) {
    const FileHandle file = FileHandle::open_read(source.path);
    const std::int64_t width = size_of(type), size = file.size(), piece = std::int64_t{1} << 20;
    require(size % width == 0, source.path, " has ", size, " bytes, which is not a whole number of ", name_of(type),
            " ids; see --bin-type");
    std::vector<char> bytes(std::min(size, piece));
    std::int64_t at = 0;
    std::uint32_t checksum = 0;
    do {
        const std::int64_t n = std::min(piece, size - at);
        file.read_at(bytes.data(), n, at);
        checksum = crc32c(bytes.data(), static_cast<std::size_t>(n), checksum);
        DocumentPart document;
        document.name = source.name;
        document.tokens.resize(n / width);
        for (std::size_t i = 0; i < document.tokens.size(); ++i) {
            std::uint32_t id = 0;
            std::memcpy(&id, bytes.data() + static_cast<std::int64_t>(i) * width, width);
            document.tokens[i] = id;
        }
        document.where = source.path;
        document.first = at == 0;
        at += n;
        document.last = at == size;
        progress(n);
        sink(std::move(document));
    } while (at < size);
    require_checksum(source, part, checksum);
}

}  // namespace

std::vector<Source> list_sources(const std::vector<std::string>& inputs) {
    std::vector<Source> sources;
    for (const std::string& input : inputs) {
        require(file_exists(input), "the input ", input, " does not exist");
        if (is_folder(input)) {
            append_folder(sources, input);
            continue;
        }
        Source source;
        source.path = input;
        source.name = std::filesystem::path(input).filename().string();
        require(kind_of(source.name, source.kind), "the input ", input,
                " has an extension that prepare does not read (it reads ", kExtensions, ")");
        source.bytes = FileHandle::open_read(input).size();
        sources.push_back(std::move(source));
    }
    return sources;
}

void read_documents(const Source& source, const SourcePart& part, DType bin_type, const Sink& sink,
                    const Progress& progress) {
    ensure(bin_type == DType::uint16 || bin_type == DType::uint32, ".bin files hold uint16 or uint32");
    ensure(source.kind == SourceKind::jsonl || (part.begin == 0 && part.end == source.bytes),
           "only plain .jsonl may be split into parts");
    switch (source.kind) {
        case SourceKind::text:
            return read_text(source, part, sink, progress);
        case SourceKind::bin:
            return read_ids(source, part, bin_type, sink, progress);
        default:
            return read_lines(source, part, sink, progress);
    }
}

namespace {

/// Cuts the bytes of a file, which come in order, into parts that begin where lines begin.
class PartCutter {
public:
    explicit PartCutter(const std::vector<std::int64_t>& positions) : positions_(positions) {}
    void add(const char* data, std::int64_t bytes) {
        const std::int64_t end = at_ + bytes;
        while (next_ < positions_.size()) {
            const std::int64_t position = positions_[next_];
            // The part begins after the first newline at `from` or later, of which the last part's may be one.
            const std::int64_t from = std::max(position - 1, at_);
            if (position > 0 && position > newline_ + 1) {
                if (from >= end) break;
                const void* found =
                    std::memchr(data + bytes - (end - from), '\n', static_cast<std::size_t>(end - from));
                if (!found) break;
                newline_ = end - (data + bytes - static_cast<const char*>(found));
                take(data + bytes - (end - at_), newline_ + 1 - at_);
            }
            begin_part();
        }
        take(data + bytes - (end - at_), end - at_);
    }
    std::vector<SourcePart> finish() {
        while (next_ < positions_.size()) begin_part();
        return std::move(parts_);
    }

private:
    void begin_part() {
        parts_.push_back({at_, at_, lines_, 0});
        ++next_;
    }
    void take(const char* data, std::int64_t bytes) {
        at_ += bytes;
        if (parts_.empty()) return;
        lines_ += std::count(data, data + bytes, '\n');
        parts_.back().end = at_;
        parts_.back().checksum = crc32c(data, static_cast<std::size_t>(bytes), *parts_.back().checksum);
    }
    const std::vector<std::int64_t>& positions_;
    std::vector<SourcePart> parts_;
    std::size_t next_ = 0;
    std::int64_t at_ = 0, lines_ = 0, newline_ = -1;  // newline_: the one before the last part
};

}  // namespace

SourceScan scan_source(const std::string& path, const std::vector<std::int64_t>& positions) {
    const FileHandle file = FileHandle::open_read(path);
    SourceScan scan;
    Sha256 hash;
    PartCutter cutter(positions);
    std::vector<char> buffer(1 << 20);
    while (const std::int64_t n = file.read_some(buffer.data(), buffer.size(), scan.bytes)) {
        hash.add(buffer.data(), n);
        cutter.add(buffer.data(), n);
        scan.bytes += n;
    }
    scan.parts = cutter.finish();
    scan.sha256 = hash.finish();
    return scan;
}

}  // namespace longlora
