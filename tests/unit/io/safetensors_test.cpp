// safetensors files of other programs and of this one, shards, and every way in which a header can be wrong.
#include <cstring>

#include "io/json.h"
#include "io/safetensors.h"
#include "io_testing.h"

using namespace longlora;
using namespace longlora::io_testing;

BOOST_AUTO_TEST_SUITE(safetensors)

static std::string file_of(const std::string& header, const std::string& data) {
    std::string bytes(8, '\0');
    const std::uint64_t n = header.size();
    std::memcpy(bytes.data(), &n, 8);
    return bytes + header + data;
}

static TensorToWrite ramp(const std::string& name, DType dtype, Shape shape, unsigned char first) {
    return {name, dtype, shape, [=](std::byte* out) {
                for (std::int64_t i = 0; i < shape.count() * size_of(dtype); ++i)
                    out[i] = static_cast<std::byte>(first + i);
            }};
}

BOOST_AUTO_TEST_CASE(a_model_of_transformers_is_read) {
    const SafetensorsFolder folder(SOURCE_FOLDER "/tests/golden/gqa-odd-tied");
    const HostTensor embedding = folder.get("model.embed_tokens.weight");
    BOOST_TEST((embedding.dtype == DType::float32));
    BOOST_TEST((embedding.shape == Shape{256, 72}));
    float first = 0;
    std::memcpy(&first, embedding.bytes, 4);
    BOOST_TEST(std::abs(first) < 1.0f);
    BOOST_TEST(!folder.find("lm_head.weight").has_value());
    REFUSED("gqa-odd-tied has no tensor lm_head.weight", folder.get("lm_head.weight"));
    BOOST_TEST(has(folder.file_of("model.norm.weight"), "/model.safetensors"));
    const SafetensorsFolder adapter(SOURCE_FOLDER "/tests/golden/gqa-odd-tied/adapter/adapter_model.safetensors");
    BOOST_TEST(adapter.names().size() > 0u);
}

BOOST_AUTO_TEST_CASE(what_is_written_is_read) {
    Scratch scratch;
    const std::vector<TensorToWrite> tensors = {
        ramp("odd", DType::uint8, {3}, 1), ramp("b", DType::bfloat16, {2, 5}, 7), ramp("d", DType::float64, {}, 9),
        ramp("empty", DType::float32, {0, 4}, 0), ramp("e\"\xc3\xa9", DType::int64, {2, 1, 1, 2}, 11)};
    write_safetensors(scratch / "a.safetensors", tensors);
    const SafetensorsFile file(scratch / "a.safetensors");
    BOOST_TEST(file.metadata().at("format") == "pt");
    BOOST_TEST(file.names().size() == tensors.size());
    for (const TensorToWrite& tensor : tensors) {
        const auto found = file.find(tensor.name);
        BOOST_REQUIRE(found.has_value());
        BOOST_TEST((found->dtype == tensor.dtype && found->shape == tensor.shape));
        std::string expected(static_cast<std::size_t>(tensor.size_bytes()), '\0');
        tensor.fill(reinterpret_cast<std::byte*>(expected.data()));
        BOOST_TEST(std::memcmp(found->bytes, expected.data(), expected.size()) == 0);
        BOOST_TEST(
            reinterpret_cast<std::uintptr_t>(found->bytes) % static_cast<std::uintptr_t>(size_of(tensor.dtype)) == 0u);
    }
    BOOST_TEST(!std::filesystem::exists(scratch / "a.safetensors.partial"));
    REFUSED("no/such", write_safetensors(scratch / "no/such", tensors));
}

BOOST_AUTO_TEST_CASE(a_misaligned_tensor_is_returned_aligned) {
    Scratch scratch;
    const std::string data = std::string("xyz") + std::string("\1\2\3\4\5\6\7\10", 8);
    spill(scratch / "m.safetensors", file_of(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                                             R"("b":{"dtype":"F64","shape":[1],"data_offsets":[3,11]}})",
                                             data));
    const SafetensorsFile file(scratch / "m.safetensors");
    const auto b = file.find("b");
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(b->bytes) % 8 == 0u);
    BOOST_TEST(std::memcmp(b->bytes, data.data() + 3, 8) == 0);
    BOOST_TEST(file.find("b")->bytes == b->bytes);
}

BOOST_AUTO_TEST_CASE(shards_have_an_index) {
    Scratch scratch;
    std::vector<TensorToWrite> tensors;
    for (int i = 0; i < 7; ++i)
        tensors.push_back(ramp(text("t", i), DType::float32, {10}, static_cast<unsigned char>(i)));
    BOOST_TEST(write_safetensors_folder(scratch.folder, tensors, 1000) == std::vector<std::string>{"model.safetensors"},
               boost::test_tools::per_element());
    std::filesystem::remove(scratch / "model.safetensors");
    const auto files = write_safetensors_folder(scratch.folder, tensors, 100);  // two tensors of 40 bytes in each file
    BOOST_TEST(files.size() == 5u);
    BOOST_TEST(files[0] == "model-00001-of-00004.safetensors");
    const SafetensorsFolder folder(scratch.folder);
    BOOST_TEST(folder.names().size() == 7u);
    BOOST_TEST((folder.get("t5").bytes[0] == std::byte{5}));
    BOOST_TEST(has(folder.file_of("t6"), "model-00004-of-00004"));
    BOOST_TEST(read_json_file(scratch / "model.safetensors.index.json")["metadata"]["total_size"] == 280);
    std::filesystem::remove(scratch / "model-00002-of-00004.safetensors");
    REFUSED("model-00002-of-00004.safetensors: No such file", SafetensorsFolder(scratch.folder));
    spill(scratch / "model.safetensors.index.json", R"({"weight_map": {"t9": "model-00001-of-00004.safetensors"}})");
    REFUSED("expects t9 in model-00001-of-00004.safetensors, which does not have it",
            SafetensorsFolder(scratch.folder));
    spill(scratch / "model.safetensors.index.json", R"({"weight_map": {"t9": "../x"}})");
    REFUSED("is not the name of a file in the same folder", SafetensorsFolder(scratch.folder));
    std::filesystem::remove(scratch / "model.safetensors.index.json");
    REFUSED("has neither model.safetensors nor model.safetensors.index.json", SafetensorsFolder(scratch.folder));
}

BOOST_AUTO_TEST_CASE(headers_that_contradict_the_file_are_refused) {
    Scratch scratch;
    const auto open = [&](const std::string& header, const std::string& data) {
        spill(scratch / "x.safetensors", file_of(header, data));
        return SafetensorsFile(scratch / "x.safetensors");
    };
    const auto tensor = [](const std::string& type, const std::string& shape, const std::string& offsets) {
        return "{\"a\":{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
    };
    open(tensor("F32", "[2]", "[0,8]"), "12345678");
    open("{}", "");
    REFUSED("x.safetensors is cut short or damaged: tensor a lies at bytes 0 to 8 of 7",
            open(tensor("F32", "[2]", "[0,8]"), "1234567"));
    REFUSED("its tensors end at byte 8 of 9", open(tensor("F32", "[2]", "[0,8]"), "123456789"));
    REFUSED("which is not what its shape and type F32 need", open(tensor("F32", "[3]", "[0,8]"), "12345678"));
    REFUSED("which is not what its shape",
            open(tensor("F32", "[1152921504606846976,1152921504606846976]", "[0,8]"), "12345678"));
    REFUSED("begins at byte 4", open(tensor("F32", "[1]", "[4,8]"), "12345678"));
    REFUSED("lies at bytes 8 to 0", open(tensor("F32", "[2]", "[8,0]"), "12345678"));
    REFUSED("is not a list of sizes", open(tensor("F32", "[-2]", "[0,8]"), "12345678"));
    REFUSED("is not a list of sizes", open(tensor("F32", "[2.5]", "[0,8]"), "12345678"));
    REFUSED("is not two positions", open(tensor("F32", "[2]", "[0]"), "12345678"));
    REFUSED("is not two positions", open(tensor("F32", "[2]", "[0,99999999999999999999]"), "12345678"));
    REFUSED("has the unknown type Q8", open(tensor("Q8", "[2]", "[0,8]"), "12345678"));
    REFUSED("has the tensor a twice", open(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                           R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                           "1"));
    REFUSED("begins at byte 0, the one before ends at 2",
            open(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                 R"("b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                 "12"));
    REFUSED("not a JSON object", open("[]", ""));
    REFUSED("is not valid JSON", open("{\"a\":", ""));
    REFUSED("has no \"dtype\"", open("{\"a\":{}}", ""));
    REFUSED("has no \"dtype\"", open("{\"a\":5}", ""));
    REFUSED("__metadata__", open("{\"__metadata__\":5}", ""));
    REFUSED("the type F8_E4M3, which is not supported", open(tensor("F8_E4M3", "[2]", "[0,2]"), "12").find("a"));
    REFUSED("has 5 dimensions", open(tensor("U8", "[1,1,1,1,2]", "[0,2]"), "12").find("a"));
    BOOST_TEST(!open(tensor("F8_E4M3", "[2]", "[0,2]"), "12").find("b").has_value());
    for (const std::string& bytes : {std::string(), std::string("1234567"), std::string(8, '\0'),
                                     std::string(8, '\xff'), std::string("not a safetensors file at all, but long")}) {
        spill(scratch / "y.safetensors", bytes);
        REFUSED("y.safetensors is", SafetensorsFile(scratch / "y.safetensors"));
    }
    REFUSED("none.safetensors: No such file", SafetensorsFile(scratch / "none.safetensors"));
}

BOOST_AUTO_TEST_SUITE_END()
