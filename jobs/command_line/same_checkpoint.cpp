// Ranks compare a hash of all that a checkpoint says about itself; its block checksums stand for the values.
#include "jobs/command_line/same_checkpoint.h"

#include <filesystem>

#include "io/checksum.h"
#include "io/file.h"
#include "io/named_tensor_file.h"
#include "jobs/command_line/same_options.h"
#include "parallel/agree.h"
#include "run/checkpoint_files.h"

namespace longlora {
namespace {

std::string hash_of_checkpoint(const std::string& path) {
    const NamedTensorReader reader(path, kCheckpointFormat, kCheckpointVersion);
    require_step_of_name(path, parse_json(reader.attributes(), path));
    Sha256 hash;
    hash.add(reader.attributes());
    for (const TensorEntry& entry : reader.entries()) {
        hash.add(text('\n', entry.name, '\n', name_of(entry.dtype), to_text(entry.shape), '\n'));
        const std::vector<std::uint32_t>& checksums = reader.checksums(entry.name);
        hash.add(checksums.data(), checksums.size() * sizeof checksums[0]);
    }
    return hash.finish();
}

}  // namespace

std::string newest_checkpoint_on_all_ranks(const parallel::HostGroup& group, const std::string& run_or_file) {
    const std::string first = group.broadcast(
        parallel::agreed(group, [&] { return group.rank() == 0 ? newest_checkpoint(run_or_file) : std::string(); }));
    const std::string name = std::filesystem::path(first).filename().string();
    const std::string path = parallel::agreed(group, [&] {
        const std::string mine = is_folder(run_or_file) ? checkpoint_folder(run_or_file) + "/" + name : run_or_file;
        require(file_exists(mine), "rank 0 reads ", first, ", but there is no ", mine,
                "; give all ranks the same files (a network file system may need a minute to show a new one)");
        return mine;
    });
    require_same_checkpoint(group, path);
    return path;
}

void require_same_checkpoint(const parallel::HostGroup& group, const std::string& path) {
    require_same_content(group, text("the checkpoint ", path),
                         parallel::agreed(group, [&] { return hash_of_checkpoint(path); }));
}

}  // namespace longlora
