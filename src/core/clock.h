// Wall-clock seconds, and the text of durations and sizes for people. Profiling is in kernels/recorder.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace longlora {

/// Seconds of a monotonic clock since an arbitrary moment.
inline double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// "47 s", "12 min", "3 h 05 min".
inline std::string duration_text(double seconds) {
    char out[48];
    const auto s = static_cast<long long>(seconds + 0.5);
    if (s < 100) std::snprintf(out, sizeof out, "%lld s", s);
    else if (s < 6000) std::snprintf(out, sizeof out, "%lld min", (s + 30) / 60);
    else std::snprintf(out, sizeof out, "%lld h %02lld min", s / 3600, s / 60 % 60);
    return out;
}

/// "812 B", "3.4 MiB", "1.2 GiB".
inline std::string bytes_text(std::int64_t bytes) {
    const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(bytes);
    int unit = 0;
    for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
    char out[48];
    std::snprintf(out, sizeof out, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

}  // namespace longlora
