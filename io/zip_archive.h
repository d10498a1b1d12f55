// Finds the entries of a zip file without unpacking them: PyTorch stores tensors in such files uncompressed. It reads
// sizes and places only, and compares no checksums. Writing is in io/torch_file.cpp.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "io/file.h"

namespace longlora {

struct ZipEntry {
    std::int64_t begin = 0, bytes = 0;  // in the file
    std::uint32_t crc = 0;              // CRC-32 of the bytes, as the file says
};

/// The entries of the file by name, also of files beyond 4 GiB (zip64). An Error if the file is no zip file, is cut
/// short, has entries beyond its end, or has compressed ones.
std::map<std::string, ZipEntry> zip_entries(const MappedFile& file);

}  // namespace longlora
