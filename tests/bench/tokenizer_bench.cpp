// tokenizer_bench TOKENIZER TEXTS [IDS TEXTS_OF_IDS]: how fast a tokenizer makes ids of texts. With IDS it also
// compares the ids with those of another program, and the texts that both make of the ids; random_texts.py of
// tests/golden/tokenizers writes these files by the library `tokenizers`. In each file a record is a length (uint32, in
// bytes or in ids) and that many bytes or int32 ids.
#include <cstdio>
#include <cstring>

#include "core/clock.h"
#include "core/error.h"
#include "io/file.h"
#include "io/tokenizer.h"

using namespace longlora;

namespace {

using Ids = std::vector<std::int32_t>;

template <class Item> std::vector<std::vector<Item>> read_records(const std::string& path) {
    const std::string content = read_text_file(path);
    std::vector<std::vector<Item>> records;
    for (std::size_t at = 0; at < content.size();) {
        std::uint32_t count = 0;
        std::memcpy(&count, content.data() + at, 4);
        std::vector<Item> record(count);
        std::memcpy(record.data(), content.data() + at + 4, count * sizeof(Item));
        records.push_back(std::move(record));
        at += 4 + count * sizeof(Item);
    }
    return records;
}

std::string shown(const Ids& ids) {
    std::string out;
    for (std::size_t i = 0; i < ids.size() && i < 40; ++i) out += text(" ", ids[i]);
    return out;
}

/// Counts the records that differ, and shows the first ones.
class Comparison {
public:
    explicit Comparison(const char* what) : what_(what) {}
    ~Comparison() { std::printf("%s: %lld of %lld differ\n", what_, differ_, records_); }
    void compare(bool same, const std::string& given, const std::string& want, const std::string& got) {
        ++records_;
        if (same || ++differ_ > 3) return;
        std::printf("%s differ for %s\n  want %s\n  got  %s\n", what_, given.c_str(), want.c_str(), got.c_str());
    }

private:
    const char* what_;
    long long records_ = 0, differ_ = 0;
};

void run(int argc, char** argv) {
    require(argc == 3 || argc == 5, "give TOKENIZER TEXTS [IDS TEXTS_OF_IDS]");
    const auto tokenizer = open_tokenizer(argv[1]);
    const auto texts = read_records<char>(argv[2]);
    std::vector<Ids> ids;
    std::size_t bytes = 0, num_ids = 0;
    const double begin = now_seconds();
    for (const auto& content : texts) {
        ids.push_back(tokenizer->encode({content.data(), content.size()}));
        bytes += content.size(), num_ids += ids.back().size();
    }
    const double seconds = now_seconds() - begin;
    std::printf("%zu texts, %zu bytes, %zu ids: %.2f MB/s\n", texts.size(), bytes, num_ids,
                static_cast<double>(bytes) / 1e6 / seconds);
    if (argc == 3) return;
    const auto wanted = read_records<std::int32_t>(argv[3]);
    const auto decoded = read_records<char>(argv[4]);
    Comparison comparison("ids"), texts_of_ids("texts of ids");
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        if (i < ids.size())
            comparison.compare(ids[i] == wanted[i], {texts[i].data(), texts[i].size()}, shown(wanted[i]),
                               shown(ids[i]));
        const std::string want(decoded[i].data(), decoded[i].size()), got = tokenizer->decode(wanted[i]);
        texts_of_ids.compare(got == want, shown(wanted[i]), want, got);
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(argc, argv);
        return 0;
    } catch (const std::exception& problem) {
        std::fprintf(stderr, "tokenizer_bench: %s\n", problem.what());
        return 2;
    }
}
