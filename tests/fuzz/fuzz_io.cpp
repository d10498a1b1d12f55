// fuzz_io SECONDS [SEED]: gives damaged files to the parsers of io/: safetensors, token and named-tensor files,
// tokenizer.json, tokenizer.model, .jsonl. Each parser must read the file completely or refuse it by an Error;
// anything else (another exception, a crash, a report of a sanitizer) ends the program with a failure. Equal seeds
// give equal files. The tests run it for seconds; by hand, built with the asan preset, run it for a minute.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>

#include "core/clock.h"
#include "core/error.h"
#include "core/random.h"
#include "io/documents.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/token_file.h"
#include "io/tokenizer.h"
#include "io/torch_file.h"

using namespace longlora;

/// HDF5 1.10 leaks some memory of its own when it refuses a damaged file.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace {

/// The random numbers of one round.
struct Dice {
    std::uint64_t seed, round, index = 0;
    std::uint64_t below(std::uint64_t n) { return random_below(n, seed, round, index++); }
    bool one_in(std::uint64_t n) { return below(n) == 0; }
};

const std::uint64_t kInteresting[] = {0,
                                      1,
                                      2,
                                      7,
                                      8,
                                      127,
                                      128,
                                      255,
                                      256,
                                      65535,
                                      65536,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      ~0ull,
                                      1ull << 60};
const char* const kWords[] = {"0",     "-1",      "1e999",    "99999999999999999999",
                              "null",  "true",    "[]",       "{}",
                              "\"",    "\\",      "[[[[[[[[", "\"a\":",
                              "\xff",  "\\ud800", "F32",      "U8",
                              "[0,8]", "1.5"};

std::string spoil(std::string bytes, Dice& dice) {
    for (std::uint64_t changes = 1 + dice.below(4); changes > 0; --changes) {
        if (bytes.empty()) return bytes;
        // At least half of the changes hit the first 600 bytes, since headers matter most.
        const std::size_t at =
            dice.one_in(2) ? dice.below(std::min<std::size_t>(bytes.size(), 600)) : dice.below(bytes.size());
        const std::uint64_t value = kInteresting[dice.below(std::size(kInteresting))];
        const std::string word = kWords[dice.below(std::size(kWords))];
        switch (dice.below(8)) {
            case 0:
                bytes[at] = static_cast<char>(bytes[at] ^ (1 << dice.below(8)));
                break;
            case 1:
                bytes[at] = static_cast<char>(dice.below(256));
                break;
            case 2:
                std::memcpy(bytes.data() + at, &value, std::min<std::size_t>(bytes.size() - at, 1ull << dice.below(4)));
                break;
            case 3:
                bytes.resize(at);
                break;
            case 4:
                bytes.insert(at, word);
                break;
            case 5:
                bytes.replace(at, word.size(), word);
                break;
            case 6:
                bytes.erase(at, 1 + dice.below(16));
                break;
            default:
                bytes.insert(at, bytes.substr(dice.below(bytes.size()), dice.below(64)));
        }
    }
    return bytes;
}

/// Runs a parser, which may only throw an Error. Returns whether the parser accepted the file.
bool taken(const std::function<void()>& parse) {
    try {
        parse();
    } catch (const Error&) {
        return false;
    }
    return true;
}

/// One kind of file: a valid example, and how to read it completely.
struct Kind {
    std::string name, good;
    std::function<void(const std::string& path)> read;
    std::function<std::string(Dice&)> make = nullptr;  // makes the damaged file, instead of damaging `good`
    std::int64_t num_taken = 0, num_refused = 0;
};

void read_safetensors(const std::string& path) {
    const SafetensorsFile file(path);
    unsigned sum = 0;
    for (const std::string& name : file.names()) {
        taken([&] {
            const HostTensor tensor = *file.find(name);
            for (std::int64_t i = 0; i < tensor.size_bytes(); ++i) sum += static_cast<unsigned>(tensor.bytes[i]);
        });
    }
    if (sum == 1) std::puts("");  // uses the sum, so that the compiler keeps the reads
}

void read_torch_file(const std::string& path) {
    const TorchFile file(path);
    unsigned sum = 0;
    for (const std::string& name : file.names())
        taken([&] {
            const HostTensor tensor = *file.find(name);
            for (std::int64_t i = 0; i < tensor.size_bytes(); ++i) sum += static_cast<unsigned>(tensor.bytes[i]);
        });
    if (sum == 1) std::puts("");
}

void use_tokenizer_json(const std::string& path) {
    const auto tokenizer = open_tokenizer_json(path);
    tokenizer->decode(tokenizer->encode("a b 12 <|end|>\u00e9\u65e5"));
}

void read_token_file(const std::string& path) {
    const TokenFile file(path);
    taken([&] { file.verify_all(); });
    for (std::int64_t d = 0; d < std::min<std::int64_t>(file.num_documents(), 50); ++d)
        taken([&] { file.document_name(d); });
    if (file.num_tokens() > 0) file.document_of(file.num_tokens() - 1);
}

void read_named_tensors(const std::string& path) {
    const NamedTensorReader reader(path, "fuzz", 1);
    reader.verify_all();
    for (const TensorEntry& entry : reader.entries()) {
        std::string all(static_cast<std::size_t>(entry.size_bytes()), '\0');
        reader.read(entry.name, 0, entry.shape.count(), all.data());
    }
}

void read_source(const std::string& path) {
    for (const Source& source : list_sources({path}))
        read_documents(
            source, {0, source.bytes, 0}, DType::uint16, [](DocumentPart&&) {}, [](std::int64_t) {});
}

std::string write_named_tensors(const std::string& path) {
    const std::vector<NamedTensor> tensors = {
        {"a/b", DType::float32, {30, 4}}, {"a/c", DType::bfloat16, {5}}, {"n", DType::int64, {}}};
    const auto layout = create_named_tensor_file(path, "fuzz", 1, tensors, "{\"x\": 1}");
    const FileHandle file = FileHandle::open_write(path);
    std::vector<ChecksumPiece> pieces;
    const std::string zeros(480, '\1');
    for (std::int64_t i = 0; i < 3; ++i)
        write_slice(file, layout, i, 0, zeros.data(), tensors[static_cast<std::size_t>(i)].size_bytes(), pieces);
    write_checksums(file, layout, pieces);
    return read_text_file(path);
}

/// A token file whose checksums are right but whose contents contradict each other.
std::string lying_token_file(const std::string& path, Dice& dice) {
    const auto few = [&] { return static_cast<std::int64_t>(dice.below(6)); };
    const std::int64_t vocabulary = dice.one_in(3) ? 70000 : 100;
    auto tensors = token_file_tensors(vocabulary, few(), few(), few());
    if (dice.one_in(4)) tensors[dice.below(4)].dtype = static_cast<DType>(dice.below(10));
    if (dice.one_in(4)) tensors[dice.below(4)].shape = dice.one_in(2) ? Shape{} : Shape{few(), few()};
    TokenFileInfo info{"none",
                       "",
                       dice.one_in(4) ? few() : vocabulary,
                       static_cast<std::int32_t>(few()) - 2,
                       static_cast<std::int32_t>(few()) - 2,
                       "[]"};
    std::string attributes = token_file_attributes(info);
    if (dice.one_in(3)) attributes = spoil(attributes, dice);
    const auto layout = create_named_tensor_file(path, kTokenFileFormat, kTokenFileVersion, tensors, attributes);
    const FileHandle file = FileHandle::open_write(path);
    std::vector<ChecksumPiece> pieces;
    for (std::size_t t = 0; t < 4; ++t) {
        std::vector<std::uint64_t> values(static_cast<std::size_t>(tensors[t].size_bytes()) / 8 + 1);
        std::uint64_t rising = 0;
        for (auto& value : values)
            value = dice.one_in(5) ? kInteresting[dice.below(std::size(kInteresting))] : (rising += dice.below(3));
        if (!dice.one_in(4)) values[0] = 0;
        const bool positions = t == kDocumentBegin || t == kDocumentNameBegin;
        if (positions && tensors[t].shape.count() > 0 && !dice.one_in(4))  // in most files the last position is right
            values[std::min(static_cast<std::size_t>(tensors[t].shape.count()), values.size()) - 1] =
                static_cast<std::uint64_t>(tensors[t == kDocumentBegin ? 0 : 2].shape.count());
        write_slice(file, layout, static_cast<std::int64_t>(t), 0, values.data(), tensors[t].size_bytes(), pieces);
    }
    write_checksums(file, layout, pieces);
    return read_text_file(path);
}

std::vector<Kind> kinds_of(const std::string& folder) {
    const std::string golden = SOURCE_FOLDER "/tests/golden/";
    std::string header = R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                         R"("b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]},)"
                         R"("c":{"dtype":"BF16","shape":[1,1,1,1,2],"data_offsets":[19,23]}})";
    std::string safetensors(8, '\0');
    safetensors[0] = static_cast<char>(header.size());
    safetensors += header + std::string(23, 'd');
    write_token_file(folder + "/t.h5", {"none", "", 100, 1, 2, "[]"}, {{1, 2, 3}, {}, {99, 5}}, {"one", "two"});
    return {{"safetensors", safetensors, read_safetensors},
            {"token file", read_text_file(folder + "/t.h5"), read_token_file},
            {"lying token file", "", read_token_file,
             [=](Dice& dice) { return lying_token_file(folder + "/lie.h5", dice); }},
            {"named tensors", write_named_tensors(folder + "/n.h5"), read_named_tensors},
            {"torch file", read_text_file(golden + "torch/tensors.bin"), read_torch_file},
            {"tokenizer.json", read_text_file(golden + "tokenizers/digits/tokenizer.json"), use_tokenizer_json},
            {"tokenizer.json with bytes", read_text_file(golden + "tokenizers/fallback/tokenizer.json"),
             use_tokenizer_json},
            {"tokenizer.model", read_text_file(golden + "tokenizers/sentencepiece/tokenizer.model"),
             [](const std::string& p) { open_sentencepiece(p)->encode("a b 12"); }},
            {"jsonl",
             "{\"text\": \"a\\u00e9\\ud83d\\ude00\", \"id\": 3}\n{\"tokens\": [1, 2, 3]}\n\n{\"title\": \"t\", "
             "\"text\": \"\"}\n",
             read_source}};
}

}  // namespace

int main(int argc, char** argv) {
    const double seconds = argc > 1 ? std::atof(argv[1]) : 2;
    const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
    std::string folder = (std::filesystem::temp_directory_path() / "longlora-fuzz-XXXXXX").string();
    if (!mkdtemp(folder.data())) return 1;
    std::vector<Kind> kinds = kinds_of(folder);
    const double end = now_seconds() + seconds;
    std::uint64_t round = 0;
    for (; now_seconds() < end; ++round) {
        Kind& kind = kinds[round % kinds.size()];
        Dice dice{seed, round};
        const std::string path = folder + (kind.name == "jsonl" ? "/x.jsonl" : "/x");
        const std::string bytes = kind.make ? kind.make(dice) : spoil(kind.good, dice);
        {
            const FileHandle file = FileHandle::create(path);
            file.write_at(bytes.data(), static_cast<std::int64_t>(bytes.size()), 0);
        }
        try {
            ++(taken([&] { kind.read(path); }) ? kind.num_taken : kind.num_refused);
        } catch (const std::exception& problem) {
            std::printf("FAILED: %s, seed %llu, round %llu: %s (the file is %s)\n", kind.name.c_str(),
                        static_cast<unsigned long long>(seed), static_cast<unsigned long long>(round), problem.what(),
                        path.c_str());
            return 1;
        }
    }
    for (const Kind& kind : kinds) {
        std::printf("%-18s %lld taken, %lld refused\n", kind.name.c_str(), static_cast<long long>(kind.num_taken),
                    static_cast<long long>(kind.num_refused));
        if (kind.num_refused == 0) return 1;  // the damage has no effect
    }
    std::filesystem::remove_all(folder);
    return 0;
}
