// The option table of `longlora plan`: those of train, and what is to be planned.
#pragma once

#include "jobs/experiment/options.h"

namespace longlora {

struct PlanOptions {
    TrainOptions train;
    std::int64_t ranks = 0;
    std::string rank, machine = "cpu", json;
    Flag find, max_context;

    PlanOptions() { train.device = "plan"; }

    template <class V> void visit(V&& v) {
        v("ranks", ranks, OptionClass::free, "ranks to plan for; 0 = those of this job");
        v("rank", rank, OptionClass::free, "the rank to show, or all; default: the one with the most memory");
        v("machine", machine, OptionClass::free, "machine model: a100-80g | h100 | cpu (this computer) | FILE.toml");
        v("find", find, OptionClass::free, "propose meshes, ZeRO stages and micro-batches for --ranks, fastest first");
        v("max-context", max_context, OptionClass::free,
          "search the longest context that fits, for this mesh, or with --find for any");
        v("json", json, OptionClass::free, "also write the plan to this file");
        train.visit(v);
    }
};

}  // namespace longlora
