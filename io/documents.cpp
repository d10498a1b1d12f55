// Reads the kinds of files that io/documents.h lists.
#include "io/documents.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "core/error.h"
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

void read_lines(const Source& source, const SourcePart& part, const Sink& sink, const Progress& progress) {
    const bool plain = source.kind == SourceKind::jsonl;
    // A part that does not begin at 0 starts one byte early and drops its first line: if that byte is a newline, the
    // dropped line is empty; otherwise it belongs to the part before.
    const std::int64_t start = plain && part.begin > 0 ? part.begin - 1 : 0;
    LineReader lines(plain                                 ? open_plain(source.path, start)
                     : source.kind == SourceKind::jsonl_gz ? open_gzip(source.path)
                                                           : open_zstd(source.path));
    std::string line;
    std::int64_t number = part.lines_before, reported = 0;
    if (plain && part.begin > 0) {
        // lines_before already counts the newline of the dropped line if that is the byte before `begin`.
        if (!lines.next(line)) return;
        if (start + lines.position() > part.begin) ++number;
    }
    while (!plain || start + lines.position() < part.end) {
        if (!lines.next(line)) break;
        ++number;
        const std::int64_t now = lines.consumed();
        if (now != reported) progress(now - reported), reported = now;
        if (line.find_first_not_of(" \t") == std::string::npos) continue;
        sink(document_of(line, text(source.path, ", line ", number), text(source.name, ":", number)));
    }
}

void read_text(const Source& source, const Sink& sink, const Progress& progress) {
    DocumentPart document;
    document.name = source.name;
    document.where = source.path;
    document.is_text = true;
    document.text = read_text_file(source.path);
    document.num_replaced = repair_utf8(document.text);
    progress(source.bytes);
    sink(std::move(document));
}

void read_ids(const Source& source, DType type, const Sink& sink, const Progress& progress) {
    const FileHandle file = FileHandle::open_read(source.path);
    const std::int64_t width = size_of(type), size = file.size(), piece = std::int64_t{1} << 20;
    require(size % width == 0, source.path, " has ", size, " bytes, which is not a whole number of ", name_of(type),
            " ids; see --bin-type");
    std::vector<char> bytes(std::min(size, piece));
    std::int64_t at = 0;
    do {
        const std::int64_t n = std::min(piece, size - at);
        file.read_at(bytes.data(), n, at);
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
            return read_text(source, sink, progress);
        case SourceKind::bin:
            return read_ids(source, bin_type, sink, progress);
        default:
            return read_lines(source, part, sink, progress);
    }
}

SourceScan scan_source(const std::string& path, const std::vector<std::int64_t>& positions) {
    const FileHandle file = FileHandle::open_read(path);
    SourceScan scan;
    Sha256 hash;
    std::vector<char> buffer(1 << 20);
    std::int64_t at = 0, lines = 0;
    std::size_t next = 0;
    const auto count = [&](std::int64_t begin, std::int64_t end) {
        return std::count(buffer.begin() + begin, buffer.begin() + end, '\n');
    };
    while (const std::int64_t n = file.read_some(buffer.data(), buffer.size(), at)) {
        hash.add(buffer.data(), n);
        std::int64_t done = 0;
        for (; next < positions.size() && positions[next] <= at + n; ++next) {
            lines += count(done, positions[next] - at);
            done = positions[next] - at;
            scan.lines_before.push_back(lines);
        }
        if (next < positions.size()) lines += count(done, n);
        at += n;
    }
    scan.lines_before.resize(positions.size(), lines);
    scan.sha256 = hash.finish();
    return scan;
}

}  // namespace longlora
