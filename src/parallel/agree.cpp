// Ranks gather one exit code each. Only if a rank failed, that rank broadcasts its sentence, so success costs one
// small message.
#include "parallel/agree.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"

namespace longlora::parallel {

namespace {

constexpr int kFine = -1;  // no exit code

struct Outcome {
    int code = kFine;
    std::string sentence;
};

Outcome outcome_of(const std::function<void()>& work) {
    try {
        work();
        return {};
    } catch (const std::exception& error) {
        return {static_cast<int>(exit_code_of(error)), sentence_of(error)};
    } catch (...) {
        return {static_cast<int>(ExitCode::internal), "internal: an exception of unknown type"};
    }
}

}  // namespace

void agree(const HostGroup& group, const std::function<void()>& work) {
    const Outcome mine = outcome_of(work);
    const std::vector<int> codes = group.all_gather(mine.code);
    const auto failed = std::find_if(codes.begin(), codes.end(), [](int code) { return code != kFine; });
    if (failed == codes.end()) return;
    const int rank = static_cast<int>(failed - codes.begin());
    std::string sentence = group.broadcast(mine.sentence, rank);
    const bool everywhere = std::none_of(codes.begin(), codes.end(), [](int code) { return code == kFine; });
    if (!everywhere) sentence += text(" (on rank ", rank, ")");
    throw AgreedError(sentence, static_cast<ExitCode>(*failed));
}

}  // namespace longlora::parallel
