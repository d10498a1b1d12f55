// The words and the JSON contain the same facts, so that either of them is enough to repeat the measurement.
#include "jobs/evaluate/report.h"

#include <cstdio>

namespace longlora {
namespace {

/// Whether `r` is the first result of its context length. The others of that length differ only in which tokens count.
bool first_of_context(const std::vector<Result>& results, const Result& r) {
    return &r == &results.front() || r.measurement.rules.context != (&r - 1)->measurement.rules.context;
}

std::string short_hash(const std::string& hash) { return hash.substr(0, 12); }

std::string model_words(const Protocol& p) {
    std::string out = p.source.model_path;
    if (!p.model_hash.empty()) out += " (sha256 " + short_hash(p.model_hash) + ")";
    if (p.source.adapter)
        out += " + adapter " + p.source.adapter->path + " (sha256 " + short_hash(p.adapter_hash) + ")";
    if (!p.source.checkpoint_path.empty()) {
        const std::string checkpoint = text("checkpoint ", p.source.checkpoint_path, " (step ",
                                            p.source.attributes.value("step", std::int64_t{0}), ")");
        out = out.empty() ? checkpoint : checkpoint + " on " + out;
    }
    return out;
}

std::string data_words(const TokenFile& file) {
    return text(file.path(), " (", file.num_tokens(), " tokens, ", file.num_documents(), " documents, sha256 ",
                short_hash(file.content_hash()), ")");
}

std::string window_words(const Protocol& p, const std::vector<Result>& results) {
    std::string out = p.options.stride ? text("start every ", p.options.stride, " tokens")
                                       : std::string("start every context, so none overlap");
    out += p.options.per_document.on ? ", inside one document each" : ", cross from one document into the next";
    if (p.options.windows > 0) out += text("; only the first ", p.options.windows);
    if (p.options.per_document.on)
        for (const Result& r : results)
            if (first_of_context(results, r))
                out += text("; ", r.list.skipped_documents, " of ", r.list.documents, " documents are shorter than ",
                            r.measurement.rules.context, " and left out");
    return out;
}

std::string score_words(Score score) {
    return score == Score::all
               ? "all: every token of a window but its first is predicted and counted; early tokens have little context"
               : "last: the last stride tokens of a window are counted; of a first window all tokens but its first";
}

std::string attention_words(const Protocol& p, const std::vector<Result>& results) {
    std::string out = p.options.attention;
    if (results.front().measurement.pattern.kind == AttentionKind::dense)
        return out + " (a token sees every earlier token of its window)";
    out += ", group";
    for (const Result& r : results)
        if (first_of_context(results, r))
            out += text(&r == &results.front() ? " " : ", ", r.measurement.pattern.group, " of ",
                        r.measurement.rules.context);
    return out;
}

std::string rope_words(const ModelConfig& c) {
    std::string out = c.rope.kind == RopeKind::none ? std::string("no scaling")
                                                    : text(name_of(c.rope.kind), " scaling by ", c.rope.factor);
    return out + text(", base ", c.rope.theta, ", covers ", c.covered_positions(), " tokens");
}

std::string line(const char* what, const std::string& words) {
    char head[24];
    std::snprintf(head, sizeof head, "  %-10s", what);
    return head + words + "\n";
}

std::string mesh_words(const Protocol& p) {
    const parallel::MeshShape& m = p.mesh;
    std::string out = text(m.num_ranks(), " rank(s)");
    if (m.num_ranks() > 1)
        out += text(" (pipeline ", m.pipeline, " x data ", m.data, " x sequence ", m.sequence,
                    p.options.zero == 3 ? ", weights sharded" : "", ")");
    return out;
}

Json machine_json(const Protocol& p) {
    return {{"ranks", p.mesh.num_ranks()},
            {"mesh", {{"pipeline", p.mesh.pipeline}, {"data", p.mesh.data}, {"sequence", p.mesh.sequence}}},
            {"zero", p.options.zero},
            {"threads_per_rank", p.threads},
            {"device", p.device}};
}

Json rope_json(const ModelConfig& c) {
    return {{"kind", name_of(c.rope.kind)},
            {"factor", c.rope.factor},
            {"theta", c.rope.theta},
            {"original_positions", c.original_positions()},
            {"covered_positions", c.covered_positions()}};
}

Json model_json(const Protocol& p) {
    Json out{{"path", p.source.model_path}, {"hash", p.model_hash}};
    if (p.source.adapter) out["adapter"] = {{"path", p.source.adapter->path}, {"hash", p.adapter_hash}};
    if (!p.source.checkpoint_path.empty())
        out["checkpoint"] = {{"path", p.source.checkpoint_path},
                             {"step", p.source.attributes.value("step", std::int64_t{0})}};
    return out;
}

}  // namespace

std::string table_header() {
    return "context    stride  score   windows       tokens       nll   perplexity  tokens/s";
}

std::string table_row(const Result& r) {
    const WindowRules& rules = r.measurement.rules;
    const double rate = static_cast<double>(r.perplexity.windows * rules.context) / r.perplexity.seconds;
    char row[160];
    std::snprintf(row, sizeof row, "%7lld %9lld  %-5s %9lld %12lld %9.5f %12.4f %9.0f",
                  static_cast<long long>(rules.context), static_cast<long long>(rules.stride),
                  std::string(name_of(rules.score)).c_str(), static_cast<long long>(r.perplexity.windows),
                  static_cast<long long>(r.perplexity.tokens), r.perplexity.nll(), r.perplexity.value(), rate);
    return row;
}

std::string context_warnings(const ModelConfig& config, const std::vector<Result>& results) {
    std::string out;
    for (const Result& r : results)
        if (first_of_context(results, r)) out += context_warning(config, r.measurement.rules.context);
    return out;
}

std::string context_warning(const ModelConfig& config, std::int64_t context) {
    if (context <= config.covered_positions()) return "";
    return text("note: a context of ", context, " tokens is more than the ", config.covered_positions(),
                " that the model's configuration covers; rotary scaling stays as it is (", rope_text(config.rope),
                "); change it with --rope and --rope-factor\n");
}

std::string protocol_text(const Protocol& p, const std::vector<Result>& results) {
    std::string out = "protocol\n" + line("model", model_words(p));
    for (const auto& file : p.files) out += line("data", data_words(*file));
    out += line("windows", window_words(p, results));
    for (const auto& score : p.options.score) out += line("counted", score_words(score_of(score)));
    out += line("nll", "mean of -ln p over all counted tokens of all windows; perplexity = e^nll");
    out += line("attention", attention_words(p, results));
    out += line("rope", rope_words(p.source.config));
    return out +
           line("computed", text("in ", p.dtype, " on ", mesh_words(p), " x ", p.threads, " thread(s), ", p.device));
}

Json to_json(const Protocol& p, const std::vector<Result>& results) {
    Json data = Json::array(), rows = Json::array(), groups = Json::object(), skipped = Json::object();
    for (const auto& file : p.files)
        data.push_back({{"path", file->path()},
                        {"hash", file->content_hash()},
                        {"tokens", file->num_tokens()},
                        {"documents", file->num_documents()}});
    for (const Result& r : results) {
        const WindowRules& rules = r.measurement.rules;
        rows.push_back({{"context", rules.context},
                        {"stride", rules.stride},
                        {"score", name_of(rules.score)},
                        {"windows", r.perplexity.windows},
                        {"tokens", r.perplexity.tokens},
                        {"nll", r.perplexity.nll()},
                        {"perplexity", r.perplexity.value()}});
        if (r.measurement.pattern.kind != AttentionKind::dense)
            groups[text(rules.context)] = r.measurement.pattern.group;
        if (rules.per_document) skipped[text(rules.context)] = r.list.skipped_documents;
    }
    Json protocol{{"model", model_json(p)},
                  {"data", data},
                  {"attention", p.options.attention},
                  {"rope", rope_json(p.source.config)},
                  {"dtype", p.dtype},
                  {"score", p.options.score},
                  {"stride", p.options.stride},
                  {"per_document", p.options.per_document.on},
                  {"first_windows", p.options.windows},
                  {"machine", machine_json(p)},
                  {"version", LONGLORA_VERSION},
                  {"words", protocol_text(p, results)}};
    if (!groups.empty()) protocol["group_by_context"] = groups;
    if (!skipped.empty()) protocol["skipped_documents_by_context"] = skipped;
    return {{"protocol", protocol}, {"results", rows}};
}

}  // namespace longlora
