// cuda_roofline: what can be known about the speed of the CUDA kernels without a GPU. It runs each operation once on
// the simulated device at sizes of a training step and reads the machine code from its own executable file (all of
// sm_80; registers and spills of sm_90). For each kernel it prints what the kernel needs of a multiprocessor, what it
// moves divided by the least traffic, and what bounds its tensor-core loop. tests/bench/roofline/README.md has the
// targets. The last line is 'N passed, N failed'. tests/bench/gpu_bench.cpp measures times on a GPU; this program does
// not.
#include <cxxabi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "sim/runtime/probe.h"
#include "tests/bench/operations.h"
#include "tests/bench/roofline/sass.h"

using namespace longlora;
using namespace longlora::roofline;

namespace {

constexpr double kSectorBytes = 32, kMostBytes = 1.1, kMostConflict = 2.0, kMostSectors = 1.25, kLeastTensorShare = 0.6;
constexpr int kRegisters = 65536;  // of a multiprocessor, on sm_80 and sm_90

std::string short_name(const std::string& mangled) {
    int status = 0;
    char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
    std::string name = text ? text : mangled;
    std::free(text);
    if (const auto arguments = name.rfind('('); arguments != std::string::npos) name.resize(arguments);
    for (const char* prefix : {"void ", "longlora::cuda::", "(anonymous namespace)::", "longlora::"})
        for (auto at = name.find(prefix); at != std::string::npos; at = name.find(prefix))
            name.erase(at, std::string(prefix).size());
    return name;
}

template <class Map> double worst(const Map& by_line) {
    double most = 1;
    for (const auto& [line, ratio] : by_line) most = std::max(most, ratio);
    return most;
}

class Report {
public:
    explicit Report(const std::string& program)
        : kernels_(read_kernels(program, 80)),
          newer_(read_kernels(program, 90)) {}

    void check(bool ok, const std::string& what) {
        ++(ok ? passed_ : failed_);
        if (!ok) std::printf("    misses its target: %s\n", what.c_str());
    }
    /// Reports the kernels of one operation. Call it after the operation ran alone. least_bytes: the bytes that the
    /// operation must move, by the device's recorder; 0: the traffic is not judged.
    void operation(const std::string& title, double least_bytes) {
        double moved = 0;  // in whole sectors; a sector that several lanes of a warp read together counts once
        for (const auto& [name, counts] : sim::runtime::totals().by_kernel)
            moved += kSectorBytes * static_cast<double>(counts.global_sectors);
        std::printf("%s: %.2f MB moved, %.2f of the least\n", title.c_str(), moved * 1e-6,
                    least_bytes > 0 ? moved / least_bytes : 0.0);
        if (least_bytes > 0)
            check(moved <= kMostBytes * least_bytes, text(title, " moves more than ", kMostBytes, " times its bytes"));
        for (const auto& [name, counts] : sim::runtime::totals().by_kernel) kernel(name, counts);
    }
    /// Checks that the tensor-core target was applied: each attention kernel for tensor cores has a loop with
    /// tensor-core instructions.
    void require_tensor_loops() {
        for (const char* kernel :
             {"attention_forward_kernel", "attention_backward_keys_kernel", "attention_backward_queries_kernel"})
            for (const int width : {64, 128}) {
                const std::string name = text(kernel, "<", width, ">");
                check(judged_.contains(name), name + " has no loop with tensor-core instructions");
            }
    }
    void end() const { std::printf("%d passed, %d failed\n", passed_, failed_); }
    bool good() const { return failed_ == 0; }

private:
    void kernel(const std::string& name, const sim::ptx::Counts& counts) {
        const auto is_named = [&](const CompiledKernel& k) { return k.name == name; };
        const auto found = std::find_if(kernels_.begin(), kernels_.end(), is_named),
                   newer = std::find_if(newer_.begin(), newer_.end(), is_named);
        if (found == kernels_.end() || newer == newer_.end())
            return check(false, text(name, " is missing in the program's machine code for sm_80 or sm_90"));
        const Block block = main_block(*found), all = whole(*found);
        const int threads = static_cast<int>(counts.block_threads),
                  blocks = blocks_per_multiprocessor(*found, threads,
                                                     static_cast<std::int64_t>(counts.dynamic_shared_bytes));
        const double conflict = worst(counts.worst_bank_conflict),
                     sectors = static_cast<double>(counts.global_sectors) /
                               static_cast<double>(std::max<std::uint64_t>(1, counts.global_ideal_sectors));
        const double share = block.tensor_core_share(conflict);
        const long long shared =
            static_cast<long long>(found->static_shared_bytes) + static_cast<long long>(counts.dynamic_shared_bytes);
        std::printf(
            "    %-58s %3d regs (sm_90 %3d) %3d thr %6lld B shared  occupancy %3.0f %%  conflicts %.1f  sectors %.2f",
            short_name(name).substr(0, 58).c_str(), found->registers, newer->registers, threads, shared,
            100.0 * blocks * threads / 2048, conflict, sectors);
        if (block.hmma)
            std::printf("  mma %.0f issue %.0f mufu %.0f shared %.0f: %.0f %%", block.t_mma(), block.t_issue(),
                        block.t_mufu(), block.t_shared(conflict), 100 * share);
        std::printf("\n");
        if (!seen_.insert(name).second) return;
        check(all.local == 0 && found->local_bytes == 0, text(short_name(name), " spills registers"));
        check(whole(*newer).local == 0 && newer->local_bytes == 0,
              text(short_name(name), " spills registers on sm_90"));
        check(newer->registers > 0 && newer->registers * threads <= kRegisters,
              text(short_name(name), " has ", newer->registers, " registers on sm_90, so no block of it can run"));
        check(conflict <= kMostConflict, text(short_name(name), " has bank conflicts beyond ", kMostConflict, "-way"));
        check(sectors <= kMostSectors,
              text(short_name(name), " moves ", sectors, " times the sectors of coalesced accesses"));
        if (!block.hmma || !block.in_loop) return;
        judged_.insert(short_name(name));
        check(share >= kLeastTensorShare,
              text(short_name(name), ": the tensor cores are busy less than ", 100 * kLeastTensorShare, " %"));
    }
    std::vector<CompiledKernel> kernels_, newer_;  // for sm_80, for sm_90
    std::set<std::string> seen_, judged_;          // mangled; short names
    int passed_ = 0, failed_ = 0;
};

/// The traffic of attention is not judged: it reads its inputs more than once (the keys for every block of queries).
bool moves_its_bytes_once(const std::string& operation) {
    static const std::set<std::string> once{"embedding_forward",
                                            "embedding_backward",
                                            "rmsnorm_forward",
                                            "rmsnorm_backward",
                                            "rotary",
                                            "swiglu_forward",
                                            "swiglu_backward",
                                            "cross_entropy",
                                            "sum_squares",
                                            "adamw",
                                            "fill",
                                            "add",
                                            "copy",
                                            "merge_attention"};
    return once.contains(operation);
}

void look_at(Device& device, Report& report, const bench::Sizes& sizes, DType real, const char* only = "") {
    const bench::Operations operations(device, sizes, real);
    device.synchronize(Device::compute_stream());
    for (const bench::Call& call : operations.calls()) {
        if (call.name == "matmul" || !call.name.starts_with(only)) continue;
        device.recorder().clear();
        sim::runtime::totals().by_kernel.clear();
        call.run();
        device.synchronize(Device::compute_stream());
        const double bytes = device.recorder().by_operation.at(call.name).bytes;
        report.operation(text(call.name, call.variant, " ", name_of(real),
                              call.name.starts_with("attention") ? text(" head_dim ", sizes.head_dim) : ""),
                         moves_its_bytes_once(call.name) ? bytes : 0);
    }
}

}  // namespace

int main() try {
    const auto device = make_cuda_device({.memory_bytes = (std::int64_t{256} << 20) + cuda_own_bytes()});
    Report report("/proc/self/exe");
    const bench::Sizes sizes{256, 512, 1024, 2048, 4, 2, 64, 128, 64};
    bench::Sizes wide = sizes, many = sizes, few = sizes;
    wide.head_dim = 128, many.tokens = 1300, few.tokens = 64, few.vocabulary = 4096;
    for (const DType real : {DType::bfloat16, DType::float32}) {
        look_at(*device, report, sizes, real);
        look_at(*device, report, many, real, "embedding");  // more tokens than one block sorts
        look_at(*device, report, few, real, "embedding");
        look_at(*device, report, few, real, "cross_entropy");
    }
    look_at(*device, report, wide, DType::bfloat16, "attention");
    report.require_tensor_loops();
    report.end();
    return report.good() ? 0 : 1;
} catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_roofline: %s\n", e.what());
    return 2;
}
