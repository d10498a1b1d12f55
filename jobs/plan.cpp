// `longlora plan`: the options of train, and for how many ranks.
#include <cstdio>

#include "dist/agree.h"
#include "jobs/commands.h"
#include "jobs/plan_report.h"

namespace longlora {
namespace {

struct PlanOptions {
    TrainOptions train;
    std::int64_t ranks = 0, rank = 0;
    std::string json;

    template <class V>
    void visit(V&& v) {
        v("ranks", ranks, OptionClass::free, "ranks to plan for; 0 = those of this job");
        v("rank", rank, OptionClass::free, "the rank to plan");
        v("json", json, OptionClass::free, "also write the plan to this file");
        train.visit(v);
    }
};

}  // namespace

int plan_command(const Arguments& arguments, const dist::HostGroup& group) {
    PlanOptions options;
    options.train.device = "plan";
    Parsed parsed;
    dist::agree(group, [&] {
        parsed = parse_options("plan", "Runs a training step on a device that computes nothing and says what it takes.", arguments, options);
        if (parsed.run) {
            validate(options.train);
            require(options.ranks >= 0 && options.ranks <= 1 << 20, "--ranks ", options.ranks, " is not a number of ranks; take 1 or more");
        }
    });
    if (!parsed.run) {
        if (group.rank() == 0) std::printf("%s", parsed.help.c_str());
        return 0;
    }
    return report_plan(options.train, group, static_cast<int>(options.ranks), static_cast<int>(options.rank), options.json);
}

}  // namespace longlora
