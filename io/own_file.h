// Files that a job writes in place as long as it runs: the metrics of a run, the heartbeats of its ranks. Their folder
// may be copied by links (cp -al, cp -rs); what the job writes then must not change the copy, nor the copy's job this
// file. Files that are written once are replaced by a rename instead (write_text_file in io/file.h), which does not
// touch other names.
#pragma once

#include <string>

#include "io/file.h"

namespace longlora {

/// Opens a file for writing and keeps its content; creates it if it does not exist. If the file has other names too, a
/// copy of it takes this name first.
FileHandle open_own_file(const std::string& path);
/// Whether the path of the open file is a name of it still, and its only one. A symbolic link is another name.
bool has_only_its_name(const FileHandle& file);
/// As file_identity() of a path (io/file.h).
std::string identity_of(const FileHandle& file);

}  // namespace longlora
