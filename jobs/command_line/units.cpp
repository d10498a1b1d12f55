// A value is a number and a unit from a small table.
#include "jobs/command_line/units.h"

#include <cmath>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace longlora {
namespace {

struct Quantity {
    double number = 0;
    std::string unit;
    bool valid = false;
};

Quantity split(const std::string& value) {
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    const bool valid = end != value.c_str() && std::isfinite(number) && number >= 0;
    while (*end == ' ') ++end;
    return {number, end, valid};
}

}  // namespace

std::int64_t parse_bytes(const std::string& value, const std::string& option) {
    const std::pair<const char*, double> units[] = {{"", 1},         {"B", 1},       {"KB", 1e3},     {"MB", 1e6},
                                                    {"GB", 1e9},     {"TB", 1e12},   {"K", 0x1p10},   {"M", 0x1p20},
                                                    {"G", 0x1p30},   {"T", 0x1p40},  {"KiB", 0x1p10}, {"MiB", 0x1p20},
                                                    {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    const Quantity q = split(value);
    for (const auto& [unit, factor] : units)
        if (q.valid && q.unit == unit && q.number * factor < 0x1p62)
            return static_cast<std::int64_t>(q.number * factor);
    fail(text(option, " '", value, "' is not a size; write for example 80GB, 1.5GiB or a number of bytes"));
}

double parse_seconds(const std::string& value, const std::string& option) {
    int hours = 0, minutes = 0, seconds = 0;
    char rest = 0;
    if (std::sscanf(value.c_str(), "%d:%d:%d%c", &hours, &minutes, &seconds, &rest) == 3 && hours >= 0 &&
        minutes >= 0 && seconds >= 0)
        return 3600.0 * hours + 60.0 * minutes + seconds;
    const std::pair<const char*, double> units[] = {{"", 1},     {"s", 1},    {"m", 60},
                                                    {"min", 60}, {"h", 3600}, {"d", 86400}};
    const Quantity q = split(value);
    for (const auto& [unit, factor] : units)
        if (q.valid && q.unit == unit) return q.number * factor;
    fail(text(option, " '", value, "' is not a time; write for example 600, 90m, 2h or 1:30:00"));
}

void check_timeout(const std::string& value) {
    require(parse_seconds(value, "--timeout") > 0, "--timeout is ", value, "; it must be more than 0 seconds");
}

}  // namespace longlora
