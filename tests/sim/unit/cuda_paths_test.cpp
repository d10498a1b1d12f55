// Tests of the CUDA operations that take another path on another GPU with the same sizes, against the reference with
// the budget of tests/unit/kernels/kernel_testing.h. The other tests of operations are in tests/unit/kernels.
#include "sim/runtime/probe.h"
#include "tests/unit/kernels/kernel_testing.h"

namespace longlora {
using namespace kernel_testing;

BOOST_AUTO_TEST_SUITE(cuda_paths)

/// The result has the same bits whether the kernel keeps a row in shared memory (163 KiB a block on sm_80) or reads it
/// twice (99 KiB on sm_86).
BOOST_AUTO_TEST_CASE(cross_entropy_of_rows_in_and_beyond_shared_memory) {
    constexpr std::int64_t kTokens = 3, kVocabulary = 26'001;
    const Values logits = random_values(kTokens, kVocabulary, 1, kFloat, 4);
    const Ids labels = {25'999, -1, 7};
    Values ref = logits, results[2];
    PlainValues plain(logits);
    double ref_loss = 0, plain_loss = 0;
    reference::cross_entropy<double>(ref_loss, ref, labels, 0.5, true);
    reference::cross_entropy<float>(plain_loss, plain, labels, 0.5f, true);
    for (const int minor : {0, 6}) {
        const sim::probe::ChangedSettings capability([&](auto& s) { s.minor = minor; });
        const auto device = make_cuda_device(
            {.memory_bytes = (std::int64_t{1} << 26) + cuda_own_bytes(), .pinned_bytes = std::int64_t{1} << 26});
        const IdBuffer label_buffer(*device, labels);
        Buffer x(*device, kFloat, logits), loss(*device, DType::float64, Values(1, 1));
        device->ops().cross_entropy(Tensor(loss.tensor().bytes, DType::float64, Shape{}), x, label_buffer, 0.5f, true);
        BOOST_TEST(std::abs(loss.read()(0, 0) - ref_loss) <=
                   2 * std::abs(plain_loss - ref_loss) + 4 * 0x1p-24 * std::abs(ref_loss));
        check_close(results[minor / 6] = x.read(), ref, plain, kFloat, "cross entropy");
    }
    const bool same = results[0].values == results[1].values;
    BOOST_TEST(same);
}

BOOST_AUTO_TEST_SUITE_END()
}  // namespace longlora
