// Named-tensor files: slices are written in any order by any thread, equal tensors make equal bytes, and every damage
// is noticed.
#include <thread>

#include "core/random.h"
#include "io/hdf5.h"
#include "io/named_tensor_file.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(named_tensor_file)

static const std::vector<NamedTensor> kTensors = {{"layer.0/w", DType::float32, {700, 1000}},
                                                  {"layer.0/b", DType::bfloat16, {5}},
                                                  {"step", DType::int64, {}},
                                                  {"none", DType::float64, {0, 4}},
                                                  {"h", DType::float16, {3, 1, 2, 2}}};

static std::string content_of(const NamedTensor& tensor) {
    std::string bytes(static_cast<std::size_t>(tensor.size_bytes()), '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<char>(random_bits(1, stream_of(tensor.name), i));
    return bytes;
}

/// Writes `cuts` slices of each tensor, the last slice first, half of them from another thread.
static void write_all(const std::string& path, int cuts) {
    const NamedTensorLayout layout =
        unpack_layout(pack_layout(create_named_tensor_file(path, "test file", 3, kTensors, "{\"a\": 1}")));
    std::vector<ChecksumPiece> pieces, other;
    const FileHandle file = FileHandle::open_write(path);
    const auto write = [&](int which, std::vector<ChecksumPiece>& mine) {
        for (std::size_t t = 0; t < kTensors.size(); ++t) {
            const std::string bytes = content_of(kTensors[t]);
            const auto size = static_cast<std::int64_t>(bytes.size());
            for (int c = cuts - 1; c >= 0; --c) {
                const std::int64_t begin = size * c / cuts, end = size * (c + 1) / cuts;
                if (c % 2 == which)
                    write_slice(file, layout, static_cast<std::int64_t>(t), begin, bytes.data() + begin, end - begin,
                                mine);
            }
        }
    };
    std::thread helper([&] { write(1, other); });
    write(0, pieces);
    helper.join();
    pieces.insert(pieces.end(), other.begin(), other.end());
    write_checksums(file, layout, pieces);
    file.sync();
}

static NamedTensorReader open(const std::string& path) { return NamedTensorReader(path, "test file", 3); }

BOOST_AUTO_TEST_CASE(what_is_written_is_read) {
    Scratch scratch;
    write_all(scratch / "a.h5", 7);
    const NamedTensorReader reader = open(scratch / "a.h5");
    reader.verify_all();
    BOOST_TEST(reader.attributes() == "{\"a\": 1}");
    BOOST_TEST(reader.schema_version() == 3);
    BOOST_TEST(reader.entries().size() == kTensors.size());
    for (const NamedTensor& tensor : kTensors) {
        const TensorEntry& entry = reader.entry(tensor.name);
        BOOST_TEST((entry.dtype == tensor.dtype && entry.shape == tensor.shape), tensor.name);
        std::string whole(static_cast<std::size_t>(tensor.size_bytes()), '\0');
        reader.read(tensor.name, 0, tensor.shape.count(), whole.data());
        BOOST_TEST((whole == content_of(tensor)), tensor.name);
    }
    std::string part(4 * 300, '\0');
    reader.read("layer.0/w", 262000, 300, part.data());
    BOOST_TEST((part == content_of(kTensors[0]).substr(4 * 262000, 4 * 300)));
    REFUSED("cannot read elements 699999 to 700001 of layer.0/w; its number of elements is 700000",
            reader.read("layer.0/w", 699999, 2, part.data()));
    REFUSED("has no tensor layer.9/w", reader.entry("layer.9/w"));
}

BOOST_AUTO_TEST_CASE(a_layout_of_a_path_that_is_not_utf_8_reaches_other_ranks) {
    const NamedTensorLayout layout{"run \xff/step.h5.partial", {{kTensors[0], 16, 90}}, 100, 80};
    const NamedTensorLayout received = unpack_layout(pack_layout(layout));
    BOOST_TEST(received.path == layout.path);
    BOOST_TEST(received.file_bytes == 100);
    BOOST_TEST(received.own_bytes == 80);
    BOOST_REQUIRE_EQUAL(received.entries.size(), 1u);
    BOOST_TEST(received.entries[0].name == kTensors[0].name);
    BOOST_TEST(received.entries[0].offset == 16);
    BOOST_TEST(received.entries[0].checksums_offset == 90);
}

BOOST_AUTO_TEST_CASE(equal_tensors_make_equal_files_however_they_are_cut) {
    Scratch scratch;
    write_all(scratch / "a.h5", 1);
    write_all(scratch / "b.h5", 13);
    BOOST_TEST((slurp(scratch / "a.h5") == slurp(scratch / "b.h5")));
}

BOOST_AUTO_TEST_CASE(every_damaged_byte_is_noticed) {
    Scratch scratch;
    write_all(scratch / "a.h5", 2);
    const std::string good = slurp(scratch / "a.h5");
    const auto state = [&](const std::string& path) {  // everything that can be read from the file
        const NamedTensorReader reader = open(path);
        reader.verify_all();
        std::string all = reader.attributes();
        for (const TensorEntry& entry : reader.entries()) {
            std::string bytes(static_cast<std::size_t>(entry.size_bytes()), '\0');
            reader.read(entry.name, 0, entry.shape.count(), bytes.data());
            all += entry.name + to_text(entry.shape) + std::string(name_of(entry.dtype)) + bytes;
        }
        return all;
    };
    const std::string expected = state(scratch / "a.h5");
    const std::int64_t edge = open(scratch / "a.h5").entry("layer.0/w").offset;
    int refused = 0, harmless = 0;
    for (std::uint64_t i = 0; i < 400; ++i) {
        // Half of the flips lie before the large tensor, where HDF5's own data are.
        const bool metadata = i % 2 == 0 && edge > 0;
        const std::size_t at = random_below(metadata ? static_cast<std::uint64_t>(edge) : good.size(), 2, 3, i);
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ (1 << random_below(8, 2, 4, i)));
        spill(scratch / "bad.h5", bad);
        std::string found;
        const std::string said = sentence_of([&] { found = state(scratch / "bad.h5"); });
        if (said.empty()) {
            BOOST_TEST((found == expected), "a flip of byte " << at << " changes what is read without an error");
            ++harmless;  // padding between the parts
        } else {
            BOOST_TEST(has(said, "bad.h5"), said);
            ++refused;
        }
    }
    BOOST_TEST_MESSAGE(refused << " flips refused, " << harmless << " in unused bytes");
    BOOST_TEST(refused > 150);
}

BOOST_AUTO_TEST_CASE(truncated_garbage_and_foreign_files_are_refused_in_one_sentence) {
    Scratch scratch;
    write_all(scratch / "a.h5", 2);
    const std::string good = slurp(scratch / "a.h5");
    for (std::size_t n :
         {std::size_t{0}, std::size_t{1}, std::size_t{8}, std::size_t{100}, good.size() / 2, good.size() - 1}) {
        spill(scratch / "cut.h5", good.substr(0, n));
        REFUSED("cut.h5", open(scratch / "cut.h5"));
    }
    spill(scratch / "text.h5", "this is not HDF5 at all, whatever its name says");
    REFUSED("text.h5 is not an HDF5 file", open(scratch / "text.h5"));
    REFUSED("none.h5: No such file", open(scratch / "none.h5"));
    REFUSED("is a test file, not a longlora checkpoint", NamedTensorReader(scratch / "a.h5", "longlora checkpoint", 3));
    REFUSED("has version 3 of its format; this program reads versions up to 2",
            NamedTensorReader(scratch / "a.h5", "test file", 2));
    hdf5::File foreign = hdf5::File::create(scratch / "foreign.h5");
    foreign.create_dataset("x", DType::float32, {4});
    foreign.close();
    REFUSED("is an HDF5 file but not a test file", open(scratch / "foreign.h5"));
}

BOOST_AUTO_TEST_CASE(a_file_that_cannot_be_created_leaves_nothing) {
    Scratch scratch;
    REFUSED("no/such/a.h5", create_named_tensor_file(scratch / "no/such/a.h5", "test file", 1, kTensors, "{}"));
    REFUSED("cannot reserve", create_named_tensor_file(scratch / "big.h5", "test file", 1,
                                                       {{"x", DType::float32, {std::int64_t{1} << 56}}}, "{}"));
    BOOST_TEST(!std::filesystem::exists(scratch / "big.h5"));
    BOOST_CHECK_THROW(
        create_named_tensor_file(scratch / "a.h5", "test file", 1, {{"attributes", DType::float32, {1}}}, "{}"),
        std::logic_error);
}

BOOST_AUTO_TEST_CASE(attributes_of_hdf5_keep_their_values) {
    Scratch scratch;
    {
        hdf5::File file = hdf5::File::create(scratch / "a.h5");
        file.set_attribute("t", std::string("text"));
        file.set_attribute("i", std::int64_t{-5'000'000'000});
        file.set_attribute("r", 0.1);
        file.close();
    }
    hdf5::File file = hdf5::File::open(scratch / "a.h5");
    BOOST_TEST(file.text_attribute("t") == "text");
    BOOST_TEST(file.integer_attribute("i") == -5'000'000'000);
    BOOST_TEST(file.real_attribute("r") == 0.1);
    REFUSED("find attribute nothing of", file.integer_attribute("nothing"));
    REFUSED("is not a string", file.text_attribute("i"));
    file.close();
}

BOOST_AUTO_TEST_SUITE_END()
