// Attention of one layer over the ranks that mpirun started, and the same on a single rank: inputs, windows, calls,
// comparison. No tests here.
#pragma once

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstring>
#include <string>

#include "core/random.h"
#include "model/sequence_attention.h"
#include "parallel/kv_exchange.h"

namespace longlora::sequence_testing {

using Values = std::vector<float>;
constexpr Stream kStream{0};

struct Case {
    AttentionPattern pattern;
    std::int64_t num_heads = 9, num_kv_heads = 3, head_dim = 8, tokens = 101;
    DType real = DType::float32;
    std::vector<std::int64_t> documents{};  ///< where documents begin in sequence 0; in sequence s, s tokens later
    std::int64_t num_sequences = 1;
    /// Not 0: random windows instead of the pattern's. First keys advance seldom in plain heads, so that many reach
    /// far, and often in shifted heads.
    std::uint64_t walk = 0;

    std::string name() const {
        return text(name_of(pattern.kind), " G ", pattern.group, " H ", num_heads, "/", num_kv_heads, " N ", tokens,
                    " ", name_of(real), documents.empty() ? "" : " documents", walk ? text(" walk ", walk) : "");
    }
};

inline ModelConfig config_of(const Case& c) {
    ModelConfig config;
    config.num_heads = c.num_heads, config.num_kv_heads = c.num_kv_heads, config.head_dim = c.head_dim;
    return config;
}

inline Case without_documents(Case c) {
    c.documents.clear();
    return c;
}

/// Random first keys that never decrease, never exceed their own token and never precede the token's document.
inline HostWindows random_walk(const Case& c, const std::vector<std::int64_t>& documents) {
    HostWindows windows = make_windows(c.pattern, 0, c.tokens, c.num_heads);
    const HostWindows within = make_windows({AttentionKind::dense, 0}, 0, c.tokens, c.num_heads, documents);
    for (int kind = 0; kind < 2; ++kind) {
        std::vector<std::int32_t> first_key;
        std::int64_t at = 0;
        for (std::int64_t t = 0; t < c.tokens; ++t) {
            const auto index = static_cast<std::uint64_t>(2 * t + kind);
            if (random_below(kind ? 8 : 20, c.walk, 1, index) == 0)
                at +=
                    static_cast<std::int64_t>(random_below(static_cast<std::uint64_t>(c.tokens) / 6, c.walk, 2, index));
            at = std::min(at, t);
            first_key.push_back(std::max(static_cast<std::int32_t>(at), within.first_key[0][t]));
        }
        windows.first_key[kind] = first_key;
    }
    return windows;
}

inline std::vector<std::vector<DeviceWindows>> device_windows(Device& device, const Case& c) {
    std::vector<std::vector<DeviceWindows>> table;
    for (std::int64_t s = 0; s < (c.documents.empty() ? 1 : c.num_sequences); ++s) {
        std::vector<std::int64_t> documents = c.documents;
        for (std::int64_t& begin : documents) begin += s;
        auto& variants = table.emplace_back();
        if (c.walk) {
            variants.emplace_back(device, random_walk(c, documents));
            continue;
        }
        for (int variant = 0; variant < num_window_variants(c.pattern); ++variant)
            variants.emplace_back(device, make_windows(c.pattern, variant, c.tokens, c.num_heads, documents));
    }
    return table;
}

inline std::vector<parallel::ExchangeRules> rules_of(const std::vector<DeviceWindows>& pattern, const Case& c,
                                                     int num_ranks) {
    std::vector<parallel::ExchangeRules> rules;
    for (const DeviceWindows& variant : pattern)
        rules.push_back(parallel::exchange_rules(*variant, num_ranks, c.num_heads, c.num_kv_heads));
    return rules;
}

inline WindowsTable windows_table(Device& device, const Case& c, const std::vector<parallel::ExchangeRules>& rules,
                                  int rank) {
    WindowsTable table;
    for (auto& variants : device_windows(device, c)) {
        table.emplace_back();
        for (std::size_t variant = 0; variant < variants.size(); ++variant) {
            parallel::KvRounds rounds = parallel::kv_transfers(rules[variant], *variants[variant], rank);
            table.back().push_back({std::move(variants[variant]), std::move(rounds)});
        }
    }
    return table;
}

/// One rank's part of the problem; on a plan device only its memory.
class Problem {
public:
    Problem(Device& device, const Case& c, parallel::Communicator* communicator)
        : device_(device),
          case_(c),
          config_(config_of(c)),
          rules_(rules_of(device_windows(device, without_documents(c))[0], c, communicator ? communicator->size() : 1)),
          table_(windows_table(device, c, rules_, communicator ? communicator->rank() : 0)),
          context_{device,
                   config_,
                   c.real,
                   {},
                   c.tokens,
                   communicator ? parallel::tokens_of(c.tokens, communicator->rank(), communicator->size())
                                : parallel::Shard{0, c.tokens},
                   c.num_sequences,
                   case_.pattern,
                   table_,
                   rules_,
                   communicator} {
        const std::int64_t rows = context_.num_tokens(), wide = c.num_heads * c.head_dim,
                           narrow = c.num_kv_heads * c.head_dim;
        const auto normal = [&](DType dtype, std::int64_t width, std::uint64_t stream) {
            return tensor(dtype, rows, width, stream);
        };
        q = normal(c.real, wide, 1), k = normal(c.real, narrow, 2), v = normal(c.real, narrow, 3),
        d_out = normal(c.real, wide, 4);
        d_q = normal(DType::float32, wide, 5), d_k = normal(DType::float32, narrow, 6),
        d_v = normal(DType::float32, narrow, 7);  // backward adds gradients to these values
        out = device.memory().tensor(c.real, {rows, wide}, Use::activations);
        lse = device.memory().tensor(DType::float32, {c.num_heads, rows}, Use::activations);
        device.ops().fill(out, NAN), device.ops().fill(lse, NAN);
        halos.resize(static_cast<std::size_t>(c.num_sequences));
    }
    Problem(const Problem&) = delete;

    void forward(std::int64_t layer = 0) {
        for (std::int64_t s = 0; s < case_.num_sequences; ++s)
            sequence_attention_forward(context_, s, layer, {.out = rows(out, s), .lse = columns(lse, s)},
                                       {.q = rows(q, s), .k = rows(k, s), .v = rows(v, s)},
                                       halos[static_cast<std::size_t>(s)], true);
    }
    void backward(std::int64_t layer = 0) {
        for (std::int64_t s = 0; s < case_.num_sequences; ++s)
            sequence_attention_backward(context_, s, layer,
                                        {.d_q = rows(d_q, s), .d_k = rows(d_k, s), .d_v = rows(d_v, s)},
                                        {.q = rows(q, s),
                                         .k = rows(k, s),
                                         .v = rows(v, s),
                                         .d_out = rows(d_out, s),
                                         .out = rows(out, s),
                                         .lse = columns(lse, s)},
                                        halos[static_cast<std::size_t>(s)]);
    }
    const StepContext& context() const { return context_; }

    ArenaTensor q, k, v, d_out, d_q, d_k, d_v, out, lse;
    std::vector<Halo> halos;

private:
    Tensor rows(Tensor x, std::int64_t s) const { return x.rows(s * context_.local_length(), context_.local_length()); }
    Tensor columns(Tensor x, std::int64_t s) const {
        return x.columns(s * context_.local_length(), context_.local_length());
    }

    /// Numbers that depend on sequence, token and column only, not on the rank that has them.
    ArenaTensor tensor(DType dtype, std::int64_t num_rows, std::int64_t width, std::uint64_t stream) {
        ArenaTensor host = device_.pinned().tensor(dtype, {num_rows, width}, Use::batch),
                    out_tensor = device_.memory().tensor(dtype, {num_rows, width}, Use::activations);
        for (std::int64_t i = 0; i < num_rows * width; ++i) {
            const std::int64_t row = i / width, n = context_.local_length(),
                               token = row % n + context_.own_tokens.begin + row / n * case_.tokens;
            const auto x =
                static_cast<float>(random_normal(17, stream, static_cast<std::uint64_t>(token * width + i % width)));
            if (dtype == DType::float32) host->data<float>()[i] = x;
            else host->data<bf16>()[i] = bf16(x);
        }
        device_.copy_to_device(out_tensor, host, kStream);
        device_.synchronize(kStream);
        return out_tensor;
    }

    Device& device_;
    Case case_;
    ModelConfig config_;
    std::vector<parallel::ExchangeRules> rules_;
    WindowsTable table_;
    StepContext context_;
};

/// The elements of a tensor, row after row.
inline Values values(Device& device, ConstTensor x) {
    const ArenaTensor host = device.pinned().tensor(x.dtype, x.shape, Use::batch);
    device.copy_to_host(host, x, kStream);
    device.synchronize(kStream);
    Values out;
    for (std::int64_t i = 0; i < x.count(); ++i)
        out.push_back(x.dtype == DType::float32 ? host->data<float>()[i] : static_cast<float>(host->data<bf16>()[i]));
    return out;
}

inline double norm(const Values& a) {
    double sum = 0;
    for (const float x : a) sum += static_cast<double>(x) * x;
    return std::sqrt(sum);
}
inline double largest(const Values& a) {
    double most = 0;
    for (const float x : a) most = std::max(most, static_cast<double>(std::abs(x)));
    return most;
}
/// a - b; a difference that is NaN counts as infinite.
inline Values difference(const Values& a, const Values& b) {
    Values out;
    for (std::size_t i = 0; i < a.size(); ++i) out.push_back(std::isnan(a[i] - b[i]) ? INFINITY : a[i] - b[i]);
    return out;
}

/// The five results with their names.
struct Results {
    std::vector<std::pair<std::string, Values>> all;
    bool same_bits(const Results& other) const {
        for (std::size_t i = 0; i < all.size(); ++i)
            if (all[i].second.size() != other.all[i].second.size() ||
                std::memcmp(all[i].second.data(), other.all[i].second.data(), all[i].second.size() * sizeof(float)) !=
                    0)
                return false;
        return true;
    }
};

/// Runs forward and backward and returns the results of the tokens `of`, for all sequences.
inline Results results(Device& device, const Case& c, Problem& p, parallel::Shard of, std::int64_t layer) {
    p.forward(layer);
    p.backward(layer);
    const std::int64_t n = p.context().local_length(), begin = of.begin - p.context().own_tokens.begin;
    Results r;
    const auto add = [&](const char* name, Tensor x, bool by_columns) {
        Values all;
        for (std::int64_t s = 0; s < c.num_sequences; ++s)
            for (const float value :
                 values(device, by_columns ? x.columns(s * n + begin, of.count) : x.rows(s * n + begin, of.count)))
                all.push_back(value);
        r.all.push_back({name, std::move(all)});
    };
    add("out", p.out, false), add("lse", p.lse, true), add("d_q", p.d_q, false), add("d_k", p.d_k, false),
        add("d_v", p.d_v, false);
    return r;
}

}  // namespace longlora::sequence_testing
