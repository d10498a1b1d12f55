// Learning-rate schedules: pure functions of the step 1, 2, ... They have no state, so a resume restores none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace longlora {

enum class ScheduleKind : std::uint8_t { constant, linear, cosine };

constexpr std::string_view name_of(ScheduleKind kind) {
    constexpr std::string_view names[] = {"constant", "linear", "cosine"};
    return names[static_cast<int>(kind)];
}

inline ScheduleKind schedule_kind_of(const std::string& name) {
    for (const auto kind : {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine})
        if (name == name_of(kind)) return kind;
    fail(text("'", name, "' is not a learning-rate schedule; use constant, linear or cosine"));
}

struct Schedule {
    ScheduleKind kind = ScheduleKind::constant;
    std::int64_t warmup = 0, steps = 1;
    double minimum = 0;  ///< the factor at which a cosine ends
};

/// The factor of every learning rate in step k >= 1: min(1, k / warmup), then constant, or falling to 0 (linear) or to
/// the minimum (cosine) at k = steps. The schedules of transformers have these values one step later, since their first
/// step has learning rate 0.
inline double schedule_factor(const Schedule& s, std::int64_t k) {
    ensure(k >= 1, "steps count from 1");
    if (k < s.warmup) return static_cast<double>(k) / static_cast<double>(s.warmup);
    if (s.kind == ScheduleKind::constant || k <= s.warmup) return 1;
    if (k >= s.steps) return s.kind == ScheduleKind::cosine ? s.minimum : 0;
    const double done = static_cast<double>(k - s.warmup) / static_cast<double>(s.steps - s.warmup);  // in (0, 1)
    if (s.kind == ScheduleKind::linear) return 1 - done;
    return s.minimum + (1 - s.minimum) * 0.5 * (1 + std::cos(3.14159265358979323846 * done));
}

inline double learning_rate(double full, const Schedule& s, std::int64_t k) { return full * schedule_factor(s, k); }

}  // namespace longlora
