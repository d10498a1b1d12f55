// One rank reads the weights for their hash; the others get the hash from it, or its error.
#include "jobs/train/inputs.h"

#include "jobs/command_line/same_options.h"
#include "parallel/agree.h"

namespace longlora {

OpenedInputs open_inputs(const parallel::HostGroup& group, const TrainOptions& options) {
    OpenedInputs opened = parallel::agreed(group, [&] {
        BaseModel base = open_base_model(options, true);
        check_rope_for_context(options, base.config);
        std::unique_ptr<const DataOrder> order = open_data(options, base.config);
        return OpenedInputs{std::move(base), std::move(order)};
    });
    require_same_content(group, "the token files", opened.order->content_hash());
    require_same_content(group, "config.json", opened.base.config.raw.dump());
    require_same_content(group, "the adapter", opened.base.adapter ? content_hash(*opened.base.adapter) : "");
    return opened;
}

Inputs hash_inputs(WatchedGroup& watched, OpenedInputs opened) {
    const parallel::HostGroup& group = watched.group;
    auto [hash, tensors] = parallel::agreed(group, [&] {
        const auto& files = opened.base.files;
        if (group.rank() != 0 || !files) return std::pair<std::string, TensorChecksums>();
        const TensorChecksums checksums = tensor_checksums(*files, [&watched] { watched.note_work(); });
        return std::pair(content_hash(*files, checksums), checksums);
    });
    std::string data_hash = opened.order->content_hash();
    return {std::move(opened.base), std::move(opened.order), group.broadcast(hash), std::move(tensors),
            std::move(data_hash)};
}

void close_model_files(Inputs& inputs) {
    inputs.base.files.reset();
    inputs.base.adapter.reset();
}

}  // namespace longlora
