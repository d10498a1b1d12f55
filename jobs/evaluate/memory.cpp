// Runs two windows of each measurement through this rank's part of the mesh, as the evaluation will.
#include "jobs/evaluate/memory.h"

#include "eval/window_rounds.h"

namespace longlora {

WindowMemory plan_windows(const EvaluationInputs& inputs, const std::vector<Measurement>& measurements,
                          WeightsOptions weights_options, const Resources& resources, int rank,
                          const std::function<void()>& progress) {
    DeviceOptions options;
    options.memory_bytes = resources.memory_bytes;
    if (resources.choice.kind == DeviceKind::cuda) options.own_bytes = cuda_own_bytes();
    const auto device = make_plan_device(options);
    device->set_progress(progress);
    auto mesh = parallel::make_plan_mesh(*device, resources.shape, rank);
    weights_options.data = mesh.data.get();
    Weights weights(*device, inputs.source.config, inputs.source.trainables, weights_options, inputs.stage);
    for (const Measurement& m : measurements) {
        Model model(weights, m.pattern, m.rules.context, mesh.sequence.get());
        const std::vector<std::int32_t> any(m.rules.context);
        window_losses(model, mesh, {2, 2}, [&](std::int64_t i) {
            return i < 0 ? WindowTokens{} : window_tokens(any, 1, model.own_tokens());
        });
    }
    return {device->memory().high_water_bytes(), device->pinned().high_water_bytes()};
}

}  // namespace longlora
