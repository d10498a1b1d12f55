// [mpirun -n RANKS] sequence_bench [tokens [group]]: prints what it costs to share a sequence between ranks. First a
// table for Llama-2 7B: bytes, memory and balance of S2-Attn and of dense attention on 2 to 8 ranks, from plan devices.
// With more than one rank it also measures, at `tokens` and `group`, how long the exchanges of keys, values and their
// gradients take per layer, and how much of that time computation hides. This is a benchmark, not a test: it checks
// nothing.
#include <mpi.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "core/clock.h"
#include "model/micro_batch.h"
#include "model/sequence_attention.h"
#include "parallel/kv_exchange.h"

using namespace longlora;

namespace {

struct Shapes {
    std::int64_t tokens, num_heads, num_kv_heads, head_dim;
    DType real;
    AttentionPattern pattern;
};

ModelConfig config_of(const Shapes& shapes) {
    ModelConfig config;
    config.num_heads = shapes.num_heads, config.num_kv_heads = shapes.num_kv_heads, config.head_dim = shapes.head_dim;
    return config;
}

WindowsTable windows_of(Device& device, const Shapes& shapes, const std::vector<parallel::ExchangeRules>& rules,
                        int rank) {
    WindowsTable table;
    table.push_back(sequence_windows(device, shapes.pattern, shapes.tokens, rules, rank));
    return table;
}

/// One layer's attention on one rank.
class Layer {
public:
    Layer(Device& device, const Shapes& shapes, parallel::Communicator& communicator)
        : config_(config_of(shapes)),
          pattern_(shapes.pattern),
          rules_(exchange_rules_of(pattern_, shapes.tokens, communicator.size(), config_)),
          table_(windows_of(device, shapes, rules_, communicator.rank())),
          context_{device, config_,       shapes.real,
                   {},     shapes.tokens, parallel::tokens_of(shapes.tokens, communicator.rank(), communicator.size()),
                   1,      pattern_,      table_,
                   rules_, &communicator} {
        const std::int64_t n = context_.local_length(), wide = shapes.num_heads * shapes.head_dim,
                           narrow = shapes.num_kv_heads * shapes.head_dim;
        const auto tensor = [&](DType dtype, std::int64_t rows, std::int64_t columns) {
            ArenaTensor x = device.memory().tensor(dtype, {rows, columns}, Use::activations);
            device.ops().fill(x, 0.5f);
            return x;
        };
        q_ = tensor(shapes.real, n, wide), k_ = tensor(shapes.real, n, narrow), v_ = tensor(shapes.real, n, narrow),
        out_ = tensor(shapes.real, n, wide), d_out_ = tensor(shapes.real, n, wide);
        lse_ = tensor(DType::float32, shapes.num_heads, n);
        d_q_ = tensor(DType::float32, n, wide), d_k_ = tensor(DType::float32, n, narrow),
        d_v_ = tensor(DType::float32, n, narrow);
    }
    Layer(const Layer&) = delete;

    void forward() {
        sequence_attention_forward(context_, 0, 0, {.out = out_, .lse = lse_}, {.q = q_, .k = k_, .v = v_}, halo_,
                                   true);
    }
    void backward() {
        sequence_attention_backward(context_, 0, 0, {.d_q = d_q_, .d_k = d_k_, .d_v = d_v_},
                                    {.q = q_, .k = k_, .v = v_, .d_out = d_out_, .out = out_, .lse = lse_}, halo_);
    }

private:
    ModelConfig config_;
    AttentionPattern pattern_;
    std::vector<parallel::ExchangeRules> rules_;
    WindowsTable table_;
    StepContext context_;
    ArenaTensor q_, k_, v_, out_, d_out_, lse_, d_q_, d_k_, d_v_;
    Halo halo_;
};

/// The cost of one layer over all ranks of one sequence.
struct Cost {
    double most_bytes = 0, all_bytes = 0;  ///< sent by the rank that sends most; sent by all ranks together
    double memory = 0;                     ///< the most that a rank needs beyond the layer's own tensors
    double imbalance = 0, of_layer = 0;    ///< highest FLOPs of a rank over the mean: attention alone; the whole layer
};

/// `other_flops`: FLOPs of everything but attention, per token.
Cost plan_cost(const Shapes& shapes, int ranks, double other_flops) {
    Cost cost;
    double most = 0, sum = 0;
    const double others = other_flops * static_cast<double>(shapes.tokens) / ranks;
    for (int rank = 0; rank < ranks; ++rank) {
        const auto device = make_plan_device();
        const auto communicator = parallel::make_plan_communicator(*device, rank, ranks);
        Layer layer(*device, shapes, *communicator);
        device->memory().reset_marks(), device->recorder().clear();
        const std::int64_t before = device->memory().high_water_bytes();
        layer.forward(), layer.backward();
        const auto bytes = static_cast<double>(communicator->traffic().bytes);
        const double flops = device->recorder().flops();
        cost.most_bytes = std::max(cost.most_bytes, bytes), cost.all_bytes += bytes;
        cost.memory = std::max(cost.memory, static_cast<double>(device->memory().high_water_bytes() - before));
        most = std::max(most, flops), sum += flops;
    }
    cost.imbalance = most / (sum / ranks), cost.of_layer = (most + others) / (sum / ranks + others);
    return cost;
}

void print_table(std::int64_t tokens) {
    constexpr std::int64_t kHidden = 4096, kIntermediate = 11008;
    // Frozen weights under LoRA: the forward pass and the gradient of the input take two FLOPs a weight each.
    constexpr double kOtherFlops = 4.0 * (4 * kHidden * kHidden + 3 * kHidden * kIntermediate);
    std::printf(
        "Llama-2 7B, forward and backward of %ld tokens, G %ld, bfloat16, no recomputation; memory and FLOPs for one "
        "layer, bytes for all 32 layers\n",
        tokens, tokens / 4);
    std::printf("ranks  pattern   most GB by a rank  GB by all  MB of memory     max / mean FLOPs: attention  layer\n");
    for (int ranks = 2; ranks <= 8; ++ranks)
        for (const AttentionKind kind : {AttentionKind::shifted, AttentionKind::dense}) {
            const Cost cost = plan_cost({tokens, 32, 32, 128, DType::bfloat16, {kind, tokens / 4}}, ranks, kOtherFlops);
            std::printf("%5d  %-8s  %17.1f  %9.1f  %12.1f  %30.2f  %5.2f\n", ranks, name_of(kind).data(),
                        32e-9 * cost.most_bytes, 32e-9 * cost.all_bytes, cost.memory / 1e6, cost.imbalance,
                        cost.of_layer);
        }
}

/// Forwards every call to another communicator; times its exchanges and keeps a list of them.
class TimedCommunicator final : public parallel::Communicator {
public:
    explicit TimedCommunicator(parallel::Communicator& inner)
        : Communicator(inner.rank(), inner.size()),
          inner_(inner) {}
    double exposed = 0;    ///< seconds inside finish()
    double meanwhile = 0;  ///< seconds between the start of an exchange and finish(), while the rank computes

    void forget() { exposed = meanwhile = 0, exchanges_.clear(); }
    /// Repeats the exchanges since forget() without any computation and returns their seconds.
    double alone(Device& device) {
        std::int64_t largest = 0;
        for (const auto& [sends, receives] : exchanges_) {
            for (const parallel::Send& send : sends) largest = std::max(largest, send.data.count());
            for (const parallel::Receive& receive : receives) largest = std::max(largest, receive.data.count());
        }
        const ArenaTensor sent = device.memory().tensor(DType::float32, {largest}, Use::exchange),
                          received = device.memory().tensor(DType::float32, {largest}, Use::exchange);
        device.ops().fill(sent, 0), device.ops().fill(received, 0);
        const auto in = [](Tensor memory, const auto& like) { return Tensor(memory.bytes, like.dtype, like.shape); };
        MPI_Barrier(MPI_COMM_WORLD);
        const double begin = now_seconds();
        // In S2-Attn and dense attention an exchange has one peer and one piece in each direction.
        for (auto& [sends, receives] : exchanges_) {
            for (parallel::Send& send : sends) send.data = in(sent, send.data);
            for (parallel::Receive& receive : receives) receive.data = in(received, receive.data);
            inner_.exchange(sends, receives, Device::compute_stream()).finish();
        }
        return now_seconds() - begin;
    }

    parallel::Request all_gather(Tensor whole, Stream stream) override { return inner_.all_gather(whole, stream); }
    parallel::Request reduce_scatter(Tensor shard, ConstTensor whole, Stream stream) override {
        return inner_.reduce_scatter(shard, whole, stream);
    }
    parallel::Request all_reduce(Tensor x, Stream stream) override { return inner_.all_reduce(x, stream); }
    parallel::Request broadcast(Tensor x, int root, Stream stream) override {
        return inner_.broadcast(x, root, stream);
    }
    parallel::Request exchange(const std::vector<parallel::Send>& sends, const std::vector<parallel::Receive>& receives,
                               Stream stream) override {
        auto request = std::make_shared<parallel::Request>(inner_.exchange(sends, receives, stream));
        traffic_ = inner_.traffic_by_unit();
        if (!request->pending()) return {};
        exchanges_.push_back({sends, receives});
        return parallel::Request([this, request, start = now_seconds()](Stream at) {
            const double begin = now_seconds();
            request->finish(at);
            meanwhile += begin - start, exposed += now_seconds() - begin;
        });
    }
    void progress() override { inner_.progress(); }

private:
    parallel::Communicator& inner_;
    std::vector<std::pair<std::vector<parallel::Send>, std::vector<parallel::Receive>>> exchanges_;
};

double mean_over_ranks(double mine) {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    double sum = 0;
    MPI_Allreduce(&mine, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return sum / ranks;
}

double most_over_ranks(double mine) {
    double most = 0;
    MPI_Allreduce(&mine, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return most;
}

/// Runs a few layers and prints their mean times.
void measure(const Shapes& shapes, parallel::Communicator& communicator, Device& device) {
    constexpr int kLayers = 5;
    TimedCommunicator timed(communicator);
    device.set_progress([&] { timed.progress(); });
    Layer layer(device, shapes, timed);
    struct Times {
        double pass = 0, alone = 0, exposed = 0, meanwhile = 0;
    } times[2];
    for (int i = -1; i < kLayers; ++i)  // layer -1 warms up and is not counted
        for (const int pass : {0, 1}) {
            timed.forget();
            MPI_Barrier(MPI_COMM_WORLD);
            const double begin = now_seconds();
            pass == 0 ? layer.forward() : layer.backward();
            const double end = now_seconds();
            const Times once{end - begin, timed.alone(device), timed.exposed, timed.meanwhile};
            if (i < 0) continue;
            Times& sum = times[pass];
            sum.pass += once.pass / kLayers, sum.alone += once.alone / kLayers, sum.exposed += once.exposed / kLayers,
                sum.meanwhile += once.meanwhile / kLayers;
        }
    device.set_progress({});
    for (const int pass : {0, 1}) {
        const Times& t = times[pass];
        const double slowest = most_over_ranks(t.pass), alone = mean_over_ranks(t.alone),
                     exposed = mean_over_ranks(t.exposed), most = most_over_ranks(t.exposed),
                     hidden = mean_over_ranks(std::max(0.0, t.alone - t.exposed)),
                     meanwhile = mean_over_ranks(t.meanwhile);
        if (communicator.rank() == 0)
            std::printf("%-8s %-8s  %-8s  %8.2f  %8.2f  %8.2f  %8.2f  %8.2f  %9.2f\n",
                        name_of(shapes.pattern.kind).data(), name_of(shapes.real).data(),
                        pass == 0 ? "forward" : "backward", 1e3 * slowest, 1e3 * alone, 1e3 * hidden, 1e3 * exposed,
                        1e3 * most, 1e3 * meanwhile);
    }
}

void measure_all(std::int64_t tokens, std::int64_t group, int rank, int ranks) {
    const auto device = make_cpu_device({.memory_bytes = std::int64_t{2} << 30});
    const auto communicator = parallel::make_mpi_communicator(*device, MPI_COMM_WORLD);
    if (rank == 0)
        std::printf(
            "\nmeasured: %d ranks, %ld tokens, G %ld, 9/3 heads of 64; milliseconds per layer.\n"
            "slowest: the pass on the slowest rank. The next three are means over ranks.\n"
            "alone: the same exchanges without computation. hidden: alone - exposed.\n"
            "exposed: waiting for exchanges, also for a neighbour that computes longer, as in dense attention.\n"
            "most: exposed on the rank that waits longest.\n"
            "meanwhile: computing between start and wait, summed over exchanges, mean over ranks.\n"
            "pattern  type      pass       slowest     alone    hidden   exposed      most  meanwhile\n",
            ranks, tokens, group);
    for (const DType real : {DType::float32, DType::bfloat16})
        for (const AttentionKind kind : {AttentionKind::shifted, AttentionKind::dense})
            measure({tokens, 9, 3, 64, real, {kind, group}}, *communicator, *device);
}

}  // namespace

int main(int argc, char** argv) {
    int provided = 0, rank = 0, ranks = 1;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const std::int64_t tokens = argc > 1 ? std::atol(argv[1]) : 2048 * ranks,
                       group = argc > 2 ? std::atol(argv[2]) : 1024;
    if (rank == 0) print_table(65536);
    if (ranks > 1) measure_all(tokens, group, rank, ranks);
    MPI_Finalize();
    return 0;
}
