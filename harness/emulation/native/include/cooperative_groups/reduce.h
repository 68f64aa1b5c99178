// cooperative_groups::reduce of a tile or of some lanes: every lane gets the result. Values are
// combined as a tree of neighbours; the order on a GPU is unspecified.
#pragma once

#include "cooperative_groups.h"
#include "cooperative_groups/functional.h"

namespace cooperative_groups {

namespace details {

// Of the lanes first, first + 1 ... last that are in the exchange; there is at least one.
template <class T, class Operation>
T reduce_lanes(const Everyones<T>& all, unsigned lanes, Operation& operation) {
    if (std::has_single_bit(lanes)) return all[std::countr_zero(lanes)];
    unsigned lower = lanes;
    for (int drop = std::popcount(lanes) / 2; drop > 0; drop--) lower &= ~std::bit_floor(lower);
    T left = reduce_lanes(all, lower, operation);
    T right = reduce_lanes(all, lanes & ~lower, operation);
    return operation(left, right);
}

}  // namespace details

template <class Group, class T, class Operation>
KH_INLINE auto reduce(const Group& group, T&& value, Operation&& operation)
    -> decltype(operation(value, value)) {
    using Value = std::remove_cvref_t<T>;
    const details::Everyones<Value> all(group.get_mask(), value);
    return details::reduce_lanes(all, all.lanes(), operation);
}

}  // namespace cooperative_groups
