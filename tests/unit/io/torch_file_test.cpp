// Files that torch.save wrote (tests/golden/torch), files of our own writer with the structure that torch.load needs,
// and files that are damaged or hold something else.
#include <zlib.h>

#include <cstring>

#include "core/random.h"
#include "io/json.h"
#include "io/torch_file.h"
#include "io/zip_archive.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

namespace {

const std::string kFolder = SOURCE_FOLDER "/tests/golden/torch/";

double value_of(const HostTensor& t, std::int64_t i) {
    if (t.dtype == DType::float32) return static_cast<double>(reinterpret_cast<const float*>(t.bytes)[i]);
    if (t.dtype == DType::float16) return static_cast<double>(reinterpret_cast<const fp16*>(t.bytes)[i]);
    if (t.dtype == DType::bfloat16) return static_cast<double>(reinterpret_cast<const bf16*>(t.bytes)[i]);
    return reinterpret_cast<const double*>(t.bytes)[i];
}

TensorToWrite ramp(const std::string& name, DType dtype, Shape shape, unsigned char first) {
    return {name, dtype, shape, [=](std::byte* out) {
                for (std::int64_t i = 0; i < shape.count() * size_of(dtype); ++i)
                    out[i] = static_cast<std::byte>(first + i);
            }};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(torch_files)

BOOST_AUTO_TEST_CASE(tensors_that_torch_wrote_are_read) {
    const Json expected = read_json_file(kFolder + "expected.json");
    for (const auto& [file_name, tensors] : expected.items()) {
        const TorchFile file(kFolder + file_name);
        BOOST_TEST(file.names().size() == tensors.size());
        for (const auto& [name, want] : tensors.items()) {
            BOOST_TEST_CONTEXT(file_name << ", " << name) {
                const auto found = file.find(name);
                BOOST_REQUIRE(found.has_value());
                BOOST_TEST(name_of(found->dtype) == want["dtype"].get<std::string>());
                const auto sizes = want["shape"].get<std::vector<std::int64_t>>();
                BOOST_REQUIRE(found->shape.rank == static_cast<int>(sizes.size()));
                for (std::size_t i = 0; i < sizes.size(); ++i)
                    BOOST_TEST(found->shape[static_cast<int>(i)] == sizes[i]);
                BOOST_REQUIRE(found->count() == static_cast<std::int64_t>(want["values"].size()));
                for (std::int64_t i = 0; i < found->count(); ++i)
                    BOOST_TEST(value_of(*found, i) == want["values"][static_cast<std::size_t>(i)].get<double>());
            }
        }
        BOOST_TEST(!file.find("nothing").has_value());
        BOOST_TEST(!file.has("step"));
    }
}

BOOST_AUTO_TEST_CASE(what_else_torch_writes_is_refused_in_one_sentence) {
    const auto said = [](const std::string& name) { return sentence_of([&] { TorchFile file(kFolder + name); }); };
    BOOST_TEST(has(said("transposed.bin"), "the tensor t is not contiguous"));
    BOOST_TEST(has(said("old_format.bin"), "is not a file of PyTorch 1.6 or later"));
    BOOST_TEST(has(said("program.bin"), "has the name posix getcwd, which a dict of tensors does not need"));
    BOOST_TEST(has(said("list.bin"), "does not hold a dict of tensors"));
    const TorchFile file(kFolder + "integers.bin");
    REFUSED("tensor flags has the type BoolStorage, which is not supported", file.find("flags"));
}

BOOST_AUTO_TEST_CASE(what_is_written_is_read_and_is_a_sound_zip_file) {
    Scratch scratch;
    const std::vector<TensorToWrite> tensors = {ramp("b", DType::bfloat16, {2, 5}, 7),
                                                ramp("a \xc3\xa9", DType::float32, {3}, 1),
                                                ramp("scalar", DType::float32, {}, 9)};
    const std::string path = scratch / "w.bin";
    write_torch_file(path, tensors);
    const TorchFile file(path);
    BOOST_TEST(file.names().size() == tensors.size());
    for (const TensorToWrite& tensor : tensors) {
        const auto found = file.find(tensor.name);
        BOOST_REQUIRE(found.has_value());
        BOOST_TEST((found->dtype == tensor.dtype && found->shape == tensor.shape));
        std::string expected(static_cast<std::size_t>(tensor.size_bytes()), '\0');
        tensor.fill(reinterpret_cast<std::byte*>(expected.data()));
        BOOST_TEST(std::memcmp(found->bytes, expected.data(), expected.size()) == 0);
    }
    const MappedFile map(path);
    const auto entries = zip_entries(map);
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries) {
        names.push_back(name);
        const auto* bytes = reinterpret_cast<const Bytef*>(map.data() + entry.begin);
        BOOST_TEST(crc32_z(0, bytes, static_cast<z_size_t>(entry.bytes)) == entry.crc, name);
        if (has(name, "/data/")) BOOST_TEST(entry.begin % 64 == 0, name);
    }
    const std::vector<std::string> expected = {"archive/byteorder", "archive/data.pkl", "archive/data/0",
                                               "archive/data/1",    "archive/data/2",   "archive/version"};
    BOOST_TEST(names == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_folder_with_shards_and_an_index_is_a_model) {
    Scratch scratch;
    write_torch_file(scratch / "pytorch_model-00001-of-00002.bin", {ramp("x", DType::float32, {2}, 1)});
    write_torch_file(scratch / "pytorch_model-00002-of-00002.bin", {ramp("y", DType::bfloat16, {2}, 5)});
    const std::string index = scratch / "pytorch_model.bin.index.json";
    spill(index,
          R"({"weight_map": {"x": "pytorch_model-00001-of-00002.bin", "y": "pytorch_model-00002-of-00002.bin"}})");
    const SafetensorsFolder folder(scratch.folder);
    BOOST_TEST(folder.names().size() == 2u);
    BOOST_TEST((folder.get("y").bytes[0] == std::byte{5}));
    BOOST_TEST(has(folder.file_of("x"), "pytorch_model-00001-of-00002.bin"));
    spill(index, R"({"weight_map": {"z": "pytorch_model-00001-of-00002.bin"}})");
    REFUSED("expects z in pytorch_model-00001-of-00002.bin, which does not have it", SafetensorsFolder(scratch.folder));
    std::filesystem::remove(index);
    std::filesystem::rename(scratch / "pytorch_model-00001-of-00002.bin", scratch / "pytorch_model.bin");
    BOOST_TEST(SafetensorsFolder(scratch.folder).names().size() == 1u);
    write_safetensors(scratch / "model.safetensors", {ramp("s", DType::float32, {2}, 1)});  // comes first
    BOOST_TEST(SafetensorsFolder(scratch.folder).has("s"));
}

BOOST_AUTO_TEST_CASE(damaged_files_are_refused_or_read) {
    Scratch scratch;
    const std::string good = slurp(kFolder + "state_dict.bin"), path = scratch / "d.bin";
    for (std::size_t length = 0; length < good.size(); length += 97) {
        spill(path, good.substr(0, length));
        REFUSED("d.bin", TorchFile file(path));
    }
    for (std::uint64_t trial = 0; trial < 3000; ++trial) {
        std::string bad = good;
        bad[random_below(bad.size(), trial, 1, 0)] = static_cast<char>(random_below(256, trial, 2, 0));
        spill(path, bad);
        const std::string said = sentence_of([&] {
            const TorchFile file(path);
            for (const std::string& name : file.names()) file.find(name);
        });
        BOOST_TEST((said.empty() || has(said, "d.bin")), said);
    }
}

BOOST_AUTO_TEST_SUITE_END()
