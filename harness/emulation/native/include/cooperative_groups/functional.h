// The operators that cooperative_groups::reduce and the scans are called with.
#pragma once

namespace cooperative_groups {

#define KH_OPERATOR(name, expression)                                                              \
    template <class T>                                                                             \
    struct name {                                                                                  \
        T operator()(T a, T b) const { return expression; }                                        \
    };
KH_OPERATOR(plus, a + b)
KH_OPERATOR(less, b < a ? b : a)
KH_OPERATOR(greater, a < b ? b : a)
KH_OPERATOR(bit_and, a & b)
KH_OPERATOR(bit_or, a | b)
KH_OPERATOR(bit_xor, a ^ b)
#undef KH_OPERATOR

}  // namespace cooperative_groups
