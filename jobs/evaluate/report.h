// What an evaluation says of itself: the protocol in words and as JSON, the results as a table and as JSON. Text only;
// nothing is computed here.
#pragma once

#include <string>
#include <vector>

#include "eval/perplexity.h"
#include "io/json.h"
#include "jobs/evaluate/options.h"

namespace longlora {

/// All that the numbers depend on.
struct Protocol {
    const EvaluateOptions& options;
    const ModelSource& source;
    const TokenFiles& files;
    std::string model_hash, adapter_hash, dtype, device;
    parallel::MeshShape mesh;
    int threads = 1;
};

struct Result {
    Measurement measurement;
    WindowList list;
    Perplexity perplexity;
};

std::string table_header();
std::string table_row(const Result& result);
/// A line when windows are longer than the model's configuration covers; "" otherwise.
std::string beyond_note(const ModelConfig& config, std::int64_t context);
std::string beyond_notes(const ModelConfig& config, const std::vector<Result>& results);
/// One fact a line, indented.
std::string in_words(const Protocol& protocol, const std::vector<Result>& results);
Json to_json(const Protocol& protocol, const std::vector<Result>& results);

}  // namespace longlora
