// Texts begin as with transformers. They end with the end-of-text id, which transformers seldom adds, since training
// joins documents.
#include "jobs/prepare/frame.h"

#include "core/error.h"

namespace longlora {

TextFrame decide_frame(const PrepareOptions& options, const Tokenizer& tokenizer, TokenizeSettings& settings) {
    TextFrame frame = tokenizer.frame();
    settings.begin.repeated = true;
    settings.end.repeated = !frame.end.ids.empty();
    if (options.bos == "false") frame.begin = {{}, "--bos false"};
    if (options.bos == "true") {
        settings.begin.repeated = false;
        if (frame.begin.ids.empty() && tokenizer.bos() >= 0) frame.begin.ids = {tokenizer.bos()};
        frame.begin.why = frame.begin.ids.empty() ? "the tokenizer has no begin-of-text token" : "--bos true";
    }
    if (!options.eos) {
        frame.end = {{}, "--eos false"};
    } else if (frame.end.ids.empty()) {
        if (tokenizer.eos() >= 0) frame.end.ids = {tokenizer.eos()};
        frame.end.why = frame.end.ids.empty() ? "the tokenizer has no end-of-text token" : "--eos true";
    }
    settings.begin.ids = frame.begin.ids, settings.end.ids = frame.end.ids;
    return frame;
}

std::string sentence_of_end(const Tokenizer& tokenizer, const std::string& verb, const TextEnd& end) {
    std::string ids;
    for (std::int32_t id : end.ids) ids += text(ids.empty() ? "" : " ", tokenizer.name_of(id), " (", id, ")");
    return text("texts ", verb, " with ", ids.empty() ? "no added id" : ids, ": ", end.why);
}

}  // namespace longlora
