// CRC-32C is what memory bandwidth allows, so hashing a model costs about as much as reading it.
#include "model/content_hash.h"

#include "io/checksum.h"

namespace longlora {

std::string content_hash(const SafetensorsFolder& files) {
    Sha256 hash;
    for (const auto& name : files.names()) {
        const HostTensor t = files.get(name);
        hash.add(text(name, '\n', name_of(t.dtype), to_text(t.shape), crc32c(t.bytes, static_cast<std::size_t>(t.size_bytes())), '\n'));
    }
    return hash.finish();
}

}  // namespace longlora
