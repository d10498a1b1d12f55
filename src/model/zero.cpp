// Gathers weights and sums gradients unit by unit. Why this cannot deadlock: all ranks start and finish the same
// communications in the same order, one unit after another. A rank that waits in a communication waits for ranks that
// are in the same call, or that have started what it needs and are at a later call. So the earliest call that any rank
// is in can always end.
#include "model/zero.h"

#include <utility>

namespace longlora {

Zero::Zero(Weights& weights) : weights_(weights), units_(weights.num_units()) {}

bool Zero::is_whole(std::int64_t unit) const {
    const auto& b = weights_.buffers(unit);
    return b.open_weight || b.open_frozen;
}

/// `whole` becomes a tensor of `count` elements that holds this rank's part; the parts of the other ranks are under
/// way.
parallel::Request Zero::gather(ArenaTensor& whole, ConstTensor own, std::int64_t count) {
    if (!count) return {};
    parallel::Communicator& data = *weights_.options().data;
    const parallel::Shard place = parallel::shard_of(count, data.rank(), data.size());
    whole = weights_.device().memory().tensor(own.dtype, {count}, Use::weights);
    if (place.count) weights_.device().ops().copy(whole->slice(place.begin, place.count), own);
    return data.all_gather(whole, Device::compute_stream());
}

void Zero::gather(std::int64_t unit) {
    const UnitMark mark(weights_.device().recorder(),
                        static_cast<int>(unit));  // perhaps ahead, while another unit is computed
    auto& b = weights_.buffers(unit);
    unit_of(unit).weight = gather(b.open_weight, b.weight, weights_.layout(unit).trainable_count);
    unit_of(unit).frozen = gather(b.open_frozen, b.frozen, weights_.layout(unit).frozen_count);
    ++num_whole_;
}

void Zero::open(std::int64_t unit, std::int64_t next) {
    if (zero() < 3) return;
    ensure(weights_.holds(unit), "a unit of another stage cannot be opened");
    if (!is_whole(unit)) gather(unit);
    Unit& u = unit_of(unit);
    ++u.opens;
    u.weight.finish();
    u.frozen.finish();
    if (next >= 0 && weights_.holds(next) && !is_whole(next) && num_whole_ < 2) gather(next);
}

void Zero::close(std::int64_t unit) {
    if (zero() < 3) return;
    Unit& u = unit_of(unit);
    ensure(u.opens > 0, "a unit is closed as often as it was opened");
    if (--u.opens) return;
    weights_.buffers(unit).open_weight.release();
    weights_.buffers(unit).open_frozen.release();
    --num_whole_;
}

void Zero::clear_gradients() {
    for (std::int64_t unit = 0; unit < weights_.num_units(); ++unit)
        if (const auto& gradient = weights_.buffers(unit).gradient) weights_.device().ops().fill(gradient, 0);
}

void Zero::open_gradients(std::int64_t unit) {
    auto& b = weights_.buffers(unit);
    if (zero() < 2 || !b.gradient) return;
    ensure(!b.open_gradient, "a unit's gradients are opened once before they are closed");
    b.open_gradient =
        weights_.device().memory().tensor(DType::float32, {weights_.layout(unit).trainable_count}, Use::gradients);
    weights_.device().ops().fill(b.open_gradient, 0);
}

void Zero::close_gradients(std::int64_t unit, bool last) {
    if (!weights_.buffers(unit).gradient) return;
    if (zero() >= 2 || last) start_sum(unit);
}

/// The sum continues while the next unit's backward computes.
void Zero::start_sum(std::int64_t unit) {
    finish_sum();
    parallel::Communicator* data = weights_.options().data;
    if (!data || data->size() == 1) return;
    const UnitMark mark(weights_.device().recorder(), static_cast<int>(unit));
    auto& b = weights_.buffers(unit);
    const parallel::Shard own = weights_.own(unit);
    if (zero() >= 2) {
        ensure(static_cast<bool>(b.open_gradient), "gradients are opened before they are closed");
        sum_.whole = std::move(b.open_gradient);
        sum_.request =
            data->reduce_scatter(sum_.whole->slice(own.begin, own.count), sum_.whole, Device::compute_stream());
    } else {
        sum_.request = zero() == 1
                           ? data->reduce_scatter(weights_.own_gradient(unit), b.gradient, Device::compute_stream())
                           : data->all_reduce(b.gradient, Device::compute_stream());
    }
    sum_.unit = unit;
}

void Zero::finish_sum() {
    if (sum_.unit < 0) return;
    sum_.request.finish();
    const parallel::Shard own = weights_.own(sum_.unit);
    if (sum_.whole && own.count)
        weights_.device().ops().add(weights_.own_gradient(sum_.unit), sum_.whole->slice(own.begin, own.count));
    sum_.whole.release();
    sum_.unit = -1;
}

void Zero::finish_gradients() { finish_sum(); }

void Zero::share_update() {
    ensure(num_whole_ == 0, "no unit is open or being gathered while weights change");
    if (zero() != 1 && zero() != 2) return;
    std::vector<parallel::Request> gathers;
    for (std::int64_t unit = 0; unit < weights_.num_units(); ++unit) {
        const UnitMark mark(weights_.device().recorder(), static_cast<int>(unit));
        if (const auto& weight = weights_.buffers(unit).weight)
            gathers.push_back(weights_.options().data->all_gather(weight, Device::compute_stream()));
    }
    for (parallel::Request& gather : gathers) gather.finish();
}

}  // namespace longlora
