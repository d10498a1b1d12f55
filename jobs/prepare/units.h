// The work units of `longlora prepare`: the parts of files that a unit has, the rank that makes it, and its result in
// spool files. No MPI; jobs/prepare/prepare.h runs them on all ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/documents.h"
#include "io/token_file.h"
#include "io/tokenizer.h"

namespace longlora {

/// A source file with the hash of its content.
struct HashedSource : Source {
    std::string sha256;
};

struct UnitPart {
    std::int64_t source = 0;
    SourcePart range;
};

/// Several neighbouring small files, or a part of a large .jsonl file.
struct Unit {
    std::vector<UnitPart> parts;
    std::int64_t bytes = 0;
};

/// Cuts the sources into units by their sizes only, so that the units do not depend on the number of ranks. Units are
/// small enough to balance the ranks and to lose little work when prepare is killed.
std::vector<Unit> plan_units(const std::vector<Source>& sources);

/// The rank of each item. The items are assigned largest first, each to the rank with the least bytes so far.
std::vector<int> distribute_by_size(const std::vector<std::int64_t>& sizes, int num_ranks);

/// Ids that prepare puts at the begin, or at the end, of every text.
struct Ending {
    std::vector<std::int32_t> ids;
    bool repeated = false;  // also where the text has these ids there already
};

/// How documents become tokens.
struct TokenizeSettings {
    const Tokenizer* tokenizer = nullptr;  // null: the inputs are all token ids
    std::int64_t vocabulary = 0;
    Ending begin, end;
    DType bin_type = DType::uint16;
    /// Text of all settings that a unit's result depends on; any other value gives another key.
    std::string key() const;
};

/// The result of a unit, without its tokens, which are in the spool file.
struct UnitResult {
    std::string key;
    std::int64_t num_tokens = 0;
    std::uint32_t tokens_crc = 0;
    std::vector<std::uint64_t> document_ends;  // counted in tokens of this unit
    std::vector<std::string> names;
    std::int64_t num_empty = 0, num_replaced = 0, text_bytes = 0, text_tokens = 0;
    std::int64_t num_twice = 0;  // texts that begin with the begin ids twice now

    std::int64_t num_documents() const { return document_ends.size(); }
    std::int64_t name_bytes() const;
};

std::string unit_key(const Unit& unit, const std::vector<HashedSource>& sources, const TokenizeSettings& settings);
std::string unit_tokens_path(const std::string& folder, std::int64_t index);
std::string unit_result_path(const std::string& folder, std::int64_t index);

/// Tokenizes a unit into its spool files and returns the result. `progress(bytes)` is called as in read_documents
/// (io/documents.h).
/// Where a job makes units.
struct UnitFolder {
    std::string path;
    std::string writer;                  ///< part of the names of unfinished files; no other job has it
    std::function<void()> require_ours;  ///< throws an Error if the folder is another job's now
};

UnitResult make_unit(const UnitFolder& folder, std::int64_t index, const Unit& unit,
                     const std::vector<HashedSource>& sources, const TokenizeSettings& settings,
                     const std::function<void(std::int64_t)>& progress);

UnitResult read_unit_result(const std::string& folder, std::int64_t index);

/// Whether the spool files of an earlier run hold this unit. Otherwise an existing result file is removed. A file of
/// that name that prepare did not make is an Error.
bool unit_is_made(const std::string& folder, std::int64_t index, const std::string& key);

/// Removes the unfinished files of killed jobs from the folder. Other files in it stay.
void remove_unfinished(const std::string& folder);
/// Removes all spool files, and the folder if nothing else is in it. Files that prepare did not make stay.
void remove_units(const std::string& folder);

}  // namespace longlora
