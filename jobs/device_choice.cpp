// Ranks tell each other what they see; all come to the same answer from that.
#include "jobs/device_choice.h"

#include <cstdlib>
#include <map>

#include "core/clock.h"
#include "core/host.h"
#include "dist/agree.h"
#include "io/file.h"
#include "io/json.h"
#include "jobs/train_setup.h"
#include "jobs/units.h"

namespace longlora {
namespace {

// Beside our arena on a GPU, assumed: kernels and libraries as they are loaded, and the buffers of each of NCCL's communicators.
constexpr std::int64_t kLoadedBytes = std::int64_t{512} << 20, kCommunicatorBytes = std::int64_t{256} << 20;

/// What a rank sees.
struct View {
    std::string problem;              // why nothing can be used; "" when something can
    bool present = false;             // there is a GPU, or a driver of one
    std::vector<std::string> ids;     // of those that can be used
    std::vector<Gpu> gpus;            // and they themselves, with
    std::vector<int> numbers;         // their numbers in this process; this rank's view only
};

View own_view() {
    View view;
    try {
        const auto [problem, gpus] = find_gpus();
        view.problem = problem;
        view.present = !gpus.empty() || file_exists("/dev/nvidiactl");
        for (std::size_t i = 0; i < gpus.size(); ++i) {
            if (gpus[i].major < kLeastComputeMajor) {
                view.problem = text("the GPU ", gpus[i].name, " has compute capability ", gpus[i].major, ".", gpus[i].minor, ", but ", kLeastComputeMajor,
                                    ".0 is the least that can be used; take a newer one, or --device cpu");
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

std::vector<View> all_views(const dist::HostGroup& group, const View& mine) {
    std::vector<View> views;
    for (const auto& line : group.all_gather(to_line(Json{{"problem", mine.problem}, {"present", mine.present}, {"ids", mine.ids}, {"host", host_name()}}))) {
        const Json view = Json::parse(line);
        std::string problem = view["problem"].get<std::string>();
        if (!problem.empty() && group.size() > 1) problem += text(" (on rank ", views.size(), ", ", view["host"].get<std::string>(), ")");
        views.push_back({problem, view["present"].get<bool>(), view["ids"].get<std::vector<std::string>>(), {}, {}});
    }
    return views;
}

/// NCCL communicators of a rank (dist/nccl).
int num_communicators(dist::MeshShape mesh) {
    const int lanes = mesh.pipeline > 2 ? 2 : 1;
    return (mesh.sequence > 1) + (mesh.data * mesh.sequence > 1) + (mesh.pipeline > 1 ? 2 * lanes : 0);
}

}  // namespace

std::vector<int> deal_gpus(const std::vector<std::vector<std::string>>& seen) {
    std::map<std::vector<std::string>, int> ranks_of_list;
    for (const auto& list : seen) ++ranks_of_list[list];
    for (const auto& [list, ranks] : ranks_of_list)
        require(ranks <= static_cast<int>(list.size()), ranks, " ranks see only ", list.size(), " GPU(s); start at most one rank for each GPU of a node, ask for more GPUs, or take --device cpu");
    std::vector<int> numbers;
    std::map<std::vector<std::string>, int> dealt;
    std::map<std::string, std::size_t> owners;
    for (std::size_t rank = 0; rank < seen.size(); ++rank) {
        const int number = dealt[seen[rank]]++;
        const auto [owner, is_new] = owners.emplace(seen[rank][static_cast<std::size_t>(number)], rank);
        require(is_new, "ranks ", owner->second, " and ", rank, " would share a GPU, since they see some GPUs in common but not all; show each rank all of its node's GPUs or its own alone "
                "(CUDA_VISIBLE_DEVICES, Slurm's --gpu-bind), or take --device cpu");
        numbers.push_back(number);
    }
    return numbers;
}

DeviceChoice choose_device(const dist::HostGroup& group, const std::string& option) {
    if (option == "cpu") return {};
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);   // a queue for each stream: one that waits for other ranks never stands in front of another
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
        const auto at = static_cast<std::size_t>(deal_gpus(seen)[static_cast<std::size_t>(group.rank())]);
        return {DeviceKind::cuda, mine.numbers[at], mine.gpus[at].name, ""};
    } catch (const Error& e) {   // the same on every rank
        if (option != "auto") throw dist::AgreedError(text("--device cuda: ", e.what()), e.code);
        return {DeviceKind::cpu, 0, "", present ? text("computing on CPUs: ", e.what()) : ""};
    }
}

bool good_at_bfloat16(const DeviceChoice& choice) {
    return choice.kind == DeviceKind::cuda || make_cpu_device({.memory_bytes = 1 << 20, .num_threads = 0, .instruction_set = ""})->good_at_bfloat16();
}

std::int64_t device_memory_limit(const DeviceChoice& choice, const std::string& memory, int ranks_of_node, dist::MeshShape mesh) {
    if (choice.kind != DeviceKind::cuda) return memory_limit(memory, ranks_of_node);
    const std::int64_t free = free_gpu_bytes(choice.gpu), left = free - kLoadedBytes - num_communicators(mesh) * kCommunicatorBytes;
    if (memory.empty()) return std::max<std::int64_t>(left, 0);
    const std::int64_t asked = parse_bytes(memory, "--memory");
    require(asked <= free, "--memory ", memory, " is more than the ", bytes_text(free), " that are free on the GPU (", choice.gpu_name, "); give less, or end what else runs on it");
    return asked;
}

std::unique_ptr<Device> make_device(const DeviceChoice& choice, int threads, std::int64_t memory_bytes, std::int64_t pinned_bytes) {
    DeviceOptions options;
    options.memory_bytes = memory_bytes;
    options.num_threads = threads;
    if (choice.kind != DeviceKind::cuda) return make_cpu_device(options);
    options.gpu = choice.gpu;
    options.pinned_bytes = pinned_bytes;
    return make_cuda_device(options);
}

}  // namespace longlora
