// Tensors are checksummed side by side; their lines are then hashed in the order of names, so the number of threads does not matter.
#include "model/model_hash.h"

#include <exception>

#include "io/checksum.h"

namespace longlora {

std::string model_hash(const SafetensorsFolder& files) {
    const std::vector<std::string> names = files.names();
    std::vector<std::string> lines(names.size());
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic)
    for (std::size_t i = 0; i < names.size(); ++i) {
        try {
            const HostTensor t = files.get(names[i]);
            lines[i] = text(names[i], ' ', name_of(t.dtype), ' ', to_text(t.shape), ' ', crc32c(t.bytes, static_cast<std::size_t>(t.size_bytes())), '\n');
        } catch (...) {
#pragma omp critical(model_hash_failure)
            failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
    Sha256 sha;
    for (const std::string& line : lines) sha.add(line);
    return sha.finish();
}

}  // namespace longlora
