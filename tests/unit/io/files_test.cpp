// Files of the operating system and JSON texts: what the functions do and what their messages name.
#include <sys/resource.h>
#include <sys/stat.h>
#include <csignal>

#include "io/file.h"
#include "io/json.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(files)

BOOST_AUTO_TEST_CASE(text_files_are_written_whole) {
    Scratch scratch;
    const std::string path = scratch / "a.txt", content = "x\0y" + std::string(200'000, 'z');
    write_text_file(path, content);
    BOOST_TEST((read_text_file(path) == content));
    write_text_file(path, "short");
    BOOST_TEST(read_text_file(path) == "short");
    BOOST_TEST(!file_exists(path + ".partial"));
    write_text_file(path, "");
    BOOST_TEST(read_text_file(path).empty());
    BOOST_TEST(MappedFile(path).size() == 0);
}

BOOST_AUTO_TEST_CASE(failures_name_path_and_reason) {
    Scratch scratch;
    REFUSED("cannot open " + scratch / "none" + ": No such file", FileHandle::open_read(scratch / "none"));
    REFUSED("it is a folder", FileHandle::open_read(scratch.folder));
    REFUSED("it is a folder", read_text_file(scratch.folder));
    BOOST_REQUIRE(mkfifo((scratch / "pipe").c_str(), 0600) == 0);  // nobody writes into it
    REFUSED("pipe: it is not a regular file", FileHandle::open_read(scratch / "pipe"));
    REFUSED("it is not a regular file", read_text_file("/dev/zero"));
    REFUSED("No such file or directory", write_text_file(scratch / "no/such", "x"));
    REFUSED("No such file or directory", MappedFile(scratch / "none"));
    spill(scratch / "f", "12345");
    REFUSED("cannot create the folder", create_folders(scratch / "f"));
    const FileHandle file = FileHandle::open_read(scratch / "f");
    char out[8];
    REFUSED("is cut short: it ends at byte 5 where 3 more", file.read_at(out, 6, 2));
    REFUSED("cannot write", file.write_at(out, 1, 0));
    BOOST_TEST(file.read_some(out, 8, 1) == 4);
    remove_file(scratch / "f");
    remove_file(scratch / "f");
    BOOST_TEST(folder_of("a/b/c") == "a/b");
    BOOST_TEST(folder_of("c") == ".");
}

BOOST_AUTO_TEST_CASE(a_full_disk_is_reported_in_one_sentence) {
    Scratch scratch;
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit old = [] {
        rlimit r;
        getrlimit(RLIMIT_FSIZE, &r);
        return r;
    }();
    rlimit small = old;
    small.rlim_cur = 1000;  // write() and fallocate() fail as on a full disk, with another errno
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string said = sentence_of([&] { write_text_file(scratch / "big", std::string(5000, 'x')); });
    const std::string reserved = sentence_of([&] { FileHandle::create(scratch / "r").reserve(5000); });
    setrlimit(RLIMIT_FSIZE, &old);
    BOOST_TEST(has(said, "big"), said);
    BOOST_TEST(has(reserved, "cannot reserve 5000 bytes"), reserved);
    BOOST_TEST(!file_exists(scratch / "big"));
    BOOST_TEST(!file_exists(scratch / "big.partial"));
}

BOOST_AUTO_TEST_CASE(json_problems_name_their_file) {
    REFUSED("c.json is not valid JSON (line 1, column 6: unexpected number literal)",
            parse_json("{\"a\" 1}", "c.json"));
    REFUSED("is not valid JSON", parse_json("", "c.json"));
    REFUSED("is not valid JSON", parse_json("{} {}", "c.json"));
    const Json json = parse_json("{\"a\": 1.5, \"b\": 7, \"c\": 18446744073709551615, \"d\": \"t\"}", "c.json");
    BOOST_TEST(get_integer(json, "b", "c.json") == 7);
    BOOST_TEST(get_text(json, "d", "c.json") == "t");
    REFUSED("c.json: \"a\" is 1.5, not a whole number", get_integer(json, "a", "c.json"));
    REFUSED("not a whole number", get_integer(json, "c", "c.json"));
    REFUSED("c.json has no \"x\"", get_integer(json, "x", "c.json"));
    REFUSED("not a string", get_text(json, "b", "c.json"));
    REFUSED("has no \"x\"", get_text(parse_json("[1]", "l"), "x", "l"));
}

BOOST_AUTO_TEST_SUITE_END()
