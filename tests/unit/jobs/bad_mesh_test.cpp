// Bad input to a mesh of four ranks, given to all of them or to one: one sentence from rank 0, exit code 2, no file
// created, no rank left waiting. Bad input without a mesh is tested by tests/unit/jobs/bad_input_test.cpp.
#include <boost/test/unit_test.hpp>

#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

constexpr int kRanks = 4;

/// Two stages, two ranks to a sequence, sharded weights: every rank reads other parts of the files.
const Words kMesh{"--pipeline", "2", "--sequence", "2", "--zero", "3"};

/// The mpirun command that starts kRanks ranks with `words`, except rank `odd`, which gets `other`.
Words one_differs(int odd, const Words& words, const Words& other) {
    Words all{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-q"};
    for (int rank = 0; rank < kRanks; ++rank)
        all = all + Words{"-n", "1", PROGRAM} + (rank == odd ? other : words) +
              (rank + 1 < kRanks ? Words{":"} : Words{});
    return all;
}

/// Writes the model of the workshop as two files: one of layers 0 and 1 and all that is not a layer, one of layer 2.
void split_model(const Workshop& shop, const std::string& folder) {
    std::filesystem::copy(shop / "model", shop / folder, std::filesystem::copy_options::recursive);
    const std::string path = shop / folder + "/model", whole = io_testing::slurp(path + ".safetensors");
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, whole.data(), sizeof header_bytes);
    const Json header = Json::parse(whole.substr(8, header_bytes));
    Json index;
    for (const int file : {1, 2}) {
        const std::string name = text("model-0000", file, "-of-00002.safetensors");
        Json own;
        std::string data;
        for (const auto& [tensor, entry] : header.items()) {
            if (tensor == "__metadata__" || (tensor.find("layers.2.") != std::string::npos) != (file == 2)) continue;
            const std::size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
            own[tensor] = entry;
            own[tensor]["data_offsets"] = {data.size(), data.size() + end - begin};
            data += whole.substr(8 + header_bytes + begin, end - begin);
            index["weight_map"][tensor] = name;
        }
        std::string text = own.dump();
        text.resize((text.size() + 7) / 8 * 8, ' ');
        const std::uint64_t size = text.size();
        io_testing::spill(shop / folder + "/" + name,
                          std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data);
    }
    io_testing::spill(path + ".safetensors.index.json", index.dump());
    std::filesystem::remove(path + ".safetensors");
}

void flip_bit(const std::string& path, std::size_t offset) {
    std::string bytes = io_testing::slurp(path);
    bytes.at(offset) = static_cast<char>(bytes.at(offset) ^ 4);
    io_testing::spill(path, bytes);
}

struct Case {
    const char *option, *value;
    Words parts;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(bad_mesh)

BOOST_AUTO_TEST_CASE(impossible_meshes) {
    const Workshop shop;
    for (const Case& c : {Case{"pipeline", "3", {"--pipeline 3 x --sequence 1", "4 rank(s)"}},
                          {"sequence", "3", {"--sequence 3", "4 rank(s)"}},
                          {"pipeline", "8", {"--pipeline 8", "4 rank(s)"}},
                          {"pipeline", "4", {"--pipeline 4", "3 layer(s)", "--sequence"}},
                          {"sequence", "65", {"--sequence 65", "64 tokens"}},
                          {"sequence", "0", {"--sequence is 0"}},
                          {"pipeline", "-1", {"--pipeline is -1"}},
                          {"zero", "4", {"--zero 4"}}})
        shop.refused(with(training(), c.option, c.value), c.parts, kRanks);
    shop.refused(with(training(), "context", "3") + Words{"--sequence", "4"}, {"--sequence 4", "3 tokens"}, kRanks);
    shop.refused(training() + kMesh + Words{"--memory", "1KB"}, {"1000 B", "--sequence"}, kRanks, 3);
    const std::string table =
        Process(command(kRanks, training() + kMesh + Words{"--memory", "1KB"}), shop.path()).wait().out;
    BOOST_TEST((table.find("TOO MUCH") != std::string::npos && table.find("fits: no") != std::string::npos), table);
}

BOOST_AUTO_TEST_CASE(on_one_rank_of_four) {
    const Workshop shop;
    const Words words = training() + kMesh;
    shop.make_data("bad.h5", 256, 20, 1);
    flip_bit(shop / "bad.h5", 100);
    io_testing::spill(shop / "cut.h5", io_testing::slurp(shop / "data.h5").substr(0, 3000));
    std::filesystem::copy(shop / "model/adapter", shop / "adapter", std::filesystem::copy_options::recursive);
    io_testing::spill(shop / "adapter/adapter_model.safetensors", "garbage");
    for (const int rank : {1, 3}) {
        const std::string at = text("(on rank ", rank, ")");
        for (const Case& c : {Case{"data", "bad.h5", {"bad.h5"}},
                              {"data", "cut.h5", {"cut.h5"}},
                              {"data", "missing.h5", {"missing.h5"}},
                              {"model", "missing", {"missing"}},
                              {"adapter", "adapter", {"adapter"}},
                              {"sequence", "1", {"--sequence is 1, but 2 on rank 0"}},
                              {"zero", "2", {"--zero is 2"}}})
            shop.refused_as(one_differs(rank, words, with(words, c.option, c.value)), c.parts + Words{at});
        // The least --memory of all ranks decides.
        shop.refused_as(one_differs(rank, words, with(words, "memory", "1KB")), {"1000 B"}, 3);
    }
}

/// Only the second stage needs layer 2, but a missing file is reported before training starts, whichever rank lacks it.
BOOST_AUTO_TEST_CASE(a_weight_file_that_one_rank_lacks) {
    const Workshop shop;
    split_model(shop, "split");
    std::filesystem::copy(shop / "split", shop / "lacking", std::filesystem::copy_options::recursive);
    const Words words = with(training(), "model", "split") + kMesh, other = with(words, "model", "lacking");
    const std::string file = shop / "lacking/model-00002-of-00002.safetensors", good = io_testing::slurp(file);
    for (const int rank : {1, 2}) {
        std::filesystem::remove(file);
        shop.refused_as(one_differs(rank, words, other),
                        {"model-00002-of-00002.safetensors", text("(on rank ", rank, ")")});
        io_testing::spill(file, good.substr(0, good.size() / 2));
        shop.refused_as(one_differs(rank, words, other),
                        {"model-00002-of-00002.safetensors", text("(on rank ", rank, ")")});
        io_testing::spill(file, good);
    }
    shop.done(words, kRanks);  // the undamaged files can be trained
    shop.done(training("whole") + kMesh, kRanks);
    BOOST_CHECK_EQUAL(Json::parse(io_testing::slurp(shop / "run/manifest.json"))["parameters"].dump(),
                      Json::parse(io_testing::slurp(shop / "whole/manifest.json"))["parameters"].dump());
}

/// Each rank reads its own parts of a checkpoint; the ranks that read a damaged part notice it before training starts.
BOOST_AUTO_TEST_CASE(a_checkpoint_damaged_in_one_place) {
    const Workshop shop;
    shop.done(training("base") + kMesh, kRanks);
    const std::string good = io_testing::slurp(shop / "base/checkpoints/step-00000002.h5");
    const Words words = with(training(), "steps", "3") + kMesh;
    for (const std::size_t part : {1, 2, 3}) {
        io_testing::spill(shop / "damaged.h5", good);
        flip_bit(shop / "damaged.h5", good.size() * part / 4);
        shop.refused(words + Words{"--resume", "damaged.h5"}, {"damaged.h5"}, kRanks);
    }
}

/// Damaged tokens are noticed only when they are read, after the start. The run ends with one sentence and leaves no
/// checkpoint of steps that it did not do.
BOOST_AUTO_TEST_CASE(damaged_tokens_on_one_rank) {
    const Workshop shop;
    std::filesystem::copy(shop / "data.h5", shop / "bad.h5");
    flip_bit(shop / "bad.h5", io_testing::slurp(shop / "bad.h5").size() / 2);
    const Words words = with(training(), "order", "sequential") + kMesh;
    for (const int rank : {1, 2}) {
        const Outcome outcome = Process(one_differs(rank, words, with(words, "data", "bad.h5")), shop.path()).wait();
        BOOST_TEST(outcome.code == 2, "code " << outcome.code << "\n" << outcome.err);
        BOOST_TEST(sentences_of(outcome.err).size() == 1u, outcome.err);
        BOOST_TEST(outcome.err.find(text("bad.h5")) != std::string::npos, outcome.err);
        BOOST_TEST(outcome.err.find(text("(on rank ", rank, ")")) != std::string::npos, outcome.err);
        BOOST_TEST(!file_exists(shop / "run/checkpoints/latest"));
        std::filesystem::remove_all(shop / "run");
    }
}

BOOST_AUTO_TEST_SUITE_END()
