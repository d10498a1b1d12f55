// Recorder: how often each operation was called, its FLOPs, bytes and seconds. plan, --profile and the metrics read it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string_view>

namespace longlora {

/// FLOPs count a multiplication and an addition as two. Bytes are what the operation must read and write once.
struct OpRecord {
    std::int64_t calls = 0;
    double flops = 0, bytes = 0, seconds = 0;
};

/// What an operation of so many FLOPs and bytes would take on some machine.
using OperationSeconds = std::function<double(std::string_view name, double flops, double bytes)>;

struct Recorder {
    std::map<std::string_view, OpRecord> by_operation;  ///< names are string literals
    bool time = false;                                  ///< measure seconds too (waits for each operation)
    OperationSeconds seconds_of;                        ///< for plans: estimates instead of measuring; may be empty
    int unit = -1;  ///< of the model, for which work and messages are counted now; -1: for none
    std::map<int, double> flops_by_unit;

    void add(std::string_view name, double flops, double bytes) {
        auto& record = by_operation[name];
        ++record.calls, record.flops += flops, record.bytes += bytes;
        if (seconds_of) record.seconds += seconds_of(name, flops, bytes);
        flops_by_unit[unit] += flops;
    }
    double flops() const {
        double sum = 0;
        for (const auto& [name, record] : by_operation) sum += record.flops;
        return sum;
    }
    void clear() { by_operation.clear(), flops_by_unit.clear(); }
};

/// Work until the end of the scope is counted for a unit.
class UnitMark {
public:
    UnitMark(Recorder& recorder, int unit) : recorder_(recorder), before_(recorder.unit) { recorder.unit = unit; }
    ~UnitMark() { recorder_.unit = before_; }
    UnitMark(const UnitMark&) = delete;
    UnitMark& operator=(const UnitMark&) = delete;

private:
    Recorder& recorder_;
    int before_;
};

}  // namespace longlora
