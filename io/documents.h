// Where documents come from: finds the files of an input, reads one document at a time, whatever the file's kind.
//   .txt  one document                     .jsonl, .jsonl.gz, .jsonl.zst  one per line: {"text": ...} or {"tokens":
//   [...]} .bin  uint16 or uint32 ids, one document, read in pieces
// Memory: the current document (of a .bin: the current piece). No tokenization, no MPI.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace longlora {

enum class SourceKind { text, jsonl, jsonl_gz, jsonl_zst, bin };

struct Source {
    std::string path;
    std::string name;  // inside its input folder, or the file's own name
    SourceKind kind = SourceKind::text;
    std::int64_t bytes = 0;
};

/// All supported files of the inputs: inputs in the given order, the files of a folder (recursively) sorted by name. An
/// input without any is an Error that lists the extensions.
std::vector<Source> list_sources(const std::vector<std::string>& inputs);

/// Bytes [begin, end) of a source. Only plain .jsonl may be cut; a line belongs to the part in which it begins.
struct SourcePart {
    std::int64_t begin = 0, end = 0;
    std::int64_t lines_before = 0;  // newlines before `begin`, for names and errors
};

/// A document, or a piece of one (.bin).
struct DocumentPart {
    std::string name;
    bool is_text = false;
    std::string text;                  // valid UTF-8
    std::vector<std::int64_t> tokens;  // ready ids, unchecked
    bool first = true, last = true;    // piece of its document
    std::int64_t num_replaced = 0;     // ill-formed UTF-8 sequences
    std::string where;                 // "file, line 7": for errors about it
};

/// Calls `sink` for every document of the part, in order, and `progress(bytes)` now and then with the bytes read since
/// the last call.
void read_documents(const Source& source, const SourcePart& part, DType bin_type,
                    const std::function<void(DocumentPart&&)>& sink, const std::function<void(std::int64_t)>& progress);

/// SHA-256 of the file, and the number of newlines before each of the given rising positions.
struct SourceScan {
    std::string sha256;
    std::vector<std::int64_t> lines_before;
};
SourceScan scan_source(const std::string& path, const std::vector<std::int64_t>& positions);

}  // namespace longlora
