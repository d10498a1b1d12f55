// Chooses the kind of tokenizer by the path; what both kinds have in common.
#include "io/tokenizer.h"

#include "core/error.h"
#include "io/checksum.h"
#include "io/file.h"

namespace longlora {

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
    require(file_exists(path), "the tokenizer ", path, " does not exist");
    if (is_folder(path)) {
        const std::string model = path + "/tokenizer.model", json = path + "/tokenizer.json";
        require(file_exists(model) || file_exists(json), path, " has neither tokenizer.model nor tokenizer.json");
        if (!file_exists(json)) return open_sentencepiece(model);
        auto tokenizer = open_tokenizer_json(json);
        if (file_exists(model)) check_same_vocabulary(model, json);
        return tokenizer;
    }
    const bool json = path.size() >= 5 && path.compare(path.size() - 5, 5, ".json") == 0;
    return json ? open_tokenizer_json(path) : open_sentencepiece(path);
}

std::string key_of(const Tokenizer& tokenizer, const AddedTokens& added, const std::string& settings) {
    Json all = {tokenizer.kind(), tokenizer.hash(), tokenizer.bos(), tokenizer.eos(), settings};
    for (const TextEnd* end : {&tokenizer.frame().begin, &tokenizer.frame().end}) all.push_back(end->ids);
    for (const AddedToken& t : added.all())
        all.push_back({t.content, t.id, t.single_word, t.lstrip, t.rstrip, t.normalized});
    return sha256_of(to_line(all));
}

}  // namespace longlora
