// Plans work units, tokenizes them, and writes and reads their spool files.
#include "jobs/prepare/units.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <regex>
#include <string_view>

#include "core/error.h"
#include "io/checksum.h"
#include "io/json.h"
#include "io/utf8.h"

namespace longlora {

namespace {

constexpr std::int64_t kSmallestUnit = std::int64_t{1} << 18, kLargestUnit = std::int64_t{1} << 26, kUnitsWanted = 256;
const std::string kUnit = "unit-", kPartial = ".partial";

std::string unit_path(const std::string& folder, std::int64_t index, const char* ending) {
    char name[48];
    std::snprintf(name, sizeof name, "%06lld.%s", static_cast<long long>(index), ending);
    return folder + "/" + kUnit + name;
}

/// The regular files in a folder.
std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
        if (std::error_code vanished; std::filesystem::is_regular_file(at->symlink_status(vanished)))
            names.push_back(at->path().filename().string());
    return names;
}

/// Whether unit_path() makes this name, or that of an unfinished file from it: unit-000012.json.TOKEN.partial; in older
/// versions without TOKEN. The folder may hold files of somebody else, which stay.
bool is_unit_name(const std::string& name, bool unfinished) {
    static const std::regex finished_name("unit-[0-9]{6,}\\.(tokens|json)"),
        unfinished_name("unit-[0-9]{6,}\\.(tokens|json)(\\.[0-9a-f]{16})?\\.partial");
    return std::regex_match(name, unfinished ? unfinished_name : finished_name);
}

/// Whether a result file begins as those of make_unit() do, with the first of its sorted keys; in newer versions there
/// is one before it. A damaged file may be cut short.
bool may_be_result(const std::string& path) {
    constexpr std::string_view kBegins[] = {"{\"document_ends\":", "{\"counted\":"};
    char bytes[32];
    const auto n = static_cast<std::size_t>(FileHandle::open_read(path).read_some(bytes, sizeof bytes, 0));
    return std::any_of(std::begin(kBegins), std::end(kBegins), [&](std::string_view begin) {
        return std::string_view(bytes, std::min(n, begin.size())) == begin.substr(0, n);
    });
}

/// Collects the tokens of a unit in the element type of the token file and writes them in pieces.
class TokenSpool {
public:
    TokenSpool(const std::string& path, DType dtype) : file_(FileHandle::create(path)), dtype_(dtype) {}
    void add(std::uint32_t id) {
        const auto* bytes = reinterpret_cast<const char*>(&id);  // little-endian: the low bytes come first
        buffer_.append(bytes, size_of(dtype_));
        if (buffer_.size() >= (1u << 20)) flush();
        ++num_tokens_;
    }
    void finish() {
        flush();
        file_.sync();
    }
    std::int64_t num_tokens() const { return num_tokens_; }
    std::uint32_t crc() const { return crc_; }

private:
    void flush() {
        file_.write_at(buffer_.data(), buffer_.size(), at_);
        crc_ = crc32c(buffer_.data(), buffer_.size(), crc_);
        at_ += static_cast<std::int64_t>(buffer_.size());
        buffer_.clear();
    }
    FileHandle file_;
    DType dtype_;
    std::string buffer_;
    std::int64_t at_ = 0, num_tokens_ = 0;
    std::uint32_t crc_ = 0;
};

/// Turns the documents of one unit into tokens.
class UnitMaker {
public:
    UnitMaker(TokenSpool& spool, UnitResult& result, const TokenizeSettings& settings)
        : spool_(spool),
          result_(result),
          settings_(settings) {}

    void add(const DocumentPart& document) {
        result_.num_replaced += document.num_replaced;
        if (document.first) begin_ = spool_.num_tokens();
        if (document.is_text) add_text(document);
        else add_ready(document);
        if (!document.last) return;
        if (spool_.num_tokens() == begin_) {
            ++result_.num_empty;
            return;
        }
        result_.document_ends.push_back(static_cast<std::uint64_t>(spool_.num_tokens()));
        result_.names.push_back(document.name);
        repair_utf8(result_.names.back());  // file names may hold any bytes
    }

private:
    void add_text(const DocumentPart& document) {
        require(settings_.tokenizer != nullptr, document.where, " is a text; give --tokenizer instead of --vocabulary");
        const std::vector<std::int32_t> ids = encode(document);
        if (ids.empty()) return;
        const Ending &begin = settings_.begin, &end = settings_.end;
        const bool begins = begins_with(ids.cbegin(), ids.cend(), begin.ids.cbegin(), begin.ids.cend());
        const bool ends = begins_with(ids.crbegin(), ids.crend(), end.ids.crbegin(), end.ids.crend());
        if (!begins || begin.repeated) add_ids(begin.ids);
        add_ids(ids);
        if (!ends || end.repeated) add_ids(end.ids);
        result_.num_twice += begins && begin.repeated && !begin.ids.empty();
        result_.text_bytes += static_cast<std::int64_t>(document.text.size());
        result_.text_tokens += static_cast<std::int64_t>(ids.size());
    }

    template <class I> static bool begins_with(I at, I end, I part, I part_end) {
        return end - at >= part_end - part && std::equal(part, part_end, at);
    }

    void add_ids(const std::vector<std::int32_t>& ids) {
        for (std::int32_t id : ids) {
            ensure(id >= 0 && id < settings_.vocabulary, "the tokenizer gives only ids of its vocabulary");
            spool_.add(static_cast<std::uint32_t>(id));
        }
    }

    std::vector<std::int32_t> encode(const DocumentPart& document) const {
        if (document.text.empty()) return {};
        try {
            return settings_.tokenizer->encode(document.text);
        } catch (const Error& error) {
            fail(text(document.where, " cannot be tokenized: ", error.what()), error.code);
        }
    }

    void add_ready(const DocumentPart& document) {
        for (std::int64_t id : document.tokens) {
            require(id >= 0 && id < settings_.vocabulary, document.where, ": token ", spool_.num_tokens() - begin_,
                    " is ", id, ", beyond the vocabulary of ", settings_.vocabulary);
            spool_.add(static_cast<std::uint32_t>(id));
        }
    }

    TokenSpool& spool_;
    UnitResult& result_;
    const TokenizeSettings& settings_;
    std::int64_t begin_ = 0;  // begin of the current document, in tokens of the unit
};

}  // namespace

std::vector<Unit> plan_units(const std::vector<Source>& sources) {
    std::int64_t total = 0;
    for (const Source& source : sources) total += source.bytes;
    const std::int64_t wanted = std::clamp(total / kUnitsWanted, kSmallestUnit, kLargestUnit);
    std::vector<Unit> units;
    bool open = false;  // the last unit may take more files
    const auto add = [&](std::int64_t source, std::int64_t begin, std::int64_t end) {
        if (!open) units.emplace_back();
        units.back().parts.push_back({source, {begin, end, 0}});
        units.back().bytes += end - begin;
        open = units.back().bytes < wanted;
    };
    for (std::size_t s = 0; s < sources.size(); ++s) {
        const std::int64_t bytes = sources[s].bytes;
        const std::int64_t cuts = sources[s].kind == SourceKind::jsonl ? std::max<std::int64_t>(1, bytes / wanted) : 1;
        for (std::int64_t c = 0; c < cuts; ++c)
            add(static_cast<std::int64_t>(s), bytes / cuts * c, c + 1 == cuts ? bytes : bytes / cuts * (c + 1));
    }
    return units;
}

std::vector<int> distribute_by_size(const std::vector<std::int64_t>& sizes, int num_ranks) {
    std::vector<std::size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return sizes[a] > sizes[b]; });
    std::vector<std::int64_t> load(num_ranks, 0);
    std::vector<int> owner(sizes.size(), 0);
    for (std::size_t i : order) {
        const auto least = std::min_element(load.begin(), load.end());
        owner[i] = static_cast<int>(least - load.begin());
        *least += sizes[i] + 1;  // + 1: an empty file is work too
    }
    return owner;
}

std::string TokenizeSettings::key() const {
    const Json ends = {begin.ids, begin.repeated, end.ids, end.repeated};
    return text("2 ", tokenizer ? tokenizer->key() : "none", " ", vocabulary, " ", to_line(ends), " ",
                name_of(bin_type));
}

std::int64_t UnitResult::name_bytes() const {
    std::int64_t bytes = 0;
    for (const std::string& name : names) bytes += static_cast<std::int64_t>(name.size());
    return bytes;
}

std::string unit_key(const Unit& unit, const std::vector<HashedSource>& sources, const TokenizeSettings& settings) {
    std::string all = settings.key();
    for (const UnitPart& part : unit.parts) {
        const HashedSource& source = sources[part.source];
        all += text("\n", source.sha256, " ", static_cast<int>(source.kind), " ", part.range.begin, " ", part.range.end,
                    " ", part.range.lines_before, " ", source.name);
    }
    return sha256_of(all);
}

std::string unit_tokens_path(const std::string& folder, std::int64_t index) {
    return unit_path(folder, index, "tokens");
}
std::string unit_result_path(const std::string& folder, std::int64_t index) { return unit_path(folder, index, "json"); }

UnitResult make_unit(const UnitFolder& folder, std::int64_t index, const Unit& unit,
                     const std::vector<HashedSource>& sources, const TokenizeSettings& settings,
                     const std::function<void(std::int64_t)>& progress) {
    UnitResult result;
    result.key = unit_key(unit, sources, settings);
    const std::string tokens = unit_tokens_path(folder.path, index),
                      unfinished = tokens + "." + folder.writer + kPartial;
    TokenSpool spool(unfinished, token_dtype_for(settings.vocabulary));
    UnitMaker maker(spool, result, settings);
    for (const UnitPart& part : unit.parts) {
        const Source& source = sources[part.source];
        read_documents(
            source, part.range, settings.bin_type, [&](DocumentPart&& document) { maker.add(document); }, progress);
    }
    spool.finish();
    folder.require_ours();
    rename_file(unfinished, tokens);
    result.num_tokens = spool.num_tokens();
    result.tokens_crc = spool.crc();
    // The result file makes the unit complete: it is written last, and it appears complete or not at all.
    const Json json = {{"key", result.key},
                       {"num_tokens", result.num_tokens},
                       {"tokens_crc", result.tokens_crc},
                       {"document_ends", result.document_ends},
                       {"names", result.names},
                       {"num_empty", result.num_empty},
                       {"num_replaced", result.num_replaced},
                       {"text_bytes", result.text_bytes},
                       {"text_tokens", result.text_tokens},
                       {"num_twice", result.num_twice}};
    write_text_file(unit_result_path(folder.path, index), to_line(json), folder.writer);
    return result;
}

UnitResult read_unit_result(const std::string& folder, std::int64_t index) {
    const std::string path = unit_result_path(folder, index);
    const Json json = read_json_file(path);
    UnitResult result;
    try {
        result.key = json.at("key").get<std::string>();
        result.num_tokens = json.at("num_tokens").get<std::int64_t>();
        result.tokens_crc = json.at("tokens_crc").get<std::uint32_t>();
        result.document_ends = json.at("document_ends").get<std::vector<std::uint64_t>>();
        result.names = json.at("names").get<std::vector<std::string>>();
        result.num_empty = json.at("num_empty").get<std::int64_t>();
        result.num_replaced = json.at("num_replaced").get<std::int64_t>();
        result.text_bytes = json.at("text_bytes").get<std::int64_t>();
        result.text_tokens = json.at("text_tokens").get<std::int64_t>();
        result.num_twice = json.at("num_twice").get<std::int64_t>();
    } catch (const Json::exception&) {
        fail(text(path, " is not a result file of prepare; remove its folder and start again"));
    }
    return result;
}

bool unit_is_made(const std::string& folder, std::int64_t index, const std::string& key) {
    const std::string path = unit_result_path(folder, index), tokens = unit_tokens_path(folder, index);
    if (!file_exists(path)) return false;
    require(may_be_result(path), path, " exists and was not made by prepare; move it away, or name another output");
    try {
        const UnitResult result = read_unit_result(folder, index);
        if (result.key == key && file_exists(tokens)) return true;
    } catch (const Error&) {  // the unit is made again
    }
    remove_file(path);
    return false;
}

void remove_unfinished(const std::string& folder) {
    for (const std::string& name : names_in(folder))
        if (is_unit_name(name, true)) remove_file(folder + "/" + name);
}

void remove_units(const std::string& folder) {
    for (const std::string& name : names_in(folder)) {
        const std::string path = folder + "/" + name;
        if (is_unit_name(name, true) ||
            (is_unit_name(name, false) && (!name.ends_with(".json") || may_be_result(path))))
            remove_file(path);
    }
    std::error_code not_empty;
    std::filesystem::remove(folder, not_empty);
}

}  // namespace longlora
