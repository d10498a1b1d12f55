// Writes the report of an evaluation: the protocol in words and as JSON, the results as a table and as JSON. It only
// formats; src/eval/perplexity.h computes the results.
#pragma once

#include <string>
#include <vector>

#include "eval/perplexity.h"
#include "io/json.h"
#include "jobs/evaluate/options.h"

namespace longlora {

/// Everything that the results depend on.
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
/// A warning if `context` is more tokens than the model's configuration covers; else "".
std::string context_warning(const ModelConfig& config, std::int64_t context);
/// context_warning() of every context in `results`.
std::string context_warnings(const ModelConfig& config, const std::vector<Result>& results);
/// The protocol as indented lines with one fact each.
std::string protocol_text(const Protocol& protocol, const std::vector<Result>& results);
Json to_json(const Protocol& protocol, const std::vector<Result>& results);

}  // namespace longlora
