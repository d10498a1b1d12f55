// Compares the results of runs: checkpoints tensor by tensor, metrics step by step. For tests that stop and resume the
// program. No tests here.
#pragma once

#include "io/named_tensor_file.h"
#include "run/checkpoint_files.h"
#include "tests/unit/jobs/program_testing.h"

namespace longlora::program_testing {

inline std::string checkpoint(const std::string& run, std::int64_t step) {
    return run + "/checkpoints/" + checkpoint_name(step);
}

/// Checks that two checkpoints have the same tensors, moments included, byte by byte.
inline void same_checkpoints(const std::string& a, const std::string& b) {
    const NamedTensorReader first(a, kCheckpointFormat, kCheckpointVersion),
        second(b, kCheckpointFormat, kCheckpointVersion);
    BOOST_REQUIRE_EQUAL(first.entries().size(), second.entries().size());
    BOOST_TEST(first.has("moment2/model.norm.weight"));
    for (const TensorEntry& entry : first.entries()) {
        BOOST_REQUIRE_MESSAGE(second.has(entry.name) && second.entry(entry.name).shape == entry.shape,
                              b << " has no such " << entry.name);
        std::vector<char> x(static_cast<std::size_t>(entry.size_bytes())), y = x;
        first.read(entry.name, 0, entry.shape.count(), x.data());
        second.read(entry.name, 0, entry.shape.count(), y.data());
        BOOST_TEST(x == y, entry.name << " of " << a << " and " << b << " differs");
    }
}

/// The steps in a metrics file, without entries that depend on the clock. nlohmann-json reads and writes doubles with
/// all their digits.
inline std::vector<Json> steps_of(const std::string& metrics) {
    std::vector<Json> steps;
    std::istringstream lines(io_testing::slurp(metrics));
    for (std::string line; std::getline(lines, line);) {
        const Json json = Json::parse(line);
        if (json.contains("loss"))
            steps.push_back({{"step", json["step"]},
                             {"loss", json["loss"]},
                             {"grad_norm", json["grad_norm"]},
                             {"learning_rate", json["learning_rate"]},
                             {"tokens", json["tokens"]}});
    }
    return steps;
}

inline void same_runs(const std::string& a, const std::string& b, std::int64_t steps) {
    same_checkpoints(a + "/checkpoints/" + checkpoint_name(steps), b + "/checkpoints/" + checkpoint_name(steps));
    const std::vector<Json> x = steps_of(a + "/metrics.jsonl"), y = steps_of(b + "/metrics.jsonl");
    BOOST_REQUIRE_EQUAL(x.size(), static_cast<std::size_t>(steps));
    BOOST_REQUIRE_EQUAL(y.size(), static_cast<std::size_t>(steps));
    for (std::size_t i = 0; i < x.size(); ++i) {
        BOOST_TEST(x[i]["step"] == i + 1);
        BOOST_TEST(x[i] == y[i], x[i].dump() << " in " << a << ", " << y[i].dump() << " in " << b);
    }
}

/// Waits until `file` contains `words`, the process has ended, or 60 s have passed.
inline void wait_for(Process& process, const std::string& file, const std::string& words) {
    for (double limit = now_seconds() + 60; !process.ended() && now_seconds() < limit;) {
        if (io_testing::slurp(file).find(words) != std::string::npos) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

}  // namespace longlora::program_testing
