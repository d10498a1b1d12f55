// `mpirun longlora evaluate` on meshes: the numbers of one rank, the mesh in the protocol, a window that only fits when
// ranks share it, and impossible meshes. Every mesh of a tiny model is compared by tests/mpi/perplexity_test.cpp.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "tests/unit/jobs/program_testing.h"

using namespace longlora;
using namespace longlora::program_testing;

namespace {

const Words kEvaluate{"evaluate", "--data",  "data.h5", "--context", "64,97",   "--windows",
                      "5",        "--dtype", "float32", "--json",    "out.json"};

struct Mesh {
    int pipeline, sequence, zero, data;
    Words options() const {
        return {"--pipeline", std::to_string(pipeline), "--sequence", std::to_string(sequence),
                "--zero",     std::to_string(zero)};
    }
};
const Mesh kMeshes[] = {{2, 2, 0, 1}, {1, 2, 3, 2}, {1, 4, 0, 1}, {2, 1, 3, 2}};  // of four ranks

void same_numbers(const Json& got, const Json& want) {
    BOOST_REQUIRE_EQUAL(got["results"].size(), want["results"].size());
    for (std::size_t i = 0; i < want["results"].size(); ++i) {
        BOOST_CHECK_EQUAL(got["results"][i]["tokens"].get<std::int64_t>(),
                          want["results"][i]["tokens"].get<std::int64_t>());
        BOOST_CHECK_SMALL(got["results"][i]["nll"].get<double>() - want["results"][i]["nll"].get<double>(), 1e-6);
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(evaluating_on_meshes)

BOOST_AUTO_TEST_CASE(the_numbers_of_one_rank) {
    const Workshop shop;
    shop.done(with(with(training(), "train", "embed,norm"), "checkpoint-every", "0"));
    for (const Words& source :
         {Words{"--model", "model", "--attention", "shifted"},
          Words{"--model", "model", "--adapter", "model/trained-adapter"}, Words{"--checkpoint", "run"}}) {
        shop.done(kEvaluate + source);
        const Json one = read_json_file(shop / "out.json");
        BOOST_CHECK_EQUAL(one["protocol"]["machine"]["ranks"].get<int>(), 1);
        for (const Mesh& mesh : kMeshes) {
            const Outcome outcome = shop.done(kEvaluate + source + mesh.options(), 4);
            const Json many = read_json_file(shop / "out.json");
            BOOST_TEST_CONTEXT(line_of(source + mesh.options())) same_numbers(many, one);
            const Json& machine = many["protocol"]["machine"];
            BOOST_CHECK_EQUAL(machine["ranks"].get<int>(), 4);
            BOOST_CHECK((machine["mesh"] ==
                         Json{{"pipeline", mesh.pipeline}, {"data", mesh.data}, {"sequence", mesh.sequence}}));
            BOOST_CHECK_EQUAL(machine["zero"].get<int>(), mesh.zero);
            const std::string said = text("pipeline ", mesh.pipeline, " x data ", mesh.data, " x sequence ",
                                          mesh.sequence, mesh.zero == 3 ? ", weights sharded" : ")");
            BOOST_TEST(outcome.out.find(said) != std::string::npos, outcome.out);
        }
    }
}

BOOST_AUTO_TEST_CASE(a_window_too_long_for_one_rank_is_shared) {
    const Workshop shop;
    const Words evaluate = with(with(kEvaluate, "context", "6000"), "memory", "8MiB") + Words{"--model", "model"};
    const Outcome alone = shop.run(with(evaluate, "json", "-"));
    BOOST_TEST(alone.code == 3, "code " << alone.code << "\n" << alone.err);
    shop.done(evaluate + Words{"--sequence", "4"}, 4);
    const Json shared = read_json_file(shop / "out.json");
    shop.done(with(evaluate, "memory", "200MiB"));
    same_numbers(shared, read_json_file(shop / "out.json"));
}

/// A rank that sees an old listing of the run folder must not evaluate another step than rank 0.
BOOST_AUTO_TEST_CASE(all_ranks_take_the_checkpoint_of_rank_0) {
    const Workshop shop;
    shop.done(with(training("new"), "checkpoint-every", "1"));
    std::filesystem::copy(shop / "new", shop / "old", std::filesystem::copy_options::recursive);
    std::filesystem::remove(shop / "old/checkpoints/step-00000002.h5");
    const auto on_two_ranks = [](const std::string& first, const std::string& second) {
        Words words{"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-q"};
        const Words evaluate = kEvaluate + Words{"--pipeline", "2"};
        const Words one{"-n", "1", PROGRAM};
        return words + one + evaluate + Words{"--checkpoint", first} + Words{":"} + one + evaluate +
               Words{"--checkpoint", second};
    };
    shop.done(kEvaluate + Words{"--checkpoint", "new/checkpoints/step-00000001.h5"});
    const Json first_step = read_json_file(shop / "out.json");
    const Outcome outcome = Process(on_two_ranks("old", "new"), shop.path()).wait();
    BOOST_TEST(outcome.code == 0, outcome.err);
    same_numbers(read_json_file(shop / "out.json"), first_step);
    shop.refused_as(on_two_ranks("new", "old"), {"step-00000002.h5", "old/checkpoints", "on rank 1"});
    shop.done(with(training("other"), "seed", "7"));
    std::filesystem::copy(shop / "other/checkpoints/step-00000002.h5", shop / "old/checkpoints/step-00000002.h5");
    shop.refused_as(on_two_ranks("new", "old"), {"step-00000002.h5", "differs from that on rank 0"});
}

BOOST_AUTO_TEST_CASE(impossible_meshes) {
    const Workshop shop;
    const Words evaluate = kEvaluate + Words{"--model", "model"};
    shop.refused(evaluate + Words{"--pipeline", "3"}, {"--pipeline 3 x --sequence 1", "4 rank(s)"}, 4);
    shop.refused(evaluate + Words{"--pipeline", "4"}, {"--pipeline 4", "3 layer(s)"}, 4);
    shop.refused(evaluate + Words{"--sequence", "2"}, {"--sequence 2", "1 rank(s)"});
    shop.refused(evaluate + Words{"--sequence", "65"}, {"--sequence 65", "64 tokens"});
    shop.refused(evaluate + Words{"--sequence", "0"}, {"--sequence is 0"});
    shop.refused(evaluate + Words{"--pipeline", "-1"}, {"--pipeline is -1"});
    shop.refused(evaluate + Words{"--pipeline", "4611686018427387904", "--sequence", "4"},
                 {"--pipeline is 4611686018427387904"});  // 2^64 ranks, which would overflow to 0
    shop.refused(evaluate + Words{"--zero", "4"}, {"--zero 4"});
}

BOOST_AUTO_TEST_SUITE_END()
