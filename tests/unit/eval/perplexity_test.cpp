// Perplexity against log-softmax of the model's logits in plain double loops; what must not change a bit of it; and
// perplexity on a plan device, whose memory must not be touched.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "eval/window_rounds.h"
#include "eval_testing.h"

using namespace eval_testing;

namespace {

/// Sum of -log p(token t | tokens before it in the window) over t in [first_target, N).
double reference_loss(Model& model, const std::vector<std::int32_t>& tokens, std::int64_t first_target) {
    Device& device = model.device();
    const std::int64_t n = model.context_length(), v = model.config().vocabulary;
    const std::vector<std::int32_t> no_labels(tokens.size(), -1);
    const MicroBatch batch = model.micro_batch(tokens, no_labels);
    const ArenaTensor logits = device.memory().tensor(DType::float32, {n, v}, Use::workspace),
                      host = device.pinned().tensor(DType::float32, {n, v}, Use::workspace);
    model.logits(model.output(batch, {}), logits);
    device.copy_to_host(host, logits, Device::compute_stream());
    device.synchronize(Device::compute_stream());
    double sum = 0;
    for (std::int64_t t = first_target; t < n; ++t) {
        const float* row = host->data<float>() + (t - 1) * v;
        double total = 0;
        for (std::int64_t i = 0; i < v; ++i) total += std::exp(static_cast<double>(row[i]));
        sum += std::log(total) - static_cast<double>(row[tokens[static_cast<std::size_t>(t)]]);
    }
    return sum;
}

double reference_nll(TinyModel& tiny, const AttentionPattern& pattern, const TokenFiles& files,
                     const WindowRules& rules) {
    Model model(*tiny.weights, pattern, rules.context);
    double sum = 0;
    std::int64_t tokens = 0;
    for (const auto& file : files)
        for (std::int64_t begin = 0; begin + rules.context <= file->num_tokens(); begin += rules.stride) {
            const std::int64_t first =
                rules.score == Score::all || begin == 0 ? 1 : std::max<std::int64_t>(1, rules.context - rules.stride);
            std::vector<std::int32_t> window(static_cast<std::size_t>(rules.context));
            file->read(begin, rules.context, window.data());
            sum += reference_loss(model, window, first);
            tokens += rules.context - first;
        }
    return sum / static_cast<double>(tokens);
}

Perplexity measure(TinyModel& tiny, const AttentionPattern& pattern, const TokenFiles& files,
                   const WindowRules& rules) {
    const parallel::HostGroup alone(MPI_COMM_SELF);
    return measure_perplexity(alone, tiny.mesh, *tiny.weights, pattern, files, rules, list_windows(files, rules));
}

const AttentionPattern kDense{AttentionKind::dense, 0};

}  // namespace

BOOST_AUTO_TEST_SUITE(perplexity)

BOOST_AUTO_TEST_CASE(labels) {
    const std::vector<std::int32_t> window{10, 11, 12, 13};
    const auto labels = [&](std::int64_t first_target, parallel::Shard local) {
        return window_tokens(window, first_target, local).labels;
    };
    BOOST_CHECK((labels(1, {0, 4}) == std::vector<std::int32_t>{11, 12, 13, -1}));
    BOOST_CHECK((labels(2, {0, 4}) == std::vector<std::int32_t>{-1, 12, 13, -1}));
    BOOST_CHECK((labels(3, {0, 4}) == std::vector<std::int32_t>{-1, -1, 13, -1}));
    // The last label of a shard is the first token of the next shard.
    BOOST_CHECK((labels(2, {0, 2}) == std::vector<std::int32_t>{-1, 12}));
    BOOST_CHECK((labels(3, {1, 3}) == std::vector<std::int32_t>{-1, 13, -1}));
    BOOST_CHECK((window_tokens(window, 1, {1, 2}).ids == std::vector<std::int32_t>{11, 12}));
}

BOOST_AUTO_TEST_CASE(agrees_with_logits) {
    const TemporaryFolder folder;
    TinyModel tiny;
    const TokenFiles files{token_file(folder / "a.h5", {40, 33}), token_file(folder / "b.h5", {31}, 2)};
    for (const Score score : {Score::all, Score::last})
        for (const auto& [context, stride] : {std::pair{2, 1}, {17, 5}, {16, 16}, {31, 40}})
            for (const AttentionPattern& pattern :
                 {kDense, AttentionPattern{AttentionKind::shifted, 4 < context ? 4 : context}}) {
                const WindowRules rules{context, stride, score, false, 0};
                const Perplexity p = measure(tiny, pattern, files, rules);
                const double want = reference_nll(tiny, pattern, files, rules);
                BOOST_TEST_CONTEXT("context " << context << " stride " << stride << " " << name_of(score) << " "
                                              << name_of(pattern.kind)) {
                    BOOST_CHECK_SMALL(p.nll() - want, 1e-5 * want);
                    BOOST_CHECK_CLOSE(p.value(), std::exp(p.nll()), 1e-12);
                }
            }
}

// The predictions of this random model are far from uniform, so attention and score make a difference.
BOOST_AUTO_TEST_CASE(attention_and_score_matter) {
    const TemporaryFolder folder;
    TinyModel tiny;
    const TokenFiles files{token_file(folder / "a.h5", {200})};
    const WindowRules all{32, 8, Score::all, false, 0}, last{32, 8, Score::last, false, 0};
    const double dense = measure(tiny, kDense, files, all).nll();
    BOOST_CHECK_GT(std::abs(dense - measure(tiny, {AttentionKind::shifted, 8}, files, all).nll()), 1e-3);
    BOOST_CHECK_GT(std::abs(dense - measure(tiny, kDense, files, last).nll()), 1e-3);
}

// Dynamic NTK stretches by the length of the window.
BOOST_AUTO_TEST_CASE(rotary_tables_are_those_of_the_window_length) {
    const TemporaryFolder folder;
    const TokenFiles files{token_file(folder / "a.h5", {96})};
    const auto nll = [&](std::int64_t context, double factor) {
        TinyModel tiny(small_device(), tiny_config({{"max_position_embeddings", 24},
                                                    {"rope_scaling", {{"type", "dynamic"}, {"factor", factor}}}}));
        return measure(tiny, kDense, files, {context, context, Score::all, false, 0}).nll();
    };
    BOOST_CHECK_EQUAL(nll(24, 2), nll(24, 4));  // within the model's own context nothing is stretched
    BOOST_CHECK_GT(std::abs(nll(48, 2) - nll(48, 4)), 1e-4);
}

BOOST_AUTO_TEST_CASE(a_window_has_the_same_bits_whatever_else_is_measured) {
    const TemporaryFolder folder;
    TinyModel tiny;
    const TokenFiles files{token_file(folder / "a.h5", {100})};
    double sum = 0;
    const WindowRules rules{20, 7, Score::all, false, 0};
    for (const auto& window : list_windows(files, rules).windows) {
        Model model(*tiny.weights, kDense, 20);
        std::vector<std::int32_t> tokens(20);
        files[0]->read(window.begin, 20, tokens.data());
        sum += window_losses(model, tiny.mesh, {1, 1}, [&](std::int64_t) {
            return window_tokens(tokens, window.first_target, model.own_tokens());
        })[0];
    }
    BOOST_CHECK_EQUAL(sum, measure(tiny, kDense, files, rules).loss_sum);
}

BOOST_AUTO_TEST_CASE(nothing_touches_device_memory) {
    const TemporaryFolder folder;
    TinyModel tiny(make_plan_device({.memory_bytes = 64 << 20}));
    const TokenFiles files{token_file(folder / "a.h5", {64})};
    const Perplexity p = measure(tiny, kDense, files, {16, 8, Score::last, false, 0});
    BOOST_CHECK_EQUAL(p.windows, 7);
    BOOST_CHECK_EQUAL(p.tokens, 15 + 6 * 8);
    BOOST_CHECK_EQUAL(p.loss_sum, 0);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_an_error) {
    const TemporaryFolder folder;
    TinyModel tiny(make_cpu_device({.memory_bytes = 1 << 20, .num_threads = 1}));
    const TokenFiles files{token_file(folder / "a.h5", {9000})};
    try {
        measure(tiny, kDense, files, {8000, 8000, Score::all, false, 0});
        BOOST_ERROR("8000 tokens fit into 1 MiB");
    } catch (const Error& e) {
        BOOST_CHECK(e.code == ExitCode::does_not_fit);
    }
    // The device is as it was before.
    BOOST_CHECK_GT(measure(tiny, kDense, files, {16, 900, Score::all, false, 0}).nll(), 0);
}

BOOST_AUTO_TEST_CASE(a_loss_that_is_not_finite_is_an_error) {
    const TemporaryFolder folder;
    TinyModel tiny;
    const auto& norm = tiny.weights->list().find("model.norm.weight");
    const std::vector<float> bad(static_cast<std::size_t>(norm.shape.count()), std::nanf(""));
    tiny.weights->set(norm, {DType::float32, norm.shape, reinterpret_cast<const std::byte*>(bad.data())}, "test");
    const TokenFiles files{token_file(folder / "a.h5", {64})};
    try {
        measure(tiny, kDense, files, {16, 16, Score::all, false, 0});
        BOOST_ERROR("a NaN was not reported");
    } catch (const Error& e) {
        BOOST_CHECK(e.code == ExitCode::non_finite);
        BOOST_CHECK(std::string(e.what()).find("tokens 0 to 15") != std::string::npos);
    }
}

BOOST_AUTO_TEST_SUITE_END()
