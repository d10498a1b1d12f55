// agree: what can fail on one rank (open, read, parse, allocate, write) ends here, so that all ranks leave together,
// with one sentence.
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

/// Runs `work` on every rank, then all ranks compare: if any threw, every rank throws an AgreedError (sentence and exit
/// code) of the lowest failing rank; with more than one rank "(on rank R)" is added. Other exceptions than Error travel
/// as ExitCode::internal. `work` itself must not communicate.
void agree(const HostGroup& group, const std::function<void()>& work);

/// The same for work that returns a value: returns what `work` returned on this rank.
template <class Work> auto agreed(const HostGroup& group, const Work& work) {
    std::optional<decltype(work())> value;
    agree(group, [&] { value.emplace(work()); });
    return *std::move(value);
}

}  // namespace longlora::parallel
