// The phases of `longlora prepare`. Each phase that can fail on one rank alone ends in parallel::agree().
#include "jobs/prepare/prepare.h"

#include <cstdio>
#include <memory>
#include <numeric>

#include "core/clock.h"
#include "core/error.h"
#include "io/json.h"
#include "io/token_file.h"
#include "jobs/command_line/progress.h"
#include "jobs/command_line/same_options.h"
#include "jobs/prepare/assemble.h"
#include "jobs/prepare/frame.h"
#include "jobs/prepare/units.h"
#include "jobs/process/output.h"
#include "parallel/agree.h"

namespace longlora {

namespace {

/// The state that all phases share.
struct Preparation {
    Preparation(const PrepareOptions& given, const parallel::HostGroup& ranks) : options(given), group(ranks) {}
    const PrepareOptions& options;
    const parallel::HostGroup& group;
    std::string parts_folder, partial;
    std::unique_ptr<Output> output;  // rank 0
    std::string token;               // of the output's lock, on all ranks
    std::unique_ptr<Tokenizer> tokenizer;
    TokenizeSettings settings;
    TextFrame frame;  // why the settings put these ids around texts
    std::vector<HashedSource> sources;
    std::vector<Unit> units;
    std::vector<int> owner;  // the rank that makes each unit
    bool continued = false;  // spool files of an earlier run exist (known to rank 0)
    bool lead() const { return group.rank() == 0; }
    bool mine(std::size_t unit) const { return owner[unit] == group.rank(); }
    /// Throws an Error if another job writes the output now.
    void require_ours() const {
        if (lead()) output->require_held();
        else require_lock_of(lock_of_output(options.output), token);
    }
    UnitFolder unit_folder() const {
        return {parts_folder, token, [this] { require_ours(); }};
    }
};

/// The counts of a unit for the final layout and the summary; ranks exchange them.
struct UnitCounts {
    std::int64_t tokens, documents, name_bytes, empty, replaced, text_bytes, text_tokens, twice;
};

void check_options(const PrepareOptions& o) {
    require(!o.output.empty(), "no output file is named");
    require(!o.inputs.empty(), "no input is given");
    require(o.tokenizer.empty() || o.vocabulary == 0,
            "--tokenizer and --vocabulary exclude each other: the tokenizer knows its vocabulary");
    require(!o.tokenizer.empty() || o.vocabulary != 0,
            "give --tokenizer for texts, or --vocabulary for inputs that are token ids");
    require(o.vocabulary >= 0 && o.vocabulary <= 0x7fffffff, "--vocabulary is ", o.vocabulary,
            "; it must be 1 to 2147483647");
    require(o.bos == "auto" || o.bos == "true" || o.bos == "false", "--bos is ", o.bos,
            "; it must be auto, true or false");
    require(o.bin_type == "uint16" || o.bin_type == "uint32", "--bin-type is ", o.bin_type,
            "; it must be uint16 or uint32");
    read_back_of(o.verify, "--verify");
}

void open_and_list(Preparation& p) {
    const PrepareOptions& o = p.options;
    std::string packed;
    parallel::agree(p.group, [&] {
        check_options(o);
        if (!o.tokenizer.empty()) p.tokenizer = open_tokenizer(o.tokenizer);
        if (!p.lead()) return;
        Json list = Json::array();
        for (const Source& s : list_sources(o.inputs)) {
            require(p.tokenizer || s.kind != SourceKind::text, s.path,
                    " is a text; give --tokenizer instead of --vocabulary");
            // File names may hold any bytes, so JSON gets them as lists of numbers.
            list.push_back({std::vector<unsigned char>(s.path.begin(), s.path.end()),
                            std::vector<unsigned char>(s.name.begin(), s.name.end()), static_cast<int>(s.kind),
                            s.bytes});
        }
        packed = list.dump();
    });
    for (const Json& s : parse_json(p.group.broadcast(packed), "the list of inputs")) {
        const auto path = s[0].get<std::vector<unsigned char>>(), name = s[1].get<std::vector<unsigned char>>();
        HashedSource source;
        source.path.assign(path.begin(), path.end());
        source.name.assign(name.begin(), name.end());
        source.kind = static_cast<SourceKind>(s[2].get<int>());
        source.bytes = s[3].get<std::int64_t>();
        p.sources.push_back(source);
    }
    require_same_content(p.group, text("the tokenizer ", o.tokenizer), p.tokenizer ? p.tokenizer->key() : "");
    parallel::agree(p.group, [&] {
        p.settings.tokenizer = p.tokenizer.get();
        p.settings.vocabulary = p.tokenizer ? p.tokenizer->vocabulary() : o.vocabulary;
        if (p.tokenizer) p.frame = decide_frame(o, *p.tokenizer, p.settings);
        p.settings.bin_type = o.bin_type == "uint16" ? DType::uint16 : DType::uint32;
    });
}

/// Rank 0 locks the output, if it may be written; all ranks get the token of the lock.
void take_output(Preparation& p) {
    const std::string& path = p.options.output;
    std::vector<std::string> inputs{p.options.tokenizer};
    for (const HashedSource& source : p.sources) inputs.push_back(source.path);
    parallel::agree(p.group, [&] {
        if (p.lead())
            p.output = std::make_unique<Output>(path, [&] { require_replaceable(path, token_file_output(), inputs); });
    });
    p.token = p.group.broadcast(p.lead() ? p.output->token() : "");
    p.parts_folder = path + ".parts";
    p.partial = Output::partial_of(path, p.token);
}

Json to_json(const std::vector<SourcePart>& parts) {
    Json list = Json::array();
    for (const SourcePart& part : parts) list.push_back({part.begin, part.end, part.lines_before, *part.checksum});
    return list;
}
SourcePart part_of(const Json& json) {
    return {json[0].get<std::int64_t>(), json[1].get<std::int64_t>(), json[2].get<std::int64_t>(),
            json[3].get<std::uint32_t>()};
}

/// Which inputs this rank sees, and on which node. Equal texts: the same files.
std::string place_of(const Preparation& p) {
    std::string place = text(p.group.node());
    for (const std::string& input : p.options.inputs)
        place += file_exists(input) ? "\n" + file_identity(input) : "\nnone";
    return place;
}

/// The ranks that hash the sources: those that see rank 0's inputs on rank 0's node. What other ranks read must equal
/// it.
std::vector<int> hashing_ranks(const Preparation& p) {
    const std::vector<std::string> places = p.group.all_gather(parallel::agreed(p.group, [&] { return place_of(p); }));
    std::vector<int> ranks;
    for (int r = 0; r < p.group.size(); ++r)
        if (places[r] == places[0]) ranks.push_back(r);
    return ranks;
}

/// Hashes every source and cuts it into its parts; the sources are distributed by size. Afterwards all ranks know all
/// units, and a checksum of each part, which the rank that reads the part verifies.
void hash_and_plan(Preparation& p) {
    p.units = plan_units({p.sources.begin(), p.sources.end()});
    std::vector<std::int64_t> sizes;
    for (const HashedSource& source : p.sources) sizes.push_back(source.bytes);
    const std::vector<int> hashers = hashing_ranks(p);
    const std::vector<int> hasher = distribute_by_size(sizes, static_cast<int>(hashers.size()));
    std::vector<std::vector<SourcePart*>> cuts(p.sources.size());
    for (Unit& unit : p.units)
        for (UnitPart& part : unit.parts) cuts[part.source].push_back(&part.range);
    Json found = Json::array();
    parallel::agree(p.group, [&] {
        for (std::size_t s = 0; s < p.sources.size(); ++s) {
            if (hashers[hasher[s]] != p.group.rank()) continue;
            std::vector<std::int64_t> positions;
            for (const SourcePart* part : cuts[s]) positions.push_back(part->begin);
            const SourceScan scan = scan_source(p.sources[s].path, positions);
            require(scan.bytes == p.sources[s].bytes, p.sources[s].path, " has ", scan.bytes, " bytes, but ",
                    p.sources[s].bytes, " when it was listed; do not change files meanwhile");
            found.push_back({s, scan.sha256, to_json(scan.parts)});
        }
    });
    for (const std::string& packed : p.group.all_gather(found.dump())) {
        for (const Json& entry : parse_json(packed, "the hashes of another rank")) {
            const auto s = entry[0].get<std::size_t>();
            p.sources[s].sha256 = entry[1].get<std::string>();
            for (std::size_t i = 0; i < cuts[s].size(); ++i) *cuts[s][i] = part_of(entry[2][i]);
        }
    }
    sizes.clear();
    for (const Unit& unit : p.units) sizes.push_back(unit.bytes);
    p.owner = distribute_by_size(sizes, p.group.size());
}

/// Shows the progress of all ranks. Rank 0 finds finished units of other ranks by their result files, so that ranks
/// need no messages while they work.
class UnitProgress {
public:
    UnitProgress(const Preparation& p, std::vector<bool> done) : p_(p), done_(std::move(done)) {
        std::int64_t total = 0;
        for (const Unit& unit : p.units) total += unit.bytes;
        progress_ = std::make_unique<Progress>("preparing", total, bytes_text, p.lead());
    }
    void read(std::int64_t bytes) {
        current_ += bytes;
        if (progress_->due()) show();
    }
    void finished(std::size_t unit) {
        done_[unit] = true;
        current_ = 0;
        if (progress_->due()) show();
    }
    void show() {
        std::int64_t bytes = current_;
        for (std::size_t u = 0; u < done_.size(); ++u) {
            if (!done_[u] && !p_.mine(u)) done_[u] = file_exists(unit_result_path(p_.parts_folder, u));
            if (done_[u]) bytes += p_.units[u].bytes;
        }
        progress_->update(bytes);
    }

private:
    const Preparation& p_;
    std::vector<bool> done_;
    std::int64_t current_ = 0;
    std::unique_ptr<Progress> progress_;
};

std::vector<UnitCounts> tokenize(Preparation& p) {
    std::vector<bool> made(p.units.size(), false);
    parallel::agree(p.group, [&] {
        if (!p.lead()) return;
        p.continued = file_exists(p.parts_folder);
        create_folders(p.parts_folder);
        remove_unfinished(p.parts_folder);
    });
    parallel::agree(p.group, [&] {
        for (std::size_t u = 0; u < p.units.size(); ++u)
            if (p.mine(u)) made[u] = unit_is_made(p.parts_folder, u, unit_key(p.units[u], p.sources, p.settings));
    });
    std::vector<std::int64_t> counts;  // for each unit: its index and its UnitCounts
    parallel::agree(p.group, [&] {
        UnitProgress watch(p, made);
        for (std::size_t u = 0; u < p.units.size(); ++u) {
            if (!p.mine(u)) continue;
            const std::int64_t index = u;
            const UnitResult r = made[u] ? read_unit_result(p.parts_folder, index)
                                         : make_unit(p.unit_folder(), index, p.units[u], p.sources, p.settings,
                                                     [&](std::int64_t bytes) { watch.read(bytes); });
            watch.finished(u);
            counts.insert(counts.end(), {index, r.num_tokens, r.num_documents(), r.name_bytes(), r.num_empty,
                                         r.num_replaced, r.text_bytes, r.text_tokens, r.num_twice});
        }
    });
    std::vector<UnitCounts> all(p.units.size());
    for (const std::string& packed : p.group.all_gather(Json(counts).dump())) {
        const auto c = parse_json(packed, "the counts of another rank").get<std::vector<std::int64_t>>();
        for (std::size_t i = 0; i + 9 <= c.size(); i += 9)
            all[c[i]] = {c[i + 1], c[i + 2], c[i + 3], c[i + 4], c[i + 5], c[i + 6], c[i + 7], c[i + 8]};
    }
    return all;
}

std::string attributes_of(const Preparation& p) {
    TokenFileInfo info;
    info.tokenizer_kind = p.tokenizer ? p.tokenizer->kind() : "none";
    info.tokenizer_hash = p.tokenizer ? p.tokenizer->hash() : "";
    info.vocabulary = p.settings.vocabulary;
    if (p.tokenizer) info.bos = p.tokenizer->bos(), info.eos = p.tokenizer->eos();
    Json list = Json::array();
    for (const HashedSource& source : p.sources)
        list.push_back({{"name", source.name}, {"bytes", source.bytes}, {"sha256", source.sha256}});
    info.sources = to_line(list);
    return token_file_attributes(info);
}

/// Removes what rank 0 may still remove: OUT.h5.TOKEN.partial, and with `parts` the spool files, if no other job has
/// taken over.
void remove_unfinished_output(const Preparation& p, bool parts) {
    if (!p.output) return;
    try {
        remove_file(p.partial);
        p.require_ours();
        if (parts) remove_units(p.parts_folder);
    } catch (const Error&) {
        // The Error that ended the job says more.
    }
}

/// Rank 0 creates OUT.h5.TOKEN.partial, all ranks fill it, and rank 0 renames it. Returns the size of the file.
std::int64_t assemble(Preparation& p, const std::vector<UnitCounts>& counts, const UnitCounts& total) {
    std::string packed;
    parallel::agree(p.group, [&] {
        if (!p.lead()) return;
        const auto tensors = token_file_tensors(p.settings.vocabulary, total.tokens, total.documents, total.name_bytes);
        packed = pack_layout(
            create_named_tensor_file(p.partial, kTokenFileFormat, kTokenFileVersion, tensors, attributes_of(p)));
    });
    const NamedTensorLayout layout = unpack_layout(p.group.broadcast(packed));
    std::vector<UnitSizes> sizes;
    for (const UnitCounts& c : counts) sizes.push_back({c.tokens, c.documents, c.name_bytes});
    const auto slices = slices_of_ranks(layout, sizes, p.owner, p.group.size());
    SliceReader reader(slices[p.group.rank()], p.parts_folder, size_of(layout.entries[kTokens].dtype),
                       [&](std::int64_t unit) { return unit_key(p.units[unit], p.sources, p.settings); });
    fill_token_file(p.group, layout, slices, reader, read_back_of(p.options.verify, "--verify"));
    parallel::agree(p.group, [&] {
        if (!p.lead()) return;
        p.require_ours();
        rename_file(p.partial, p.options.output);
        remove_units(p.parts_folder);
        p.output.reset();
    });
    return layout.file_bytes;
}

void print_summary(const Preparation& p, const UnitCounts& total, std::int64_t file_bytes, double seconds) {
    std::printf("%s: %lld documents, %lld tokens of a vocabulary of %lld", p.options.output.c_str(),
                static_cast<long long>(total.documents), static_cast<long long>(total.tokens),
                static_cast<long long>(p.settings.vocabulary));
    if (total.text_tokens > 0)
        std::printf(", %.2f bytes of text per token",
                    static_cast<double>(total.text_bytes) / static_cast<double>(total.text_tokens));
    std::printf(", %s, %s\n", bytes_text(file_bytes).c_str(), duration_text(seconds).c_str());
    if (total.text_tokens > 0) {
        for (const std::string& note : p.tokenizer->notes()) std::printf("  note: %s\n", note.c_str());
        std::printf("  %s\n", sentence_of_end(*p.tokenizer, "begin", p.frame.begin).c_str());
        std::printf("  %s\n", sentence_of_end(*p.tokenizer, "end", p.frame.end).c_str());
    }
    if (total.twice)
        std::printf(
            "  texts that have the begin ids themselves, and now twice, as with transformers: %lld (--bos true "
            "puts none there)\n",
            static_cast<long long>(total.twice));
    if (total.empty) std::printf("  empty documents skipped: %lld\n", static_cast<long long>(total.empty));
    if (total.replaced)
        std::printf("  ill-formed UTF-8 sequences replaced by U+FFFD: %lld\n", static_cast<long long>(total.replaced));
    std::fflush(stdout);
}

}  // namespace

int run_prepare(const PrepareOptions& options, const parallel::HostGroup& group) {
    const double begin = now_seconds();
    Preparation p(options, group);
    open_and_list(p);
    take_output(p);
    hash_and_plan(p);
    try {
        const std::vector<UnitCounts> counts = tokenize(p);
        UnitCounts total{};
        for (const UnitCounts& c : counts) {
            total.tokens += c.tokens, total.documents += c.documents, total.name_bytes += c.name_bytes,
                total.empty += c.empty;
            total.replaced += c.replaced, total.text_bytes += c.text_bytes, total.text_tokens += c.text_tokens,
                total.twice += c.twice;
        }
        if (total.tokens == 0)
            throw parallel::AgreedError(
                text("the inputs have no tokens: all their ", total.empty, " documents are empty"));
        const std::int64_t file_bytes = assemble(p, counts, total);
        if (p.lead()) print_summary(p, total, file_bytes, now_seconds() - begin);
    } catch (const Error&) {
        // All ranks get here. The spool files stay for the next try if they took a minute or more, or if an earlier run
        // made some of them; otherwise they are removed.
        constexpr double kWorthKeeping = 60;
        remove_unfinished_output(p, !p.continued && now_seconds() - begin < kWorthKeeping);
        p.output.reset();
        group.barrier();  // no rank leaves before the files are removed
        throw;
    }
    return static_cast<int>(ExitCode::done);
}

}  // namespace longlora
