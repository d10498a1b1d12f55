// Compares names first, then the values of a tied head, block by block.
#include "model/model_files.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "model/parameters.h"

namespace longlora {
namespace {

const std::string kEmbedding = "model.embed_tokens.weight", kHead = "lm_head.weight";
constexpr std::int64_t kBlockElements = 1 << 20;

/// Buffers that old versions of transformers saved with the weights; they follow from config.json.
std::set<std::string> known_buffers(const ModelConfig& config) {
    std::set<std::string> names = {"model.rotary_emb.inv_freq"};
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
        names.insert(text("model.layers.", layer, ".self_attn.rotary_emb.inv_freq"));
    return names;
}

double value_at(const HostTensor& t, std::int64_t i) {
    switch (t.dtype) {
        case DType::float32:
            return static_cast<double>(reinterpret_cast<const float*>(t.bytes)[i]);
        case DType::bfloat16:
            return static_cast<double>(reinterpret_cast<const bf16*>(t.bytes)[i]);
        case DType::float16:
            return static_cast<double>(reinterpret_cast<const fp16*>(t.bytes)[i]);
        case DType::float64:
            return reinterpret_cast<const double*>(t.bytes)[i];
        default:
            fail(
                text("a weight has the type ", name_of(t.dtype), "; it must be float16, bfloat16, float32 or float64"));
    }
}

bool same_block(const HostTensor& a, const HostTensor& b, std::int64_t begin, std::int64_t end) {
    if (a.dtype == b.dtype) {
        const std::int64_t width = size_of(a.dtype);
        return std::memcmp(a.bytes + begin * width, b.bytes + begin * width,
                           static_cast<std::size_t>((end - begin) * width)) == 0;
    }
    for (std::int64_t i = begin; i < end; ++i)
        if (value_at(a, i) != value_at(b, i)) return false;
    return true;
}

bool same_values(const HostTensor& a, const HostTensor& b, const std::function<void()>& progress) {
    for (std::int64_t begin = 0; begin < a.count(); begin += kBlockElements) {
        if (!same_block(a, b, begin, std::min(begin + kBlockElements, a.count()))) return false;
        if (progress) progress();
    }
    return true;
}

void check_tied_head(const SafetensorsFolder& files, const std::function<void()>& progress) {
    const HostTensor head = files.get(kHead), embedding = files.get(kEmbedding);
    const auto refuse = [&](const std::string& difference) {
        fail(text("the model in ", files.path(), " has a tensor '", kHead, "' with ", difference,
                  ", but its config.json ",
                  "ties them; write \"tie_word_embeddings\": false there if the head is its own, or save the model ",
                  "again without it"));
    };
    if (head.shape != embedding.shape)
        refuse(text("another shape than '", kEmbedding, "', ", to_text(head.shape), " instead of ",
                    to_text(embedding.shape)));
    if (!same_values(head, embedding, progress)) refuse(text("other values than '", kEmbedding, "'"));
}

}  // namespace

void check_model_files(const SafetensorsFolder& files, const ModelConfig& config,
                       const std::function<void()>& progress) {
    std::set<std::string> known = known_buffers(config);
    for (const Parameter& p : list_parameters(config, nothing_trainable()).parameters) {
        require(files.has(p.name), "the model in ", files.path(), " lacks the tensor '", p.name,
                "'; its files are incomplete or do not belong to its config.json");
        known.insert(p.name);
    }
    const bool extra_head = config.tied && files.has(kHead);
    if (extra_head) known.insert(kHead);
    for (const auto& name : files.names())
        require(known.count(name) != 0, "the model in ", files.path(), " has a tensor '", name,
                "' that a Llama model of its config.json does not have; take a model without biases, adapters or "
                "quantisation");
    if (extra_head) check_tied_head(files, progress);
}

}  // namespace longlora
