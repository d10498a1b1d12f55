// compare_checkpoints A B: exit code 0 if two checkpoint files hold the same tensors bit for bit, 1 (and the first
// difference) if they do not, 2 if one of them cannot be read. It does not compare attributes, since these name
// paths, machines and options that may differ. It starts no MPI, so scripts can call it anywhere.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/named_tensor_file.h"
#include "run/checkpoint_files.h"

using namespace longlora;

namespace {

constexpr std::int64_t kPieceElements = 1 << 20;

/// How `entry`, a tensor of `a`, differs from the tensor of the same name in `b`; "" if it does not differ.
std::string difference(const NamedTensorReader& a, const NamedTensorReader& b, const TensorEntry& entry) {
    if (!b.has(entry.name)) return text(entry.name, " is only in ", a.path());
    const TensorEntry& other = b.entry(entry.name);
    if (other.dtype != entry.dtype || other.shape != entry.shape)
        return text(entry.name, " has another type or shape in ", b.path());
    const std::int64_t size = size_of(entry.dtype), count = entry.shape.count();
    std::vector<char> x(static_cast<std::size_t>(size * std::min(count, kPieceElements))), y = x;
    for (std::int64_t begin = 0; begin < count; begin += kPieceElements) {
        const std::int64_t n = std::min(kPieceElements, count - begin);
        a.read(entry.name, begin, n, x.data());
        b.read(entry.name, begin, n, y.data());
        for (std::int64_t i = 0; i < n; ++i)
            if (std::memcmp(x.data() + i * size, y.data() + i * size, static_cast<std::size_t>(size)) != 0)
                return text(entry.name, " differs at element ", begin + i, " of ", count);
    }
    return {};
}

std::string first_difference(const NamedTensorReader& a, const NamedTensorReader& b) {
    for (const TensorEntry& entry : a.entries())
        if (const std::string found = difference(a, b, entry); !found.empty()) return found;
    for (const TensorEntry& entry : b.entries())
        if (!a.has(entry.name)) return text(entry.name, " is only in ", b.path());
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: compare_checkpoints A.h5 B.h5\n");
        return 2;
    }
    try {
        const NamedTensorReader a(argv[1], kCheckpointFormat, kCheckpointVersion),
            b(argv[2], kCheckpointFormat, kCheckpointVersion);
        const std::string found = first_difference(a, b);
        if (found.empty()) return 0;
        std::printf("%s and %s: %s\n", argv[1], argv[2], found.c_str());
        return 1;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "compare_checkpoints: %s\n", error.what());
        return 2;
    }
}
