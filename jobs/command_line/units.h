// Sizes and times as people write them: "80GB", "1.5GiB", "90m", "2h", "600". Pure parsing.
#pragma once

#include <cstdint>
#include <string>

namespace longlora {

/// Bytes. KB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB (or K, M, G, T) of 1024; no unit: bytes. `option` names
/// it in messages.
std::int64_t parse_bytes(const std::string& value, const std::string& option);
/// Seconds. s, m, h, d; no unit: seconds; also H:MM:SS as Slurm writes it.
double parse_seconds(const std::string& value, const std::string& option);

/// The value of --timeout: an Error if it is no time or none at all.
void check_timeout(const std::string& value);

}  // namespace longlora
