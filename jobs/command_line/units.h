// Parses sizes and times as people write them: "80GB", "1.5GiB", "90m", "2h", "600".
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

/// Returns bytes. KB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB (or K, M, G, T) are powers of 1024; without a
/// unit the number is bytes. `option` names the option in messages.
std::int64_t parse_bytes(const std::string& value, const std::string& option);
/// Returns seconds. The units are s, m, min, h, d; without a unit the number is seconds; H:MM:SS, as Slurm writes
/// times, is understood too.
double parse_seconds(const std::string& value, const std::string& option);

/// Throws an Error unless `value`, given to --timeout, is a time above 0.
void check_timeout(const std::string& value);

}  // namespace longlora
