// Probe: gives tests access to the totals, the settings and the errors of the simulation.
#include "sim/runtime/probe.h"

#include <sstream>

#include "sim/runtime/queue.h"

namespace sim::probe {
namespace {

template <class Key, class Value>
void write_map(std::ostream& out, const char* name, const std::map<Key, Value>& values) {
    out << ", \"" << name << "\": {";
    const char* separator = "";
    for (const auto& [key, value] : values) {
        out << separator << '"' << key << "\": " << value;
        separator = ", ";
    }
    out << '}';
}

}  // namespace

const Totals& totals() { return runtime::totals(); }

std::size_t queued_operations() {
    std::size_t queued = 0;
    for (const runtime::Point& end : runtime::ends_of_device(-1)) queued += end.stream->queue.size();
    return queued;
}

ErrorsAreThrown::ErrorsAreThrown() { runtime::errors_are_thrown = true; }
ErrorsAreThrown::~ErrorsAreThrown() { runtime::errors_are_thrown = false; }

ChangedSettings::ChangedSettings(const std::function<void(runtime::Settings&)>& change) : before_(runtime::settings()) {
    change(runtime::settings());
}
ChangedSettings::~ChangedSettings() { runtime::settings() = before_; }

std::string counts_as_json_lines() {
    std::ostringstream out;
    for (const auto& [kernel, counts] : runtime::totals().by_kernel) {
        out << "{\"kernel\": \"" << kernel << "\", \"launches\": " << counts.launches
            << ", \"warp_instructions\": " << counts.warp_instructions;
        out << ", \"shared_requests\": " << counts.shared_requests
            << ", \"shared_wavefronts\": " << counts.shared_wavefronts;
        out << ", \"shared_ideal_wavefronts\": " << counts.shared_ideal_wavefronts
            << ", \"global_requests\": " << counts.global_requests;
        out << ", \"global_sectors\": " << counts.global_sectors
            << ", \"global_ideal_sectors\": " << counts.global_ideal_sectors;
        out << ", \"global_read_bytes\": " << counts.global_read_bytes
            << ", \"global_written_bytes\": " << counts.global_written_bytes;
        write_map(out, "by_opcode", counts.by_opcode);
        write_map(out, "worst_bank_conflict", counts.worst_bank_conflict);
        write_map(out, "worst_sector_ratio", counts.worst_sector_ratio);
        out << "}\n";
    }
    return out.str();
}

}  // namespace sim::probe
