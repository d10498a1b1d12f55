// The option table of `longlora plan`: the options of `longlora train` (jobs/experiment/options.h) and those that say
// what to plan.
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
        v("ranks", ranks, OptionClass::free, "number of ranks to plan for; 0 = the ranks of this job");
        v("rank", rank, OptionClass::free, "rank to show, or all; default: the rank with the most memory");
        v("machine", machine, OptionClass::free,
          "machine model to plan for: a100-80g | h100 | cpu (this computer) | FILE.toml");
        v("find", find, OptionClass::free, "list the meshes, ZeRO stages and micro-batches that fit, fastest first");
        v("max-context", max_context, OptionClass::free,
          "search for the longest context that fits this mesh, or with --find any mesh");
        v("json", json, OptionClass::free,
          "file to write the plan to as JSON; it replaces an earlier plan, but no other file");
        train.visit(v);
    }
};

}  // namespace longlora
