// Finds the files of an input and reads one document at a time, whatever the kind of file:
//   .txt                            one document
//   .jsonl, .jsonl.gz, .jsonl.zst   one document per line: {"text": ...} or {"tokens": [...]}
//   .bin                            one document of uint16 or uint32 ids, read in pieces
// Only the current document is in memory; of a .bin file, only the current piece. Tokenization is in io/tokenizer.h;
// jobs/prepare distributes the files over ranks.
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
    std::string name;  // path inside the input folder, or the name of a file that is an input itself
    SourceKind kind = SourceKind::text;
    std::int64_t bytes = 0;
};

/// All supported files of the inputs. The inputs keep the given order; the files of a folder (searched recursively)
/// are sorted by name. Files and folders in it whose names begin with a dot are left out: they are copies and notes of
/// other programs (.ipynb_checkpoints, ._book.txt). An input without a supported file is an Error that lists the
/// extensions.
std::vector<Source> list_sources(const std::vector<std::string>& inputs);

/// Bytes [begin, end) of a source. Only plain .jsonl may be split into parts; a line belongs to the part in which it
/// begins.
struct SourcePart {
    std::int64_t begin = 0, end = 0;
    std::int64_t lines_before = 0;  // newlines before `begin`, to number lines in names and errors
};

/// A document, or a piece of one (.bin).
struct DocumentPart {
    std::string name;
    bool is_text = false;
    std::string text;                  // valid UTF-8
    std::vector<std::int64_t> tokens;  // the ids if the file holds ids instead of text; not checked
    bool first = true, last = true;    // whether this is the first and the last piece of its document
    std::int64_t num_replaced = 0;     // number of ill-formed UTF-8 sequences that were replaced
    std::string where;                 // the place of the document for errors, as "file, line 7"
};

/// Calls `sink` for every document of the part, in order. Now and then calls `progress(bytes)` with the number of
/// bytes read since the last call.
void read_documents(const Source& source, const SourcePart& part, DType bin_type,
                    const std::function<void(DocumentPart&&)>& sink, const std::function<void(std::int64_t)>& progress);

/// SHA-256 of the file, and the number of newlines before each of `positions`, which must be in ascending order.
struct SourceScan {
    std::string sha256;
    std::vector<std::int64_t> lines_before;
};
SourceScan scan_source(const std::string& path, const std::vector<std::int64_t>& positions);

}  // namespace longlora
