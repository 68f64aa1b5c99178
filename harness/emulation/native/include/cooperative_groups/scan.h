// cooperative_groups::inclusive_scan and exclusive_scan of a tile or of some lanes, in the order of
// ranks. The first lane of an exclusive scan gets T{}, whatever the operator.
#pragma once

#include "cooperative_groups.h"
#include "cooperative_groups/functional.h"

namespace cooperative_groups {

template <class Group, class T, class Operation>
KH_INLINE auto inclusive_scan(const Group& group, T&& value, Operation&& operation)
    -> decltype(operation(value, value)) {
    using Value = std::remove_cvref_t<T>;
    const details::Everyones<Value> all(group.get_mask(), value);
    unsigned lanes = all.lanes() & (details::lanes_below() | 1u << emulated::lane());
    Value sum = all[std::countr_zero(lanes)];
    while (lanes &= lanes - 1) sum = operation(sum, all[std::countr_zero(lanes)]);
    return sum;
}
template <class Group, class T, class Operation>
KH_INLINE auto exclusive_scan(const Group& group, T&& value, Operation&& operation)
    -> decltype(operation(value, value)) {
    using Value = std::remove_cvref_t<T>;
    const details::Everyones<Value> all(group.get_mask(), value);
    unsigned lanes = all.lanes() & details::lanes_below();
    if (!lanes) return Value{};
    Value sum = all[std::countr_zero(lanes)];
    while (lanes &= lanes - 1) sum = operation(sum, all[std::countr_zero(lanes)]);
    return sum;
}

template <class Group, class T>
KH_INLINE auto inclusive_scan(const Group& group, T&& value) {
    return inclusive_scan(group, value, plus<std::remove_cvref_t<T>>());
}
template <class Group, class T>
KH_INLINE auto exclusive_scan(const Group& group, T&& value) {
    return exclusive_scan(group, value, plus<std::remove_cvref_t<T>>());
}

}  // namespace cooperative_groups
