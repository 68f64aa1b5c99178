// Float helpers that the arithmetic of both 16-bit types is made of (see sixteen_bits.h).
#pragma once

#include <cmath>
#include <concepts>

#include "emulated/atomics.h"
#include "emulated/memory.h"
#include "emulated/rounding.h"
#include "emulated/warp.h"
#include "vector_functions.h"
#include "vector_types.h"

namespace c10 {  // torch's types, where its headers are included too
struct Half;
struct BFloat16;
}  // namespace c10

struct __half;
struct __half2;
struct __nv_bfloat16;
struct __nv_bfloat162;

namespace emulated {

template <class Scalar> struct FormatOf;  // how __half and __nv_bfloat16 are rounded

template <> inline constexpr bool cacheable<c10::Half> = true;
template <> inline constexpr bool cacheable<c10::BFloat16> = true;

// x * y + z for rounding once more, to 16 bits.
inline float odd_fma(float x, float y, float z) { return odd_float(odd_sum(double{x} * y, z)); }

// [0, 1], as the _sat functions clamp: NaN becomes 0.
inline float unit(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
inline float positive_part(float x) { return x < 0 ? 0 : x; }

inline float lesser(float x, float y) {
    if (x == y) return std::signbit(x) ? x : y;
    return y != y || x < y ? x : y;
}
inline float greater(float x, float y) {
    if (x == y) return std::signbit(x) ? y : x;
    return y != y || x > y ? x : y;
}

}  // namespace emulated
