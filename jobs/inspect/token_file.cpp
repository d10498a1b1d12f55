// `longlora inspect` of a token file: prints its size, its sources, and the lengths of its documents, which decide what
// context a model can learn from it.
#include <algorithm>
#include <numeric>

#include "core/clock.h"
#include "io/json.h"
#include "io/token_file.h"
#include "jobs/command_line/describe.h"
#include "jobs/inspect/kinds.h"

namespace longlora {
namespace {

std::int64_t length_of(const TokenFile& file, std::int64_t document) {
    const auto& begin = file.document_begin();
    return static_cast<std::int64_t>(begin[static_cast<std::size_t>(document) + 1] - begin[document]);
}

/// One line for each length: how many documents have at least this length, and their share of all tokens.
std::string lengths(const TokenFile& file) {
    std::string out;
    for (std::int64_t least = 1024; least <= (std::int64_t{1} << 20); least *= 4) {
        std::int64_t documents = 0, tokens = 0;
        for (std::int64_t d = 0; d < file.num_documents(); ++d) {
            const std::int64_t n = length_of(file, d);
            if (n >= least) ++documents, tokens += n;
        }
        if (!documents) break;
        const auto percent = static_cast<std::int64_t>(
            100.0 * static_cast<double>(tokens) / static_cast<double>(file.num_tokens()) + 0.5);
        out += inspect_line(
            "", text(grouped(documents), " of at least ", grouped(least), " tokens, ", percent, " % of all"));
    }
    return out;
}

std::string longest(const TokenFile& file) {
    std::vector<std::int64_t> order(file.num_documents());
    std::iota(order.begin(), order.end(), 0);
    const std::size_t shown = std::min<std::size_t>(5, order.size());
    std::partial_sort(order.begin(), order.begin() + shown, order.end(), [&](std::int64_t a, std::int64_t b) {
        return std::pair(length_of(file, b), a) < std::pair(length_of(file, a), b);
    });
    std::string out;
    for (std::size_t i = 0; i < shown; ++i)
        out += inspect_line(i ? "" : "longest",
                            text(grouped(length_of(file, order[i])), " tokens  ", file.document_name(order[i])));
    return out;
}

std::string sources(const TokenFile& file) {
    const Json list = parse_json(file.info().sources, file.path());
    if (!list.is_array() || list.empty()) return "";
    std::int64_t bytes = 0;
    for (const Json& source : list)
        if (source.is_object() && source.contains("bytes") && source["bytes"].is_number_integer())
            bytes += source["bytes"].get<std::int64_t>();
    return inspect_line("made from",
                        text(grouped(list.size()), list.size() == 1 ? " file, " : " files, ", bytes_text(bytes)));
}

}  // namespace

std::string inspect_token_file(const InspectOptions& options) {
    const TokenFile file(options.path);
    const std::int64_t documents = file.num_documents(), tokens = file.num_tokens();
    std::string out = "token file " + options.path + "\n";
    out += inspect_line("tokens", text(grouped(tokens), " (", name_of(file.token_dtype()), ", ",
                                       bytes_text(tokens * size_of(file.token_dtype())), ")"));
    out += inspect_line("documents", text(grouped(documents),
                                          documents ? ", on average " + grouped(tokens / documents) + " tokens" : ""));
    out += lengths(file) + longest(file);
    out += inspect_line("vocabulary",
                        text(grouped(file.vocabulary()), ", bos ", file.bos() < 0 ? "none" : std::to_string(file.bos()),
                             ", eos ", file.eos() < 0 ? "none" : std::to_string(file.eos())));
    const bool ready = file.tokenizer_hash().empty();
    out += inspect_line("tokenizer", ready ? "none: the inputs were token ids"
                                           : file.tokenizer_kind() + ", sha256 " + file.tokenizer_hash());
    out += sources(file);
    out += inspect_line("content", file.content_hash());
    if (!options.verify.on) return out;
    file.verify_all();
    return out + inspect_line("verified", "every block matches its checksum, every id is inside the vocabulary");
}

}  // namespace longlora
