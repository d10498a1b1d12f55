// Changes bytes of checkpoints and token files. Each change must give an Error that names the file and the place, or
// have no effect: everything that can be read is as before. The same holds for files that are cut. What the program
// does with a damaged file is tested by tests/faults/disk.sh.
#include <fcntl.h>
#include <unistd.h>

#include "core/random.h"
#include "io/token_file.h"
#include "run/checkpoint_files.h"
#include "tests/faults/damage_testing.h"

using namespace longlora;
using namespace longlora::damage_testing;

namespace {

constexpr int kRandomBytes = 2000, kCuts = 200;

/// Everything that a reader of checkpoints can find out.
std::string read_checkpoint(const std::string& path) {
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    reader.verify_all();
    std::string all = text(reader.attributes(), '\n', reader.schema_version(), '\n');
    for (const TensorEntry& entry : reader.entries()) {
        std::string bytes(static_cast<std::size_t>(entry.size_bytes()), '\0');
        reader.read(entry.name, 0, entry.shape.count(), bytes.data());
        all += text(entry.name, name_of(entry.dtype), to_text(entry.shape), '\n') + bytes;
    }
    return all;
}

/// Everything that a reader of token files can find out.
std::string read_tokens(const std::string& path) {
    const TokenFile file(path);
    file.verify_all();
    const TokenFileInfo& info = file.info();
    std::string all = text(info.tokenizer_kind, ' ', info.tokenizer_hash, ' ', info.vocabulary, ' ', info.bos, ' ',
                           info.eos, info.sources, file.content_hash());
    for (std::int64_t d = 0; d < file.num_documents(); ++d)
        all += text(file.document_begin()[static_cast<std::size_t>(d)], file.document_name(d));
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(file.num_tokens()));
    file.read(0, file.num_tokens(), tokens.data());
    return all + std::string(reinterpret_cast<const char*>(tokens.data()), 4 * tokens.size());
}

/// Writes a file with a checkpoint's names and layout and `elements` elements in each tensor. HDF5 indexes groups of
/// more than eight tensors in another way than small groups.
void write_checkpoint(const std::string& path, int parameters, std::int64_t elements) {
    std::vector<NamedTensor> tensors;
    for (int p = 0; p < parameters; ++p)
        tensors.push_back(
            {text("master/model.layers.", p, ".self_attn.q_proj.lora_a.weight"), DType::float32, {elements / 4, 4}});
    for (const char* kind : {"moment1/", "moment2/"})
        tensors.push_back({kind + std::string("model.norm.weight"), DType::float32, {elements}});
    const NamedTensorLayout layout =
        create_named_tensor_file(path, kCheckpointFormat, kCheckpointVersion, tensors,
                                 R"({"step": 7, "options": {"free": {}, "identity": {"seed": 0}}})");
    const FileHandle file = FileHandle::open_write(path);
    std::vector<ChecksumPiece> pieces;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
        std::vector<float> values(static_cast<std::size_t>(elements));
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_normal(3, t, i));
        write_slice(file, layout, static_cast<std::int64_t>(t), 0, values.data(), 4 * elements, pieces);
    }
    write_checksums(file, layout, std::move(pieces));
}

void write_tokens(const std::string& path, int documents, int tokens) {
    std::vector<std::vector<std::int32_t>> contents(static_cast<std::size_t>(documents));
    for (std::size_t d = 0; d < contents.size(); ++d)
        for (int t = 0; t < tokens; ++t)
            contents[d].push_back(static_cast<std::int32_t>(random_below(256, 4, d, static_cast<std::uint64_t>(t))));
    write_token_file(path, {"none", "", 256, 1, 2, R"([{"name": "book.txt", "bytes": 12}])"}, contents);
}

/// For each byte of the file, the name of the tensor that it belongs to; "" for the metadata of HDF5 and of the
/// container.
std::vector<std::string> tensor_of_bytes(const std::string& path, const char* format) {
    const NamedTensorReader reader(path, format, 1);
    std::vector<std::string> names(std::filesystem::file_size(path));
    for (const TensorEntry& entry : reader.entries())
        std::fill_n(names.begin() + entry.offset, entry.size_bytes(), entry.name);
    return names;
}

struct Kind {
    const char* format;
    std::string (*read)(const std::string&);
};
constexpr Kind kCheckpoint{kCheckpointFormat, read_checkpoint}, kTokenFile{kTokenFileFormat, read_tokens};

void every_byte_of_headers(const Kind& kind, const std::string& path) {
    Damage damage(path, kind.read);
    const std::vector<std::string> names = tensor_of_bytes(path, kind.format);
    for (std::size_t at = 0; at < names.size(); ++at)
        if (names[at].empty()) damage.flip(at, static_cast<unsigned char>(1 + random_below(255, 1, 0, at)), "");
    damage.report("bytes of headers");
}

void random_bytes(const Kind& kind, const std::string& path) {
    Damage damage(path, kind.read);
    const std::vector<std::string> names = tensor_of_bytes(path, kind.format);
    for (int i = 0; i < kRandomBytes; ++i) {
        const std::size_t at = random_below(names.size(), 2, 0, static_cast<std::uint64_t>(i));
        damage.flip(at, static_cast<unsigned char>(1u << random_below(8, 3, 0, static_cast<std::uint64_t>(i))),
                    names[at]);
    }
    damage.report("random bytes");
}

void random_cuts(const Kind& kind, const std::string& path) {
    Damage damage(path, kind.read);
    const std::uint64_t size = std::filesystem::file_size(path);
    for (int i = 0; i < kCuts; ++i) damage.cut(random_below(size, 5, 0, static_cast<std::uint64_t>(i)));
    damage.report("cuts");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(every_byte)

BOOST_AUTO_TEST_CASE(headers_of_a_checkpoint) {
    const MemoryFolder folder;
    write_checkpoint(folder / "step-00000007.h5", 10, 64);
    every_byte_of_headers(kCheckpoint, folder / "step-00000007.h5");
}

BOOST_AUTO_TEST_CASE(headers_of_a_token_file) {
    const MemoryFolder folder;
    write_tokens(folder / "data.h5", 5, 60);
    every_byte_of_headers(kTokenFile, folder / "data.h5");
}

BOOST_AUTO_TEST_CASE(random_bytes_of_a_checkpoint) {
    const MemoryFolder folder;
    write_checkpoint(folder / "step-00000007.h5", 3, 40000);
    random_bytes(kCheckpoint, folder / "step-00000007.h5");
}

BOOST_AUTO_TEST_CASE(random_bytes_of_a_token_file) {
    const MemoryFolder folder;
    write_tokens(folder / "data.h5", 20, 20000);
    random_bytes(kTokenFile, folder / "data.h5");
}

/// A tensor of two blocks: tests the checksum of the second block, too.
BOOST_AUTO_TEST_CASE(random_bytes_of_two_blocks) {
    const MemoryFolder folder;
    write_checkpoint(folder / "step-00000007.h5", 1, (1 << 18) + 4000);
    Damage damage(folder / "step-00000007.h5", read_checkpoint);
    const std::vector<std::string> names = tensor_of_bytes(folder / "step-00000007.h5", kCheckpointFormat);
    for (std::uint64_t i = 0; i < 100; ++i) {
        const std::size_t at = random_below(names.size(), 6, 0, i);
        damage.flip(at, 1, names[at]);
    }
    damage.report("random bytes of two blocks");
}

BOOST_AUTO_TEST_CASE(cuts) {
    const MemoryFolder folder;
    write_checkpoint(folder / "step-00000007.h5", 3, 4000);
    write_tokens(folder / "data.h5", 20, 300);
    random_cuts(kCheckpoint, folder / "step-00000007.h5");
    random_cuts(kTokenFile, folder / "data.h5");
}

BOOST_AUTO_TEST_SUITE_END()
