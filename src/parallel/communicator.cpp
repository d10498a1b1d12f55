// Request: a communication under way, finished exactly once.
#include "parallel/communicator.h"

#include <exception>

#include "core/error.h"

namespace longlora::parallel {

Request& Request::operator=(Request&& other) noexcept {
    if (this != &other) {
        ensure(!finish_,
               "a communication is dropped before it was finished");  // noexcept: ends the process with this sentence
        finish_ = std::exchange(other.finish_, nullptr);
    }
    return *this;
}

/// While an exception unwinds, the job ends anyway and its own sentence matters more.
Request::~Request() {
    if (std::uncaught_exceptions() == 0) ensure(!finish_, "a communication is dropped before it was finished");
}

void Request::finish(Stream stream) {
    if (auto work = std::exchange(finish_, nullptr)) work(stream);
}

}  // namespace longlora::parallel
