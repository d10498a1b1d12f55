// Recorder: how often each operation was called, its FLOPs, bytes and seconds. plan, --profile and the metrics read it.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>

namespace longlora {

/// FLOPs count a multiplication and an addition as two. Bytes are what the operation must read and write once.
struct OpRecord {
    std::int64_t calls = 0;
    double flops = 0, bytes = 0, seconds = 0;
};

struct Recorder {
    std::map<std::string_view, OpRecord> by_operation;   ///< names are string literals
    bool time = false;                                   ///< measure seconds too (waits for each operation)

    void add(std::string_view name, double flops, double bytes) {
        auto& record = by_operation[name];
        ++record.calls, record.flops += flops, record.bytes += bytes;
    }
    double flops() const {
        double sum = 0;
        for (const auto& [name, record] : by_operation) sum += record.flops;
        return sum;
    }
    void clear() { by_operation.clear(); }
};

}  // namespace longlora
