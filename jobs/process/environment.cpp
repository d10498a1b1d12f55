// Versions of libraries come from the headers with which the program was compiled; the version of MPI comes from the
// library that runs.
#include "jobs/process/environment.h"

#include <unistd.h>

#include <ctime>
#include <dnnl.hpp>

namespace longlora {

Json environment_of(const parallel::HostGroup& group, Device& device, int threads,
                    const std::vector<std::string>& command_line) {
    char host[256] = {}, library[MPI_MAX_LIBRARY_VERSION_STRING] = {}, started[32] = {};
    int length = 0;
    gethostname(host, sizeof host - 1);
    MPI_Get_library_version(library, &length);
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&now, &utc);
    std::strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    Json ranks = Json::array();
    for (const auto& rank :
         group.all_gather(Json{{"host", host}, {"threads", threads}, {"device", device.description()}}.dump()))
        ranks.push_back(Json::parse(rank));
    const auto* dnnl = dnnl_version();
    std::string mpi = library;
    mpi = mpi.substr(0, mpi.find(','));
    return {{"longlora", LONGLORA_VERSION},
            {"compiler", __VERSION__},
            {"mpi", mpi},
            {"onednn", text(dnnl->major, '.', dnnl->minor, '.', dnnl->patch)},
            {"started", started},
            {"command_line", command_line},
            {"ranks", ranks}};
}

}  // namespace longlora
