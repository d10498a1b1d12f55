// Recorder: calls, FLOPs, bytes and seconds of each operation. `longlora plan`, --profile and the metrics read them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string_view>

namespace longlora {

/// A multiplication and an addition are two FLOPs. Bytes are those that the operation must read and write.
struct OpRecord {
    std::int64_t calls = 0;
    double flops = 0, bytes = 0, seconds = 0;
};

/// The seconds that an operation with so many FLOPs and bytes takes on some machine.
using OperationSeconds = std::function<double(std::string_view name, double flops, double bytes)>;

struct Recorder {
    std::map<std::string_view, OpRecord> by_operation;  ///< names are string literals
    bool time = false;                                  ///< also measure seconds, by waiting for each operation
    OperationSeconds seconds_of;                        ///< for plans: estimates the seconds; may be empty
    int unit = -1;  ///< the unit of the model that work and messages belong to now; -1: none
    std::map<int, double> flops_by_unit;
    bool whole = false;  ///< for plans: no repetition may be left out (parallel/plan_repetition.h)

    void add(std::string_view name, double flops, double bytes) {
        auto& record = by_operation[name];
        ++record.calls, record.flops += flops, record.bytes += bytes;
        if (seconds_of) record.seconds += seconds_of(name, flops, bytes);
        flops_by_unit[unit] += flops;
    }
    /// Counts what was counted since `before` so many times more.
    void repeat_since(const Recorder& before, std::int64_t times) {
        const auto n = static_cast<double>(times);
        for (auto& [name, record] : by_operation) {
            const auto found = before.by_operation.find(name);
            const OpRecord was = found == before.by_operation.end() ? OpRecord{} : found->second;
            record.calls += times * (record.calls - was.calls);
            record.flops += n * (record.flops - was.flops);
            record.bytes += n * (record.bytes - was.bytes);
            record.seconds += n * (record.seconds - was.seconds);
        }
        for (auto& [of, sum] : flops_by_unit) {
            const auto found = before.flops_by_unit.find(of);
            sum += n * (sum - (found == before.flops_by_unit.end() ? 0 : found->second));
        }
    }
    double flops() const {
        double sum = 0;
        for (const auto& [name, record] : by_operation) sum += record.flops;
        return sum;
    }
    void clear() { by_operation.clear(), flops_by_unit.clear(); }
};

/// Work and messages until the end of the scope belong to this unit.
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
