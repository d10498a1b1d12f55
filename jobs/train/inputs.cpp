// Every rank opens its own files; what is small is compared here.
#include "jobs/train/inputs.h"

#include "jobs/command_line/same_options.h"
#include "model/parameters_json.h"
#include "parallel/agree.h"

namespace longlora {

Inputs open_inputs(const parallel::HostGroup& group, const TrainOptions& options) {
    Inputs opened = parallel::agreed(group, [&] {
        BaseModel base = open_base_model(options, true);
        check_rope_for_context(options, base.config);
        std::unique_ptr<const DataOrder> order = open_data(options, base.config);
        return Inputs{std::move(base), std::move(order)};
    });
    require_same_content(group, "--data (the number of its files)", text(opened.order->num_sources()));
    for (std::int64_t i = 0; i < opened.order->num_sources(); ++i)
        require_same_content(group, opened.order->file(i).path(), opened.order->file(i).content_hash());
    require_same_content(group, "--data (its weights)", opened.order->content_hash());
    require_same_content(group, text("config.json in ", options.init.empty() ? options.model : options.init),
                         opened.base.config.raw.dump());
    const auto& adapter = opened.base.adapter;
    require_same_content(group, text("adapter_config.json in ", options.adapter),
                         adapter ? to_line(to_json(adapter->trainables)) : "");
    return opened;
}

void close_model_files(Inputs& inputs) {
    inputs.base.files.reset();
    inputs.base.adapter.reset();
}

}  // namespace longlora
