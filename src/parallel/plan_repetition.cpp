// The state of memory is its layout: the tensors that were made since the loop began, in the order of their making, and
// the number of older ones. An iteration that finds the same layout finds each of its tensors where it was, so it takes
// and releases the same places.
#include "parallel/plan_repetition.h"

#include <utility>

namespace longlora::parallel {
namespace {

/// Rounds come back to a state after a few iterations, micro-batches of a pipeline after about as many as it has
/// stages.
constexpr std::size_t kLongestPeriod = 16;

}  // namespace

PlanRepetition::PlanRepetition(Device& device, std::vector<Communicator*> communicators)
    : device_(device),
      communicators_(std::move(communicators)),
      memory_begin_(device.memory().num_made()),
      pinned_begin_(device.pinned().num_made()) {
    std::erase(communicators_, nullptr);
}

PlanRepetition::Mark PlanRepetition::mark() const {
    Mark now{device_.memory().layout(memory_begin_), device_.pinned().layout(pinned_begin_), device_.recorder(), {}};
    for (const Communicator* communicator : communicators_) now.sent.push_back(communicator->traffic_by_unit());
    return now;
}

void PlanRepetition::count_again(const Mark& before, std::int64_t times) {
    device_.recorder().repeat_since(before.recorder, times);
    for (std::size_t i = 0; i < communicators_.size(); ++i)
        communicators_[i]->repeat_traffic_since(before.sent[i], times);
}

std::int64_t PlanRepetition::skip(std::int64_t behind, std::int64_t ahead) {
    if (device_.kind() != DeviceKind::plan || device_.recorder().whole || ahead <= 0) return 0;
    if (behind <= 0) marks_.clear();
    Mark now = mark();
    for (std::size_t period = 1; period <= marks_.size() && static_cast<std::int64_t>(period) <= behind; ++period) {
        const Mark& before = marks_[marks_.size() - period];
        if (before.memory != now.memory || before.pinned != now.pinned) continue;
        const std::int64_t times = ahead / static_cast<std::int64_t>(period);
        if (times == 0) break;
        count_again(before, times);
        marks_.clear();
        return times * static_cast<std::int64_t>(period);
    }
    if (marks_.size() == kLongestPeriod) marks_.erase(marks_.begin());
    marks_.push_back(std::move(now));
    return 0;
}

}  // namespace longlora::parallel
