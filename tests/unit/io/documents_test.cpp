// Tests repair of UTF-8 against tables, and the reading of every kind of source: whole, cut anywhere, and truncated.
#include <zlib.h>
#include <zstd.h>

#include "core/random.h"
#include "io/checksum.h"
#include "io/documents.h"
#include "io/json.h"
#include "io/utf8.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(documents)

const std::string kR = "\xef\xbf\xbd";

BOOST_AUTO_TEST_CASE(maximal_subparts_are_replaced) {
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"plain", "plain"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"a\xf1\x80\x80\xe1\x80\xc2"
         "b\x80"
         "c\x80\xbf"
         "d",
         "a" + kR + kR + kR + "b" + kR + "c" + kR + kR + "d"},  // Unicode 15, table 3-8
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82"
         "A",
         kR + kR + kR + kR + kR + kR + kR + kR + "A"},  // table 3-9: overlong
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf"
         "A",
         kR + kR + kR + kR + kR + kR + kR + kR + "A"},  // table 3-10: surrogates
        {"\xf4\x91\x92\x93\xff"
         "A\x80\xbf"
         "B",
         kR + kR + kR + kR + kR + "A" + kR + kR + "B"},  // table 3-11
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"
         "A",
         kR + kR + kR + kR + "A"},  // table 3-11: truncated
        {"end\xe2\x82", "end" + kR}};
    for (const auto& [bad, good] : cases) {
        std::string content = bad;
        const std::int64_t replaced = repair_utf8(content);
        BOOST_TEST(content == good);
        std::int64_t expected = 0;
        for (std::size_t at = good.find(kR); at != std::string::npos; at = good.find(kR, at + 3)) ++expected;
        BOOST_TEST(replaced == expected);
        for (std::size_t step = 1; step < 4; ++step) {  // the same in pieces
            Utf8Repair repair;
            std::string out;
            for (std::size_t at = 0; at < bad.size(); at += step)
                out += repair.add(std::string_view(bad).substr(at, step));
            BOOST_TEST(out + repair.finish() == good);
            BOOST_TEST(repair.num_replaced() == replaced);
        }
    }
}

static void write_gzip(const std::string& path, const std::string& content) {
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, content.data(), static_cast<unsigned>(content.size()));
    gzclose(file);
}

static void write_zstd(const std::string& path, const std::string& content) {
    std::string packed(ZSTD_compressBound(content.size()), '\0');
    ZSTD_CCtx* state = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(state, ZSTD_c_checksumFlag, 1);  // as the command line tool does
    packed.resize(ZSTD_compress2(state, packed.data(), packed.size(), content.data(), content.size()));
    ZSTD_freeCCtx(state);
    spill(path, packed);
}

struct Read {
    std::vector<std::string> names, texts;
    std::vector<std::vector<std::int64_t>> tokens;
    std::int64_t replaced = 0, progress = 0;
};

static void read_part(Read& all, const Source& source, const SourcePart& part, DType bin = DType::uint16) {
    read_documents(
        source, part, bin,
        [&](DocumentPart&& d) {
            if (d.first) all.names.push_back(d.name), all.texts.push_back(""), all.tokens.emplace_back();
            all.texts.back() += d.text;
            all.tokens.back().insert(all.tokens.back().end(), d.tokens.begin(), d.tokens.end());
            all.replaced += d.num_replaced;
        },
        [&](std::int64_t bytes) { all.progress += bytes; });
}

static Read read_all(const std::string& path, DType bin = DType::uint16) {
    Read all;
    for (const Source& source : list_sources({path})) read_part(all, source, {0, source.bytes, 0}, bin);
    return all;
}

static std::string lines_of(int n) {
    std::string lines;
    for (int i = 0; i < n; ++i) {
        lines += i % 7 == 3 ? "\n" : "";
        lines += i % 3 == 0 ? text("{\"tokens\": [", i, ", 7]}\n")
                            : text("{\"text\": \"", std::string(static_cast<std::size_t>(i % 50), 'x'), i,
                                   "\", \"id\": \"n", i, "\"}", i % 2 ? "\r\n" : "\n");
    }
    return lines;
}

BOOST_AUTO_TEST_CASE(all_kinds_of_jsonl_give_the_same_documents) {
    Scratch scratch;
    const std::string lines = lines_of(400);
    spill(scratch / "a.jsonl", lines);
    write_gzip(scratch / "a.jsonl.gz", lines);
    write_zstd(scratch / "a.jsonl.zst", lines);
    const Read plain = read_all(scratch / "a.jsonl"), gzip = read_all(scratch / "a.jsonl.gz"),
               zstd = read_all(scratch / "a.jsonl.zst");
    BOOST_TEST(plain.names.size() == 400u);
    BOOST_TEST(plain.names[0] == "a.jsonl:1");
    BOOST_TEST(plain.names[1] == "n1");
    BOOST_TEST(plain.names[3] == "a.jsonl:5");  // a blank line is counted
    BOOST_TEST(plain.texts[2] == "xx2");
    BOOST_TEST((plain.tokens[6] == std::vector<std::int64_t>{6, 7}));
    BOOST_TEST(plain.progress == static_cast<std::int64_t>(lines.size()));
    BOOST_TEST((gzip.texts == plain.texts && gzip.tokens == plain.tokens && zstd.texts == plain.texts &&
                zstd.tokens == plain.tokens));
    write_gzip(scratch / "b.jsonl.gz", lines);
    // Several compressed members may follow one another in a file.
    spill(scratch / "two.jsonl.gz", slurp(scratch / "a.jsonl.gz") + slurp(scratch / "b.jsonl.gz"));
    BOOST_TEST(read_all(scratch / "two.jsonl.gz").names.size() == 800u);
    spill(scratch / "two.jsonl.zst", slurp(scratch / "a.jsonl.zst") + slurp(scratch / "a.jsonl.zst"));
    BOOST_TEST(read_all(scratch / "two.jsonl.zst").names.size() == 800u);
}

BOOST_AUTO_TEST_CASE(a_jsonl_cut_anywhere_gives_each_document_once_with_its_line) {
    Scratch scratch;
    const std::string lines = lines_of(25) + "{\"text\": \"no newline at the end\"}";
    spill(scratch / "a.jsonl", lines);
    const Source source = list_sources({scratch / "a.jsonl"})[0];
    const Read whole = read_all(scratch / "a.jsonl");
    for (std::int64_t cut = 0; cut <= source.bytes; ++cut) {
        const SourceScan scan = scan_source(source.path, {0, cut, std::min(cut + 9, source.bytes)});
        Read parts;
        for (const SourcePart& part : scan.parts) read_part(parts, source, part);
        BOOST_TEST((parts.names == whole.names && parts.texts == whole.texts && parts.tokens == whole.tokens),
                   "cut at " << cut);
    }
    BOOST_TEST(scan_source(source.path, {0}).sha256 == sha256_of(lines));
}

/// Lines that are longer than the pieces in which files are read, and cuts at, before and after their ends.
BOOST_AUTO_TEST_CASE(long_lines_are_cut_at_their_ends) {
    Scratch scratch;
    std::string lines;
    std::vector<std::int64_t> ends;
    for (const std::size_t length : {std::size_t{3} << 20, std::size_t{10}, std::size_t{1} << 20, std::size_t{5}}) {
        lines += to_line({{"text", std::string(length, static_cast<char>('a' + ends.size()))}}) + "\n";
        ends.push_back(static_cast<std::int64_t>(lines.size()));
    }
    spill(scratch / "a.jsonl", lines);
    const Source source = list_sources({scratch / "a.jsonl"})[0];
    const Read whole = read_all(scratch / "a.jsonl");
    std::vector<std::int64_t> positions{0, 1, 1 << 20};
    for (const std::int64_t end : ends)
        for (const std::int64_t position : {end - 1, end, end + 1})
            if (position <= source.bytes) positions.push_back(position);
    const SourceScan scan = scan_source(source.path, positions);
    Read parts;
    std::int64_t at = 0;
    for (const SourcePart& part : scan.parts) {
        read_part(parts, source, part);
        BOOST_TEST(part.begin == at);
        BOOST_TEST((part.begin == 0 || lines[static_cast<std::size_t>(part.begin) - 1] == '\n'));
        at = part.end;
    }
    BOOST_TEST(at == source.bytes);
    BOOST_TEST((parts.names == whole.names && parts.texts == whole.texts));
}

BOOST_AUTO_TEST_CASE(bytes_that_changed_after_the_scan_are_refused) {
    Scratch scratch;
    std::string lines = lines_of(30);
    if (lines.size() % 2) lines += '\n';  // whole ids of two bytes
    for (const char* name : {"a.jsonl", "a.txt", "a.bin", "a.jsonl.gz", "a.jsonl.zst"}) {
        const std::string path = scratch / name;
        const auto write = [&](const std::string& content) {
            if (path.ends_with(".gz")) write_gzip(path, content);
            else if (path.ends_with(".zst")) write_zstd(path, content);
            else spill(path, content);
        };
        const bool whole = !path.ends_with("jsonl");
        write(lines);
        const Source source = list_sources({path})[0];
        const SourceScan scan = scan_source(path, whole ? std::vector<std::int64_t>{0} : std::vector{0L, 200L, 500L});
        const auto read = [&] {
            Read all;
            for (const SourcePart& part : scan.parts) read_part(all, source, part);
        };
        read();
        for (const char* place : {"xx", "xt\""}) {  // in a text, and in a key, without which the line is no document
            std::string changed = lines;
            changed[changed.find(place, 300)] = 'y';
            write(changed);
            if (list_sources({path})[0].bytes == source.bytes)
                REFUSED("has other bytes than when it was hashed", read());
            else BOOST_TEST(whole);  // compressed to another size, which prepare refuses
        }
    }
}

BOOST_AUTO_TEST_CASE(texts_and_ids_are_read) {
    Scratch scratch;
    spill(scratch / "t.txt", "bad \xff byte");
    const Read content = read_all(scratch / "t.txt");
    BOOST_TEST(content.texts[0] == "bad " + kR + " byte");
    BOOST_TEST(content.replaced == 1);
    std::string ids;
    for (int i = 0; i < 1'500'000; ++i) ids += static_cast<char>(i), ids += static_cast<char>(i >> 8);
    spill(scratch / "i.bin", ids);
    const Read read = read_all(scratch / "i.bin");
    BOOST_TEST(read.tokens.size() == 1u);
    BOOST_TEST(read.tokens[0].size() == 1'500'000u);
    BOOST_TEST(read.tokens[0][1'400'001] == (1'400'001 & 0xffff));
    BOOST_TEST(read_all(scratch / "i.bin", DType::uint32).tokens[0][0] == 0x10000);
    spill(scratch / "i.bin", "12345");
    REFUSED("has 5 bytes, which is not a whole number of uint16 ids", read_all(scratch / "i.bin"));
    spill(scratch / "e.bin", "");
    BOOST_TEST(read_all(scratch / "e.bin").tokens.size() == 1u);
}

BOOST_AUTO_TEST_CASE(json_strings_that_are_not_unicode_are_repaired) {
    Scratch scratch;
    spill(scratch / "a.jsonl", "{\"text\": \"a\\ud83d\\ude00b\\ud83dc\\\\ud800 \\udc00\xff\"}\n");
    const Read read = read_all(scratch / "a.jsonl");
    BOOST_TEST(read.texts[0] ==
               "a\xf0\x9f\x98\x80"
               "b" +
                   kR + "c\\ud800 " + kR + kR);
    BOOST_TEST(read.replaced == 3);
}

BOOST_AUTO_TEST_CASE(bad_lines_name_file_and_line) {
    Scratch scratch;
    const auto line = [&](const std::string& bad) {
        spill(scratch / "a.jsonl", "{\"text\": \"x\"}\n\n" + bad + "\n");
        read_all(scratch / "a.jsonl");
    };
    REFUSED("a.jsonl, line 3 is not valid JSON", line("{\"text\": \"x"));
    REFUSED("a.jsonl, line 3 is not a JSON object", line("[1]"));
    REFUSED("a.jsonl, line 3 has neither \"text\" nor \"tokens\"", line("{\"content\": 1}"));
    REFUSED("a.jsonl, line 3: \"text\" is not a string", line("{\"text\": null}"));
    REFUSED("a.jsonl, line 3: \"tokens\" is not a list", line("{\"tokens\": 5}"));
    REFUSED("a.jsonl, line 3: \"tokens\" has 1.5, which is not an id", line("{\"tokens\": [1.5]}"));
    REFUSED("which is not an id", line("{\"tokens\": [18446744073709551615]}"));
}

BOOST_AUTO_TEST_CASE(truncated_and_damaged_compression_names_the_file) {
    Scratch scratch;
    std::string noise;
    for (std::uint64_t i = 0; i < 40'000; ++i) noise += text("{\"text\": \"", random_bits(1, 2, i), "\"}\n");
    write_gzip(scratch / "a.jsonl.gz", noise);
    write_zstd(scratch / "a.jsonl.zst", noise);
    for (const std::string end : {"gz", "zst"}) {
        const std::string good = slurp(scratch / ("a.jsonl." + end)), path = scratch / ("cut.jsonl." + end);
        for (std::size_t n : {std::size_t{0}, std::size_t{3}, good.size() / 2, good.size() - 5, good.size() - 1}) {
            spill(path, good.substr(0, n));
            REFUSED("cut.jsonl." + end + " is cut short", read_all(path));
        }
        std::string bad = good;
        bad[good.size() / 2] ^= 0x55;
        spill(path, bad);
        REFUSED("cut.jsonl." + end, read_all(path));
        spill(path, "{\"text\": \"not compressed\"}\n");
        REFUSED("cut.jsonl." + end + " is damaged", read_all(path));
    }
}

BOOST_AUTO_TEST_CASE(sources_are_found_in_order) {
    Scratch scratch;
    std::filesystem::create_directories(scratch / "b/sub");
    for (const char* name : {"b/z.txt", "b/a.jsonl", "b/sub/m.bin", "b/readme.md", "b/c.jsonl.gz", "x.txt"})
        spill(scratch / name, "x");
    std::vector<std::string> names;
    for (const Source& source : list_sources({scratch / "x.txt", scratch / "b"})) names.push_back(source.name);
    BOOST_TEST(names == (std::vector<std::string>{"x.txt", "a.jsonl", "c.jsonl.gz", "sub/m.bin", "z.txt"}),
               boost::test_tools::per_element());
    // Hidden files and folders are left out, unless they are inputs themselves.
    std::filesystem::create_directories(scratch / "b/.ipynb_checkpoints/sub");
    for (const char* name :
         {"b/.ipynb_checkpoints/z.txt", "b/.ipynb_checkpoints/sub/z.txt", "b/._z.txt", "b/sub/.n.bin"})
        spill(scratch / name, "x");
    BOOST_TEST(list_sources({scratch / "b"}).size() == 4u);
    BOOST_TEST(list_sources({scratch / "b/._z.txt", scratch / "b/.ipynb_checkpoints"}).size() == 3u);
    std::filesystem::create_directories(scratch / "empty");
    REFUSED("empty has no file that prepare reads (.txt, .jsonl, .jsonl.gz, .jsonl.zst, .bin)",
            list_sources({scratch / "empty"}));
    REFUSED("readme.md has an extension that prepare does not read", list_sources({scratch / "b/readme.md"}));
    REFUSED("nothing does not exist", list_sources({scratch / "nothing"}));
}

BOOST_AUTO_TEST_SUITE_END()
