// Request: a communication that has started and must be finished exactly once.
#include "parallel/communicator.h"

#include <exception>

#include "core/error.h"

namespace longlora::parallel {

Request& Request::operator=(Request&& other) noexcept {
    if (this != &other) {
        // This function is noexcept, so a failure ends the process with this sentence.
        ensure(!finish_, "a communication was dropped before it was finished");
        finish_ = std::exchange(other.finish_, nullptr);
    }
    return *this;
}

/// While another exception is being handled the job ends anyway, and the sentence of that exception matters more.
Request::~Request() {
    if (std::uncaught_exceptions() == 0) ensure(!finish_, "a communication was dropped before it was finished");
}

void Request::finish(Stream stream) {
    if (auto work = std::exchange(finish_, nullptr)) work(stream);
}

void Communicator::repeat_traffic_since(const TrafficByUnit& before, std::int64_t times) {
    for (auto& [unit, sent] : traffic_) {
        const auto found = before.find(unit);
        const Traffic was = found == before.end() ? Traffic{} : found->second;
        sent += {times * (sent.bytes - was.bytes), times * (sent.messages - was.messages)};
    }
}

}  // namespace longlora::parallel
