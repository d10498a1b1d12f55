// agree: ranks leave together. Whatever can fail on one rank alone (open, read, parse, allocate, write) runs inside
// agree(), so that every rank throws the same sentence instead of waiting for the rank that failed.
#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "core/error.h"
#include "parallel/host_group.h"

namespace longlora::parallel {

/// An Error that every rank throws at the same place, so that MPI can be ended in order.
struct AgreedError : Error {
    using Error::Error;
};

/// Collective. Runs `work` on every rank and compares the outcomes. If `work` threw on any rank, every rank throws an
/// AgreedError with the sentence and the exit code of the lowest failing rank. The sentence ends with "(on rank R)"
/// unless all ranks failed. An exception that is not an Error gets the exit code and the sentence of exit_code_of()
/// and sentence_of() in core/error.h. `work` itself must not communicate.
void agree(const HostGroup& group, const std::function<void()>& work);

/// The same for work that returns a value: returns what `work` returned on this rank.
template <class Work> auto agreed(const HostGroup& group, const Work& work) {
    std::optional<decltype(work())> value;
    agree(group, [&] { value.emplace(work()); });
    return *std::move(value);
}

}  // namespace longlora::parallel
