// Checksums and hashes of the tensors of a model. CRC-32C runs at the speed of memory, so that hashing a model costs
// about as much as reading it.
#include "io/content_hash.h"

#include "io/checksum.h"

namespace longlora {

TensorChecksums tensor_checksums(const SafetensorsFolder& files, const std::function<void()>& progress) {
    TensorChecksums checksums;
    for (const auto& name : files.names()) {
        const HostTensor t = files.get(name);
        checksums[name] = crc32c(t.bytes, t.size_bytes());
        if (progress) progress();
    }
    return checksums;
}

std::string content_hash(const SafetensorsFolder& files, const TensorChecksums& checksums) {
    Sha256 hash;
    for (const auto& [name, checksum] : checksums) {
        const HostTensor t = files.get(name);
        hash.add(text(name, '\n', name_of(t.dtype), to_text(t.shape), checksum, '\n'));
    }
    return hash.finish();
}

std::string content_hash(const SafetensorsFolder& files) { return content_hash(files, tensor_checksums(files)); }

std::string first_difference(const SafetensorsFolder& files, const TensorChecksums& was, const TensorChecksums& is) {
    for (const auto& [name, checksum] : was) {
        const auto found = is.find(name);
        if (found == is.end()) return text(name, " is missing in ", files.path());
        if (found->second != checksum)
            return text(name, " in ", files.file_of(name), " has other bytes than at the run's first start");
    }
    for (const auto& [name, checksum] : is)
        if (!was.count(name)) return text(name, " in ", files.file_of(name), " did not exist at the run's first start");
    return "";
}

}  // namespace longlora
