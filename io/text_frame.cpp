// Reads TemplateProcessing, and the two older kinds that know a begin and an end only.
#include "io/text_frame.h"

#include "core/error.h"
#include "io/tokenizer_fields.h"

namespace longlora {

namespace {

std::int32_t id_of(const Json& json, const std::string& path) {
    require(json.is_number_unsigned() && json.get<std::uint64_t>() < (1u << 28), path, ": the id ",
            to_line(json).substr(0, 60), " of the post_processor is not valid");
    return json.get<std::int32_t>();
}

/// {"single": [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A", ...}}],
///  "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
TextFrame frame_of_template(const Json& json, const std::string& path) {
    TextFrame frame;
    bool text_seen = false;
    const Json& single = member(json, "single", path);
    require(single.is_array(), path, ": \"single\" of the post_processor is not a list");
    for (const Json& piece : single) {
        require(
            piece.is_object() && piece.size() == 1 && (piece.contains("Sequence") || piece.contains("SpecialToken")),
            path, ": the post_processor has the piece ", to_line(piece).substr(0, 60),
            ", which longlora does not know");
        if (piece.contains("Sequence")) {
            require(!text_seen && get_text(piece["Sequence"], "id", path) == "A", path,
                    ": the template of the post_processor does not have the text once");
            text_seen = true;
            continue;
        }
        const std::string name = get_text(piece["SpecialToken"], "id", path);
        const Json& token = member(member(json, "special_tokens", path), name.c_str(), path);
        const Json& ids = member(token, "ids", path);
        require(ids.is_array(), path, ": \"ids\" of the special token ", name, " is not a list");
        for (const Json& id : ids) (text_seen ? frame.end : frame.begin).ids.push_back(id_of(id, path));
    }
    require(text_seen, path, ": the template of the post_processor does not have the text");
    return frame;
}

std::int32_t id_of_pair(const Json& json, const char* key, const std::string& path) {
    const Json& pair = member(json, key, path);
    require(pair.is_array() && pair.size() == 2, path, ": \"", key,
            "\" of the post_processor is not a token and its id");
    return id_of(pair[1], path);
}

}  // namespace

std::optional<TextFrame> frame_of_post_processor(const Json& json, const std::string& path) {
    if (json.is_null()) return std::nullopt;
    const std::string type = get_text(json, "type", path + ", post_processor");
    check_fields(json, "post_processor " + type, path);
    std::optional<TextFrame> frame;
    if (type == "TemplateProcessing") {
        frame = frame_of_template(json, path);
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
        frame.emplace();
        frame->begin.ids = {id_of_pair(json, "cls", path)};
        frame->end.ids = {id_of_pair(json, "sep", path)};
    } else if (type == "Sequence") {
        const Json& parts = member(json, "processors", path);
        require(parts.is_array(), path, ": \"processors\" is not a list");
        for (const Json& part : parts) {
            const auto inner = frame_of_post_processor(part, path);
            require(!inner || !frame, path, ": two parts of the post_processor add ids; that is not supported");
            if (inner) frame = inner;
        }
    }
    return frame;
}

void check_frame(const TextFrame& frame, std::int64_t vocabulary, const std::string& path) {
    for (const TextEnd* end : {&frame.begin, &frame.end})
        for (std::int32_t id : end->ids)
            require(id < vocabulary, path, ": the post_processor puts the id ", id,
                    " around texts, beyond the vocabulary of ", vocabulary);
}

}  // namespace longlora
