// Shared by the tests of src/train and src/run: a temporary folder, small token files, and the sentence of an Error. No
// tests here.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "io/file.h"
#include "io/token_file.h"

namespace train_testing {

/// A folder that the destructor removes.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "longlora-train-XXXXXX").string();
        longlora::ensure(::mkdtemp(name.data()) != nullptr, "a temporary folder");
        path_ = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

/// Documents of the given lengths; each token is a pure function of its position and the seed.
inline std::vector<std::vector<std::int32_t>> documents_of(const std::vector<std::int64_t>& lengths,
                                                           std::int64_t vocabulary, std::uint64_t seed) {
    std::vector<std::vector<std::int32_t>> documents;
    std::uint64_t at = 0;
    for (const std::int64_t length : lengths) {
        documents.emplace_back();
        for (std::int64_t t = 0; t < length; ++t)
            documents.back().push_back(static_cast<std::int32_t>(longlora::random_below(vocabulary, seed, 7, at++)));
    }
    return documents;
}

inline std::shared_ptr<const longlora::TokenFile> token_file(const std::string& path,
                                                             const std::vector<std::int64_t>& lengths,
                                                             std::uint64_t seed = 1, std::int64_t vocabulary = 1000,
                                                             const std::string& tokenizer_hash = "") {
    longlora::TokenFileInfo info;
    info.tokenizer_kind = tokenizer_hash.empty() ? "none" : "sentencepiece";
    info.tokenizer_hash = tokenizer_hash;
    info.vocabulary = vocabulary;
    longlora::write_token_file(path, info, documents_of(lengths, vocabulary, seed));
    return std::make_shared<const longlora::TokenFile>(path);
}

/// The sentence of the Error that `work` throws; "" if it throws none.
template <class Work> std::string sentence_of(const Work& work) {
    try {
        work();
    } catch (const longlora::Error& error) {
        return error.what();
    }
    return "";
}

inline bool says(const std::string& sentence, const std::vector<std::string>& parts) {
    for (const std::string& part : parts)
        if (sentence.find(part) == std::string::npos) return false;
    return !sentence.empty();
}

/// Inverts one bit of the byte at `offset`.
inline void flip_bit(const std::string& path, std::int64_t offset) {
    const auto file = longlora::FileHandle::open_write(path);
    char byte = 0;
    longlora::FileHandle::open_read(path).read_at(&byte, 1, offset);
    byte = static_cast<char>(byte ^ 4);
    file.write_at(&byte, 1, offset);
}

}  // namespace train_testing
