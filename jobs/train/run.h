// Everything that lives as long as one start of `longlora train`, in the order in which it comes up. What is done with
// it: train.cpp; its folder: run_start.cpp.
#pragma once

#include <memory>
#include <string>

#include "io/content_hash.h"
#include "jobs/experiment/setup.h"
#include "jobs/process/device_choice.h"
#include "jobs/process/watched_group.h"
#include "model/model.h"
#include "parallel/mesh_communicators.h"
#include "run/checkpoint_files.h"
#include "run/lock.h"

namespace longlora {

struct Run {
    TrainOptions options;
    WatchedGroup watched;
    const parallel::HostGroup& group;  // that of `watched`
    std::unique_ptr<RunLock> lock;     // rank 0, once there is a folder
    std::string token;                 // of the lock, on all ranks
    BaseModel base;
    TensorChecksums base_checksums;  // rank 0
    std::unique_ptr<DataOrder> order;
    DeviceChoice choice;
    parallel::MeshShape shape;
    StepPlan planned;  // this rank's
    std::unique_ptr<Device> device;
    parallel::MeshCommunicators mesh;
    Stage stage;
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Model> model;
    WeightsOptions weights_options;
    ActivationPlan activations;
    Json attributes;
    Resumable found;                  // rank 0: what the run folder has
    std::string resume_from;          // a checkpoint; "" to begin
    std::int64_t snapshot_bytes = 0;  // that a checkpoint may take while training goes on
    int threads = 1;

    Run(const TrainOptions& o, const parallel::HostGroup& ranks);
    bool leads() const { return group.rank() == 0; }
    void note_work() { watched.note_work(); }
    /// From rank 0.
    void say(const std::string& sentence) const;
};

}  // namespace longlora
