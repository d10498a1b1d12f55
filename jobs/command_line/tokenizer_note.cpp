// It warns and does not refuse, because tokenizer files that differ may still give the same ids.
#include "jobs/command_line/tokenizer_note.h"

#include "core/error.h"
#include "io/checksum.h"
#include "io/file.h"

namespace longlora {

std::string tokenizer_note(const std::string& model_folder, const TokenFile& file) {
    if (file.tokenizer_hash().empty() || !is_folder(model_folder)) return "";
    bool any = false;
    for (const char* name : {"/tokenizer.model", "/tokenizer.json"}) {
        if (!file_exists(model_folder + name)) continue;
        if (sha256_of_file(model_folder + name) == file.tokenizer_hash()) return "";
        any = true;
    }
    return any ? text("warning: ", file.path(), " was made with another tokenizer (", file.tokenizer_kind(), ") than ",
                      model_folder, " has; unless both give the same ids, prepare the data again with --tokenizer ",
                      model_folder)
               : "";
}

}  // namespace longlora
