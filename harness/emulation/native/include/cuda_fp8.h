// Floats of 8 bits: e4m3 (no infinity, largest 448) and e5m2, alone and in twos and fours, with
// their conversions. CUDA has no arithmetic on them either.
//
// Conversions round to nearest even and end at the largest number (__NV_SATFINITE), or overflow to
// NaN (e4m3) or infinity (e5m2) (__NV_NOSAT). Not here: e8m0, and fp6 and fp4.
#pragma once

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulated/rounding.h"
#include "vector_types.h"

using __nv_fp8_storage_t = unsigned char;
using __nv_fp8x2_storage_t = unsigned short;
using __nv_fp8x4_storage_t = unsigned int;
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

namespace emulated {

inline unsigned char encode_fp8(double x, __nv_saturation_t saturate,
                                __nv_fp8_interpretation_t format) {
    const bool e4m3 = format == __NV_E4M3;
    const unsigned largest = e4m3 ? 0x7e : 0x7b, beyond = e4m3 ? 0x7f : 0x7c;
    if (x != x) return 0x7f;
    unsigned code = beyond;
    if (!std::isinf(x)) {
        code = e4m3 ? encode_magnitude<4, 3>(x, Round::nearest)
                    : encode_magnitude<5, 2>(x, Round::nearest);
    }
    if (code > largest) code = saturate == __NV_SATFINITE ? largest : beyond;
    return static_cast<unsigned char>(code | (std::signbit(x) ? 0x80 : 0));
}

inline float decode_fp8(unsigned char code, __nv_fp8_interpretation_t format) {
    // e5m2 is the upper half of a half.
    if (format == __NV_E5M2) return Binary16::widen(static_cast<unsigned short>(code << 8));
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    float size = exponent ? std::ldexp(8.0f + mantissa, exponent - 10)
                          : std::ldexp(static_cast<float>(mantissa), -9);
    if (exponent == 15 && mantissa == 7) size = std::numeric_limits<float>::quiet_NaN();
    return code & 0x80 ? -size : size;
}

inline float widen_raw(__half_raw x) { return Binary16::widen(x.x); }
inline float widen_raw(__nv_bfloat16_raw x) { return Brain16::widen(x.x); }

}  // namespace emulated

// ---- to 8 bits ----

#define KH_TO_FP8(name, name_2, T, T2, widen)                                                      \
    inline __nv_fp8_storage_t name(T x, __nv_saturation_t saturate,                                \
                                   __nv_fp8_interpretation_t format) {                             \
        return emulated::encode_fp8(widen(x), saturate, format);                                   \
    }                                                                                              \
    inline __nv_fp8x2_storage_t name_2(T2 v, __nv_saturation_t saturate,                           \
                                       __nv_fp8_interpretation_t format) {                         \
        const auto upper = name(T{v.y}, saturate, format);                                         \
        return static_cast<__nv_fp8x2_storage_t>(upper << 8 | name(T{v.x}, saturate, format));     \
    }
KH_TO_FP8(__nv_cvt_float_to_fp8, __nv_cvt_float2_to_fp8x2, float, float2, double)
KH_TO_FP8(__nv_cvt_double_to_fp8, __nv_cvt_double2_to_fp8x2, double, double2, double)
KH_TO_FP8(__nv_cvt_halfraw_to_fp8, __nv_cvt_halfraw2_to_fp8x2, __half_raw, __half2_raw,
          emulated::widen_raw)
KH_TO_FP8(__nv_cvt_bfloat16raw_to_fp8, __nv_cvt_bfloat16raw2_to_fp8x2, __nv_bfloat16_raw,
          __nv_bfloat162_raw, emulated::widen_raw)
#undef KH_TO_FP8

// ---- from 8 bits ----

inline __half_raw __nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t x, __nv_fp8_interpretation_t format) {
    return {emulated::Binary16::narrow(emulated::decode_fp8(x, format))};
}
inline __half2_raw __nv_cvt_fp8x2_to_halfraw2(__nv_fp8x2_storage_t x,
                                              __nv_fp8_interpretation_t format) {
    return {__nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(x), format).x,
            __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(x >> 8), format).x};
}

// ---- the classes ----

#define KH_FP8(Name, format)                                                                       \
    struct Name {                                                                                  \
        __nv_fp8_storage_t __x;                                                                    \
        Name() = default;                                                                          \
        explicit Name(float x) : __x(emulated::encode_fp8(x, __NV_SATFINITE, format)) {}           \
        explicit Name(double x) : __x(emulated::encode_fp8(x, __NV_SATFINITE, format)) {}          \
        explicit Name(__half x) : Name(emulated::widen(x)) {}                                      \
        explicit Name(__nv_bfloat16 x) : Name(emulated::widen(x)) {}                               \
        template <class Integer>                                                                   \
            requires std::is_integral_v<Integer>                                                   \
        explicit Name(Integer n) : Name(emulated::odd_double(n)) {}                                \
        explicit operator float() const { return emulated::decode_fp8(__x, format); }              \
        explicit operator double() const { return emulated::decode_fp8(__x, format); }             \
        explicit operator __half() const { return __nv_cvt_fp8_to_halfraw(__x, format); }          \
        explicit operator __nv_bfloat16() const {                                                  \
            return __float2bfloat16(emulated::decode_fp8(__x, format));                            \
        }                                                                                          \
        explicit operator bool() const { return (__x & 0x7f) != 0; }                               \
        template <class Integer>                                                                   \
            requires(std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>)                \
        explicit operator Integer() const {                                                        \
            return emulated::to_integer<emulated::Round::zero, Integer>(                           \
                emulated::decode_fp8(__x, format));                                                \
        }                                                                                          \
    };
KH_FP8(__nv_fp8_e4m3, __NV_E4M3)
KH_FP8(__nv_fp8_e5m2, __NV_E5M2)
#undef KH_FP8

#define KH_FP8X2(Name, format)                                                                     \
    struct alignas(2) Name {                                                                       \
        __nv_fp8x2_storage_t __x;                                                                  \
        Name() = default;                                                                          \
        explicit Name(float2 v) : __x(__nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, format)) {}      \
        explicit Name(double2 v) : __x(__nv_cvt_double2_to_fp8x2(v, __NV_SATFINITE, format)) {}    \
        explicit Name(__half2 v) : __x(__nv_cvt_halfraw2_to_fp8x2(v, __NV_SATFINITE, format)) {}   \
        explicit Name(__nv_bfloat162 v)                                                            \
            : __x(__nv_cvt_bfloat16raw2_to_fp8x2(v, __NV_SATFINITE, format)) {}                    \
        explicit operator __half2() const { return __nv_cvt_fp8x2_to_halfraw2(__x, format); }      \
        explicit operator float2() const { return __half22float2(__half2(*this)); }                \
    };
KH_FP8X2(__nv_fp8x2_e4m3, __NV_E4M3)
KH_FP8X2(__nv_fp8x2_e5m2, __NV_E5M2)
#undef KH_FP8X2

#define KH_FP8X4(Name, Pair)                                                                       \
    struct alignas(4) Name {                                                                       \
        __nv_fp8x4_storage_t __x;                                                                  \
        Name() = default;                                                                          \
        explicit Name(float4 v) : Name(Pair(float2{v.x, v.y}), Pair(float2{v.z, v.w})) {}          \
        explicit Name(double4 v) : Name(Pair(double2{v.x, v.y}), Pair(double2{v.z, v.w})) {}       \
        explicit Name(__half2 low, __half2 high) : Name(Pair(low), Pair(high)) {}                  \
        explicit Name(__nv_bfloat162 low, __nv_bfloat162 high) : Name(Pair(low), Pair(high)) {}    \
        explicit operator float4() const {                                                         \
            Pair low, high;                                                                        \
            low.__x = static_cast<__nv_fp8x2_storage_t>(__x);                                      \
            high.__x = static_cast<__nv_fp8x2_storage_t>(__x >> 16);                               \
            const float2 a(low), b(high);                                                          \
            return {a.x, a.y, b.x, b.y};                                                           \
        }                                                                                          \
                                                                                                   \
      private:                                                                                     \
        explicit Name(Pair low, Pair high)                                                         \
            : __x(static_cast<__nv_fp8x4_storage_t>(high.__x) << 16 | low.__x) {}                  \
    };
KH_FP8X4(__nv_fp8x4_e4m3, __nv_fp8x2_e4m3)
KH_FP8X4(__nv_fp8x4_e5m2, __nv_fp8x2_e5m2)
#undef KH_FP8X4
