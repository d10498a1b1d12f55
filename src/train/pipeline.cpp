// A stage posts its receives one task ahead, so that data arrives while the task before computes. Data that it sends
// leaves while the next task computes.
//
//   forward(i)    input i from the previous stage -> layers -> output i to the next stage
//                 (the last stage keeps it for its loss)
//   backward(i)   d_output i from the next stage (the last stage: from its loss) -> layers
//                 -> d_input i to the previous stage
#include "train/pipeline.h"

#include <deque>

#include "parallel/pipeline_schedule.h"
#include "parallel/plan_repetition.h"

namespace longlora {
namespace {

using parallel::Pass;

/// A tensor that is being sent or received.
struct Parcel {
    ArenaTensor data;
    parallel::Request request;
};

/// A micro-batch between its forward and its backward.
struct Alive {
    MicroBatch batch;
    StageSaved saved;
};

class StageRun {
public:
    StageRun(Model& model, parallel::MeshCommunicators& mesh, const MicroBatches& batches, Tensor loss_sum, float scale,
             const ActivationPlan& activations)
        : model_(model),
          mesh_(mesh),
          batches_(batches),
          loss_sum_(loss_sum),
          scale_(scale),
          activations_(activations),
          tasks_(parallel::one_forward_one_backward(mesh.shape.pipeline, mesh.at.pipeline, batches.count)),
          before_(alike_before(tasks_, batches)),
          after_(alike_after(before_)) {}

    void run() {
        parallel::PlanRepetition repetition(
            model_.device(), {mesh_.sequence.get(), mesh_.data.get(), mesh_.forward.get(), mesh_.backward.get()});
        for (std::size_t t = 0; t < tasks_.size(); ++t) {
            expect_until(t + 1);  // this task's input and the next one's
            const std::int64_t i = tasks_[t].micro_batch;
            const bool idle = batches_.num_sequences(i) == 0, last = i + 1 == batches_.count;
            if (tasks_[t].pass == Pass::forward) idle ? model_.idle_forward() : forward(i);
            else idle ? idle_backward(last) : backward(last);
            // Otherwise the gradients of the last unit would stay in memory during the next forward pass.
            if (tasks_[t].pass == Pass::backward) model_.zero().finish_gradients();
            if (tasks_[t].pass == Pass::backward && before_[t] >= 2) {
                const std::size_t left_out = 2 * repetition.skip((before_[t] - 1) / 2, (after_[t] - 1) / 2);
                t += left_out, next_expected_ += left_out;
            }
        }
        for (auto* parcels : {&sent_forward_, &sent_backward_}) finish_all(*parcels);
    }

private:
    /// For each task, how many tasks right before it make the rank do the same: they are forward and backward in turn,
    /// of whole micro-batches other than the last one, whose gradients are summed over ranks.
    static std::vector<std::int64_t> alike_before(const std::vector<parallel::PipelineTask>& tasks,
                                                  const MicroBatches& batches) {
        std::vector<std::int64_t> alike(tasks.size());
        const auto usual = [&](const parallel::PipelineTask& task) {
            return batches.num_sequences(task.micro_batch) == batches.num_sequences(0) &&
                   task.micro_batch + 1 < batches.count;
        };
        for (std::size_t t = 1; t < tasks.size(); ++t)
            if (tasks[t].pass != tasks[t - 1].pass && usual(tasks[t]) && usual(tasks[t - 1]))
                alike[t] = alike[t - 1] + 1;
        return alike;
    }
    /// The same for the tasks right after each task.
    static std::vector<std::int64_t> alike_after(const std::vector<std::int64_t>& before) {
        std::vector<std::int64_t> after(before.size());
        for (std::size_t t = before.size(); t-- > 1;)
            if (before[t] > 0) after[t - 1] = after[t] + 1;
        return after;
    }
    /// Posts the receives of all tasks up to task `t`, in the order of tasks.
    void expect_until(std::size_t t) {
        for (; next_expected_ <= t && next_expected_ < tasks_.size(); ++next_expected_) {
            const auto [pass, i] = tasks_[next_expected_];
            const bool from_peer = pass == Pass::forward ? !model_.stage().has_embedding : !model_.stage().has_head;
            const std::int64_t sequences = batches_.num_sequences(i);
            if (!from_peer || sequences == 0) continue;
            Parcel parcel{model_.stage_input(sequences), {}};
            parcel.request = line(pass).exchange(
                {}, {{mesh_.at.pipeline + (pass == Pass::forward ? -1 : 1), parcel.data}}, Device::compute_stream());
            (pass == Pass::forward ? inputs_ : d_outputs_).push_back(std::move(parcel));
        }
    }
    parallel::Communicator& line(Pass pass) { return pass == Pass::forward ? *mesh_.forward : *mesh_.backward; }

    static ArenaTensor take(std::deque<Parcel>& parcels) {
        Parcel parcel = std::move(parcels.front());
        parcels.pop_front();
        parcel.request.finish();
        return std::move(parcel.data);
    }
    static void finish_all(std::deque<Parcel>& parcels) {
        for (; !parcels.empty(); parcels.pop_front()) parcels.front().request.finish();
    }
    /// In each direction one parcel is under way at a time, so that sent activations do not pile up.
    void send(Pass pass, ArenaTensor data) {
        auto& sent = pass == Pass::forward ? sent_forward_ : sent_backward_;
        finish_all(sent);
        Parcel parcel{std::move(data), {}};
        parcel.request = line(pass).exchange({{mesh_.at.pipeline + (pass == Pass::forward ? 1 : -1), parcel.data}}, {},
                                             Device::compute_stream());
        sent.push_back(std::move(parcel));
    }

    void forward(std::int64_t i) {
        alive_.push_back({batches_.make(i), {}});
        Alive& now = alive_.back();
        now.saved =
            model_.forward(now.batch, model_.stage().has_embedding ? ArenaTensor{} : take(inputs_), activations_);
        if (!model_.stage().has_head) send(Pass::forward, std::move(now.saved.out));
    }
    void backward(bool last) {
        Alive now = std::move(alive_.front());
        alive_.pop_front();
        ArenaTensor d_out = model_.stage().has_head
                                ? model_.loss_gradient(now.batch, now.saved, loss_sum_, scale_, last)
                                : take(d_outputs_);
        ArenaTensor d_input = model_.backward(now.batch, now.saved, std::move(d_out), last);
        if (!model_.stage().has_embedding) send(Pass::backward, std::move(d_input));
    }
    void idle_backward(bool last) {
        if (model_.stage().has_head) model_.idle_loss_gradient(last);
        model_.idle_backward(last);
    }

    Model& model_;
    parallel::MeshCommunicators& mesh_;
    const MicroBatches& batches_;
    Tensor loss_sum_;
    float scale_;
    const ActivationPlan& activations_;
    const std::vector<parallel::PipelineTask> tasks_;
    const std::vector<std::int64_t> before_, after_;  // by task: how many next to it do the same
    std::size_t next_expected_ = 0;
    std::deque<Alive> alive_;                // in the order of the forward passes, which the backward passes have too
    std::deque<Parcel> inputs_, d_outputs_;  // expected
    std::deque<Parcel> sent_forward_, sent_backward_;
};

}  // namespace

void run_micro_batches(Model& model, parallel::MeshCommunicators& mesh, const MicroBatches& batches, Tensor loss_sum,
                       float scale, const ActivationPlan& activations) {
    StageRun(model, mesh, batches, loss_sum, scale, activations).run();
}

}  // namespace longlora
