// Perplexity on every mesh of as many ranks as mpirun started: the number of one rank, and the same bits on any number
// of data ranks. Also more ranks than windows, and an error on one rank that ends all ranks.
#include <boost/test/unit_test.hpp>

#include "eval/window_rounds.h"
#include "parallel/agree.h"
#include "tests/unit/eval/eval_testing.h"

using namespace eval_testing;

namespace {

const AttentionPattern kPatterns[] = {
    {AttentionKind::dense, 0}, {AttentionKind::shifted, 9}, {AttentionKind::layers, 8}, {AttentionKind::sliding, 5}};

constexpr int kLayers = 5;
/// With tied weights the embedding table is on the first and on the last stage.
ModelConfig deep_config(bool tied) {
    return tiny_config({{"num_hidden_layers", kLayers}, {"tie_word_embeddings", tied}});
}

/// Calls each(shape, zero) for every mesh of `ranks` ranks, weights whole and sharded.
template <class Each> void for_meshes(int ranks, Each&& each) {
    for (int pipeline = 1; pipeline <= std::min(ranks, kLayers); ++pipeline)
        for (int sequence = 1; sequence * pipeline <= ranks; ++sequence)
            for (const int zero : {0, 3}) {
                if (ranks % (pipeline * sequence)) continue;
                const parallel::MeshShape shape = parallel::mesh_shape_of(ranks, pipeline, sequence);
                BOOST_TEST_CONTEXT("pipeline " << shape.pipeline << " data " << shape.data << " sequence "
                                               << shape.sequence << " ZeRO " << zero)
                each(shape, zero);
            }
}

/// A communicator of the ranks that have this rank's data coordinate.
class Slice {
public:
    Slice(const parallel::HostGroup& all, parallel::MeshShape shape) {
        MPI_Comm_split(all.handle(), parallel::coordinate_of(shape, all.rank()).data, all.rank(), &comm);
    }
    ~Slice() { MPI_Comm_free(&comm); }
    Slice(const Slice&) = delete;
    Slice& operator=(const Slice&) = delete;
    MPI_Comm comm = MPI_COMM_NULL;
};

Perplexity measure(const parallel::HostGroup& group, TinyModel& tiny, const AttentionPattern& pattern,
                   const TokenFiles& files, const WindowRules& rules) {
    return measure_perplexity(group, tiny.mesh, *tiny.weights, pattern, files, rules, list_windows(files, rules));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(perplexity_over_ranks)

BOOST_AUTO_TEST_CASE(same_bits_as_alone) {
    const TemporaryFolder folder;  // each rank has its own
    const parallel::HostGroup all, alone(MPI_COMM_SELF);
    TinyModel tiny, spread(small_device(), tiny_config(), all.handle(), {1, all.size(), 1}, 0);
    const TokenFiles files{token_file(folder / "a.h5", {30, 50, 41})};
    for (const std::int64_t max_windows : {1, 2, 3, 0})
        for (const Score score : {Score::all, Score::last}) {
            const WindowRules rules{24, 5, score, false, max_windows};
            const Perplexity together = measure(all, spread, {AttentionKind::shifted, 8}, files, rules),
                             single = measure(alone, tiny, {AttentionKind::shifted, 8}, files, rules);
            BOOST_CHECK_EQUAL(together.loss_sum, single.loss_sum);
            BOOST_CHECK_EQUAL(together.windows, single.windows);
            BOOST_CHECK_EQUAL(together.tokens, single.tokens);
            BOOST_CHECK_GT(single.loss_sum, 0);
        }
}

BOOST_AUTO_TEST_CASE(every_mesh) {
    const TemporaryFolder folder;
    const parallel::HostGroup all, alone(MPI_COMM_SELF);
    const TokenFiles files{token_file(folder / "a.h5", {61, 50, 41})};
    for (const bool tied : {false, true}) {
        const ModelConfig config = deep_config(tied);
        TinyModel single(small_device(), config);
        for_meshes(all.size(), [&](parallel::MeshShape shape, int zero) {
            TinyModel spread(small_device(), config, all.handle(), shape, zero);
            for (const AttentionPattern& pattern : kPatterns)
                for (const WindowRules& rules :
                     {WindowRules{37, 16, Score::all, false, 0}, WindowRules{37, 11, Score::last, false, 1}}) {
                    const Perplexity together = measure(all, spread, pattern, files, rules),
                                     one = measure(alone, single, pattern, files, rules);
                    BOOST_TEST_CONTEXT(name_of(pattern.kind)
                                       << " of " << rules.max_windows << " windows, tied " << tied) {
                        BOOST_CHECK_EQUAL(together.tokens, one.tokens);
                        BOOST_CHECK_SMALL(together.nll() - one.nll(), 1e-6 * one.nll());
                        // On whole windows the operations are the same.
                        if (shape.sequence == 1) BOOST_CHECK_EQUAL(together.loss_sum, one.loss_sum);
                    }
                }
        });
    }
}

BOOST_AUTO_TEST_CASE(same_bits_on_any_number_of_data_ranks) {
    const TemporaryFolder folder;
    const parallel::HostGroup all;
    const ModelConfig config = deep_config(false);
    const TokenFiles files{token_file(folder / "a.h5", {150})};
    const WindowRules rules{37, 16, Score::all, false, 0};
    for_meshes(all.size(), [&](parallel::MeshShape shape, int zero) {
        const Slice slice(all, shape);
        const parallel::HostGroup some(slice.comm);
        TinyModel spread(small_device(), config, all.handle(), shape, zero),
            fewer(small_device(), config, some.handle(), {shape.pipeline, 1, shape.sequence}, 0);
        BOOST_CHECK_EQUAL(measure(all, spread, kPatterns[1], files, rules).loss_sum,
                          measure(some, fewer, kPatterns[1], files, rules).loss_sum);
    });
}

/// The caller's function gets the number of windows done, without gaps, up to this data rank's share.
BOOST_AUTO_TEST_CASE(progress_between_windows) {
    const TemporaryFolder folder;
    const parallel::HostGroup all;
    const TokenFiles files{token_file(folder / "a.h5", {121})};
    const WindowRules rules{24, 5, Score::all, false, 0};
    const WindowList list = list_windows(files, rules);
    for_meshes(all.size(), [&](parallel::MeshShape shape, int zero) {
        TinyModel spread(small_device(), deep_config(false), all.handle(), shape, zero);
        std::int64_t last = 0;
        const auto count = [&](std::int64_t done) {
            BOOST_CHECK(done == last || done == last + 1);
            last = done;
        };
        measure_perplexity(all, spread.mesh, *spread.weights, kPatterns[0], files, rules, list, count);
        BOOST_CHECK_EQUAL(last, parallel::even_share_of(static_cast<std::int64_t>(list.windows.size()),
                                                        spread.mesh.at.data, shape.data)
                                    .count);
    });
}

BOOST_AUTO_TEST_CASE(one_rank_fails) {
    const TemporaryFolder folder;
    const parallel::HostGroup all;
    const TokenFiles files{token_file(folder / "a.h5", {121})};
    const WindowRules rules{24, 5, Score::all, false, 0};
    for_meshes(all.size(), [&](parallel::MeshShape shape, int zero) {
        TinyModel spread(small_device(), deep_config(false), all.handle(), shape, zero);
        const auto stop = [&](std::int64_t done) {
            if (all.rank() == all.size() - 1 && done == 2) fail("enough", ExitCode::stopped);
        };
        try {
            measure_perplexity(all, spread.mesh, *spread.weights, kPatterns[0], files, rules,
                               list_windows(files, rules), stop);
            BOOST_ERROR("a rank continued although another rank had failed");
        } catch (const parallel::AgreedError& e) {
            BOOST_CHECK(e.code == ExitCode::stopped);
            BOOST_CHECK(std::string(e.what()).find("enough") != std::string::npos);
        }
        // Queued copies may still read pinned memory, which must not be used again before they end.
        spread.device->synchronize(Device::compute_stream());
        BOOST_CHECK_GT(measure(all, spread, kPatterns[0], files, rules).nll(), 0);  // no message was left under way
    });
}

BOOST_AUTO_TEST_CASE(the_plan_equals_the_memory_used) {
    const parallel::HostGroup all;
    const std::vector<std::int32_t> window(101, 7);
    for_meshes(all.size(), [&](parallel::MeshShape shape, int zero) {
        const auto taken = [&](TinyModel tiny) {
            Model model(*tiny.weights, kPatterns[1], 101, tiny.mesh.sequence.get());
            window_losses(model, tiny.mesh, {2, 2}, [&](std::int64_t i) {
                return i < 0 ? WindowTokens{} : window_tokens(window, 1, model.own_tokens());
            });
            return tiny.device->memory().high_water_bytes();
        };
        const ModelConfig config = deep_config(false);
        BOOST_CHECK_EQUAL(taken({config, shape, all.rank(), zero}),
                          taken({small_device(), config, all.handle(), shape, zero}));
    });
}

BOOST_AUTO_TEST_SUITE_END()
