// Ranks exchange what they see, and every rank draws the same conclusion from it.
#include "jobs/process/device_choice.h"

#include <cstdlib>
#include <map>

#include "core/clock.h"
#include "core/host.h"
#include "io/file.h"
#include "io/json.h"
#include "jobs/command_line/units.h"
#include "jobs/process/gpu_rehearsal.h"
#include "kernels/cuda_limits.h"
#include "kernels/host_memory.h"
#include "parallel/agree.h"

namespace longlora {
namespace {

/// What a rank sees.
struct View {
    std::string problem;           // why no GPU can be used; "" if one can
    bool present = false;          // there is a GPU, or a driver of one
    std::vector<std::string> ids;  // of the GPUs that can be used
    std::vector<Gpu> gpus;         // these GPUs; only in this rank's own view
    std::vector<int> numbers;      // their numbers in this process; only in this rank's own view
    std::string host{};            // the computer of the rank; only in views from all_views()
};

View own_view() {
    View view;
    try {
        const auto [problem, gpus] = find_gpus();
        view.problem = problem;
        view.present = !gpus.empty() || file_exists("/dev/nvidiactl");
        for (std::size_t i = 0; i < gpus.size(); ++i) {
            if (gpus[i].major < kLeastComputeMajor) {
                view.problem = text("the GPU ", gpus[i].name, " has compute capability ", gpus[i].major, ".",
                                    gpus[i].minor, ", but ", kLeastComputeMajor,
                                    ".0 is the least that can be used; take a newer GPU, or --device cpu");
                continue;
            }
            view.ids.push_back(gpus[i].id), view.gpus.push_back(gpus[i]), view.numbers.push_back(static_cast<int>(i));
        }
        if (!view.ids.empty()) view.problem.clear();
    } catch (const Error& e) {
        view.problem = e.what();
    }
    return view;
}

std::vector<View> all_views(const parallel::HostGroup& group, const View& mine) {
    std::vector<View> views;
    for (const auto& line : group.all_gather(to_line(
             Json{{"problem", mine.problem}, {"present", mine.present}, {"ids", mine.ids}, {"host", host_name()}}))) {
        const Json view = Json::parse(line);
        std::string problem = view["problem"].get<std::string>();
        if (!problem.empty() && group.size() > 1)
            problem += text(" (on rank ", views.size(), ", ", view["host"].get<std::string>(), ")");
        views.push_back({problem,
                         view["present"].get<bool>(),
                         view["ids"].get<std::vector<std::string>>(),
                         {},
                         {},
                         view["host"].get<std::string>()});
    }
    return views;
}

}  // namespace

std::vector<int> assign_gpus(const std::vector<std::vector<std::string>>& seen) {
    std::map<std::vector<std::string>, int> ranks_of_list;
    for (const auto& list : seen) ++ranks_of_list[list];
    for (const auto& [list, ranks] : ranks_of_list)
        require(ranks <= static_cast<int>(list.size()), ranks, " ranks see only ", list.size(),
                " GPU(s); start at most one rank for each GPU of a node, ask for more GPUs, or take --device cpu");
    std::vector<int> numbers;
    std::map<std::vector<std::string>, int> dealt;
    std::map<std::string, std::size_t> owners;
    for (std::size_t rank = 0; rank < seen.size(); ++rank) {
        const int number = dealt[seen[rank]]++;
        const auto [owner, is_new] = owners.emplace(seen[rank][number], rank);
        require(
            is_new, "ranks ", owner->second, " and ", rank,
            " would share a GPU, since they see some but not all GPUs in common; show each rank all GPUs of its node "
            "or only its own (CUDA_VISIBLE_DEVICES, Slurm's --gpu-bind), or take --device cpu");
        numbers.push_back(number);
    }
    return numbers;
}

void require_whole_gpus(const std::vector<AssignedGpu>& by_rank) {
    std::map<std::pair<std::string, std::string>, std::size_t> owners;
    for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
        const auto& [host, id] = by_rank[rank];
        const std::string place = id.substr(id.find('@') + 1);  // the place on the bus
        const auto [owner, is_new] = owners.emplace(std::pair(host, place), rank);
        require(is_new, "ranks ", owner->second, " and ", rank, " have parts (MIG) of one GPU (", place, " on ", host,
                "), and NCCL cannot join them; give each rank a whole GPU, start one rank, or take --device cpu");
    }
}

DeviceChoice choose_device(const parallel::HostGroup& group, const std::string& option) {
    if (option == "cpu") return {};
    // A queue for each stream, so that a stream that waits for other ranks never delays another stream.
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    // A kernel that is loaded at its first launch waits for the device, where a receive may be waiting for another
    // rank.
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    const View mine = own_view();
    const std::vector<View> views = all_views(group, mine);
    std::string problem;
    bool present = false;
    std::vector<std::vector<std::string>> seen;
    for (const View& view : views) {
        if (problem.empty()) problem = view.problem;
        present = present || view.present;
        seen.push_back(view.ids);
    }
    try {
        require(problem.empty(), problem);
        const std::vector<int> numbers = assign_gpus(seen);
        std::vector<AssignedGpu> dealt;
        for (std::size_t rank = 0; rank < seen.size(); ++rank)
            dealt.push_back({views[rank].host, seen[rank][numbers[rank]]});
        require_whole_gpus(dealt);
        const std::size_t at = numbers[group.rank()];
        return {DeviceKind::cuda, mine.numbers[at], mine.gpus[at].name, ""};
    } catch (const Error& e) {  // every rank comes here with the same sentence
        if (option != "auto") throw parallel::AgreedError(text("--device cuda: ", e.what()), e.code);
        return {DeviceKind::cpu, 0, "", present ? text("computing on CPUs: ", e.what()) : ""};
    }
}

DeviceChoice choose_for_heads(const DeviceChoice& choice, const std::string& option, std::int64_t head_dim) {
    const std::string problem = choice.kind == DeviceKind::cuda ? cuda_head_dim_problem(head_dim) : "";
    if (problem.empty()) return choice;
    if (option != "auto")
        throw parallel::AgreedError(text("--device ", option, ": ", problem, "; take --device cpu for this model"));
    return {DeviceKind::cpu, 0, "", text("computing on CPUs: ", problem)};
}

bool good_at_bfloat16(const DeviceChoice& choice) {
    return choice.kind == DeviceKind::cuda ||
           make_cpu_device({.memory_bytes = 1 << 20, .num_threads = 0, .instruction_set = ""})->good_at_bfloat16();
}

std::int64_t memory_limit(const std::string& memory, int ranks_of_node) {
    if (!memory.empty()) return parse_bytes(memory, "--memory");
    return free_memory_bytes() / 10 * 9 / ranks_of_node;
}

std::int64_t device_memory_limit(const parallel::HostGroup& group, const DeviceChoice& choice,
                                 const std::string& memory, parallel::MeshShape shape,
                                 const parallel::CommunicatorOptions& communicator_options) {
    const std::int64_t gpu =
        choice.kind == DeviceKind::cuda ? rehearsed_gpu_bytes(group, choice.gpu, shape, communicator_options) : 0;
    std::int64_t limit = 0;
    parallel::agree(group, [&] {
        if (choice.kind != DeviceKind::cuda) limit = memory_limit(memory, group.node_size());
        else limit = memory.empty() ? gpu : parse_bytes(memory, "--memory");
        require(choice.kind != DeviceKind::cuda || limit <= gpu, "--memory ", memory, " is more than the ",
                bytes_text(gpu), " that are free on the GPU (", choice.gpu_name,
                ") without the memory of CUDA's libraries and NCCL; give less, or end the other programs on this GPU");
    });
    return limit;
}

std::unique_ptr<Device> make_device(const DeviceChoice& choice, int threads, std::int64_t memory_bytes,
                                    std::int64_t pinned_bytes) {
    DeviceOptions options;
    options.memory_bytes = memory_bytes;
    options.num_threads = threads;
    if (choice.kind != DeviceKind::cuda) return make_cpu_device(options);
    options.gpu = choice.gpu;
    options.pinned_bytes = pinned_bytes;
    return make_cuda_device(options);
}

}  // namespace longlora
