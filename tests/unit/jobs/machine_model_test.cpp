// Machine models: the built-in models equal their files in jobs/machines, and a file with an unknown, missing or
// impossible entry is refused with a sentence that names the entry.
#include <boost/test/unit_test.hpp>

#include "core/error.h"
#include "jobs/plan/machine_model.h"
#include "tests/unit/io/io_testing.h"

using namespace longlora;

namespace {

std::string file_of(const std::string& name) {
    return io_testing::slurp(std::string(SOURCE_FOLDER) + "/jobs/machines/" + name + ".toml");
}

/// The file with the first line that begins with `key` (in any section) replaced by `line`; "" removes it.
std::string changed(const std::string& key, const std::string& line, const std::string& name = "a100-80g") {
    std::istringstream in(file_of(name));
    std::string out;
    bool done = false;
    for (std::string each; std::getline(in, each);) {
        const bool here = !done && each.starts_with(key);
        done = done || here;
        out += here ? line + "\n" : each + "\n";
    }
    BOOST_REQUIRE_MESSAGE(done, "the file has no line that begins with " << key);
    return out;
}

void refused(const std::string& content, const std::vector<std::string>& parts) {
    try {
        parse_machine(content, "my.toml");
        BOOST_ERROR("not refused: " << content);
    } catch (const Error& e) {
        const std::string said = e.what();
        BOOST_TEST(said.starts_with("my.toml: "), said);
        BOOST_TEST(said.find('\n') == std::string::npos, said);
        for (const auto& part : parts)
            BOOST_TEST(said.find(part) != std::string::npos, "'" << said << "' does not say " << part);
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(machine_model)

BOOST_AUTO_TEST_CASE(built_in_machines_are_their_files) {
    BOOST_TEST(built_in_machines() == "a100-80g, cpu, h100");
    for (const char* name : {"a100-80g", "cpu", "h100"}) {
        const MachineModel built_in = read_machine(name), file = parse_machine(file_of(name), name);
        BOOST_TEST(built_in.name == file.name);
        BOOST_TEST(built_in.bfloat16_flops.value == file.bfloat16_flops.value);
        BOOST_TEST(built_in.between_nodes.latency.source == file.between_nodes.latency.source);
        BOOST_TEST(built_in.outside_host_bytes() == file.outside_host_bytes());
        for (const Figure* figure :
             {&file.device_memory, &file.bfloat16_flops, &file.float32_flops, &file.memory_bandwidth,
              &file.host_bandwidth, &file.matmul_fraction, &file.bfloat16_attention_fraction,
              &file.float32_attention_fraction, &file.bandwidth_fraction, &file.devices_per_node, &file.node_memory,
              &file.inside_node.bandwidth, &file.inside_node.latency, &file.between_nodes.bandwidth,
              &file.between_nodes.latency})
            BOOST_TEST(figure->source.size() > 10, name << " has a figure without a source");
    }
    BOOST_TEST(read_machine("cpu").device_is_host());
}

/// Figures of vendor data sheets, written here a second time.
BOOST_AUTO_TEST_CASE(figures_of_data_sheets) {
    const MachineModel a = read_machine("a100-80g"), h = read_machine("h100");
    BOOST_TEST(a.flops_of(DType::bfloat16) == 312e12);
    BOOST_TEST(a.flops_of(DType::float32) == 19.5e12);
    BOOST_TEST(a.memory_bandwidth.value == 2039e9);
    BOOST_TEST(a.device_memory.value == 80e9);
    BOOST_TEST(h.flops_of(DType::bfloat16) == 989e12);
    BOOST_TEST(h.memory_bandwidth.value == 3.35e12);
    BOOST_TEST(a.outside_device.size() == 2u);
    BOOST_TEST(a.outside_device[0].name == "cuda_context");
    BOOST_TEST(a.outside_device_bytes() == 500000000 + 3300000000);
}

BOOST_AUTO_TEST_CASE(a_file_of_the_user) {
    const io_testing::Scratch folder;
    io_testing::spill(folder / "my.toml", changed("bandwidth =", "bandwidth = [ 1e9 , 'a, (b); \"c\"' ]   # said"));
    const MachineModel machine = read_machine(folder / "my.toml");
    BOOST_TEST(machine.inside_node.bandwidth.value == 1e9);
    BOOST_TEST(machine.inside_node.bandwidth.source == "a, (b); \"c\"");
    try {
        read_machine("a100");
        BOOST_ERROR("the unknown machine a100 was accepted");
    } catch (const Error& e) {
        BOOST_TEST(std::string(e.what()).find("--machine a100 ") != std::string::npos, e.what());
        BOOST_TEST(std::string(e.what()).find("a100-80g, cpu, h100") != std::string::npos, e.what());
    }
}

BOOST_AUTO_TEST_CASE(bad_files_are_refused_by_name) {
    for (const char* key : {"memory ", "bfloat16_flops", "float32_flops", "memory_bandwidth", "host_bandwidth",
                            "matmul_fraction", "bfloat16_attention_fraction", "float32_attention_fraction",
                            "bandwidth_fraction", "devices", "bandwidth ", "latency"})
        refused(changed(key, ""), {std::string(key).substr(0, std::string(key).find(' ')), "missing"});
    refused(changed("name", ""), {"name", "missing"});
    refused(changed("bfloat16_flops", "bfloat16_flop = [1, \"x\"]"), {"device.bfloat16_flop'"});
    refused(changed("[node]", "[nodes]"), {"nodes.devices"});
    refused(changed("[outside_device]", "[outside]"), {"outside.cuda_context"});
    refused(changed("bfloat16_flops", "bfloat16_flops = 312e12"), {"device.bfloat16_flops", "where it is from"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [312e12]"), {"device.bfloat16_flops", "where it is from"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [312e12, \"\"]"),
            {"device.bfloat16_flops", "where it is from"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [much, \"x\"]"), {"device.bfloat16_flops", "'much'"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [-1, \"x\"]"), {"device.bfloat16_flops", "'-1'"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [0, \"x\"]"), {"device.bfloat16_flops"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [nan, \"x\"]"), {"device.bfloat16_flops"});
    refused(changed("matmul_fraction", "matmul_fraction = [1.01, \"x\"]"),
            {"device.matmul_fraction", "1.01", "at most 1"});
    refused(changed("latency", "latency = [5, \"seconds, not microseconds\"]"), {"inside_node.latency"});
    refused(changed("devices", "devices = [1.5, \"x\"]"), {"node.devices", "whole"});
    refused(changed("cuda_context", "cuda_context = [lots, \"x\"]"), {"outside_device.cuda_context", "'lots'"});
    refused(changed("cuda_context", "memory = 1"), {"outside_device.memory"});
    refused(changed("bfloat16_flops", "bfloat16_flops = [1, \"x\"]\nbfloat16_flops = [2, \"x\"]"),
            {"device.bfloat16_flops"});
    refused(changed("memory ", "memory = [0, \"x\"]"), {"outside_host"});
    refused("", {"name", "missing"});
    refused(std::string("\x01\x02\xff garbage [", 12), {"my.toml"});
}

BOOST_AUTO_TEST_SUITE_END()
