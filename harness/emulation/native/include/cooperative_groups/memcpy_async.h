// cooperative_groups::memcpy_async and its waits: unsupported, since a copy made at once would hide
// that a kernel forgot to wait for it.
#pragma once

#include "cooperative_groups.h"

namespace cooperative_groups {

template <class Group, class... Arguments>
void memcpy_async(const Group&, Arguments&&...) {
    emulated::unsupported("cooperative_groups::memcpy_async");
}
template <class Group>
void wait(const Group&) {
    emulated::unsupported("cooperative_groups::wait");
}
template <unsigned stages, class Group>
void wait_prior(const Group&) {
    emulated::unsupported("cooperative_groups::wait_prior");
}

}  // namespace cooperative_groups
