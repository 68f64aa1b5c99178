// Conversions between numbers with a rounding mode in their name, and casts of bits.
#pragma once

#include <bit>

#include "emulated/rounding.h"

// ---- bits ----

constexpr int __float_as_int(float x) { return std::bit_cast<int>(x); }
constexpr float __int_as_float(int x) { return std::bit_cast<float>(x); }
constexpr unsigned int __float_as_uint(float x) { return std::bit_cast<unsigned int>(x); }
constexpr float __uint_as_float(unsigned int x) { return std::bit_cast<float>(x); }
constexpr long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
constexpr double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __double2hiint(double x) { return static_cast<int>(__double_as_longlong(x) >> 32); }
inline int __double2loint(double x) { return static_cast<int>(__double_as_longlong(x)); }
inline double __hiloint2double(int hi, int lo) {
    return std::bit_cast<double>(static_cast<unsigned long long>(static_cast<unsigned>(hi)) << 32 |
                                 static_cast<unsigned>(lo));
}

// ---- floating point to integers: saturating ----

#define KH_TO_INTEGER(suffix, mode)                                                                \
    inline int __float2int_##suffix(float x) { return emulated::to_integer<mode, int>(x); }        \
    inline int __double2int_##suffix(double x) { return emulated::to_integer<mode, int>(x); }      \
    inline unsigned int __float2uint_##suffix(float x) {                                           \
        return emulated::to_integer<mode, unsigned int>(x);                                        \
    }                                                                                              \
    inline unsigned int __double2uint_##suffix(double x) {                                         \
        return emulated::to_integer<mode, unsigned int>(x);                                        \
    }                                                                                              \
    inline long long __float2ll_##suffix(float x) {                                                \
        return emulated::to_integer<mode, long long>(x);                                           \
    }                                                                                              \
    inline long long __double2ll_##suffix(double x) {                                              \
        return emulated::to_integer<mode, long long>(x);                                           \
    }                                                                                              \
    inline unsigned long long __float2ull_##suffix(float x) {                                      \
        return emulated::to_integer<mode, unsigned long long>(x);                                  \
    }                                                                                              \
    inline unsigned long long __double2ull_##suffix(double x) {                                    \
        return emulated::to_integer<mode, unsigned long long>(x);                                  \
    }

// ---- to floating point ----

#define KH_CONVERT(name, From, To, mode)                                                           \
    inline To name(From x) {                                                                       \
        return emulated::rounded<mode>([](From n) { return static_cast<To>(n); }, x);              \
    }
#define KH_TO_FLOAT(suffix, mode)                                                                  \
    KH_CONVERT(__int2float_##suffix, int, float, mode)                                             \
    KH_CONVERT(__uint2float_##suffix, unsigned int, float, mode)                                   \
    KH_CONVERT(__ll2float_##suffix, long long, float, mode)                                        \
    KH_CONVERT(__ull2float_##suffix, unsigned long long, float, mode)                              \
    KH_CONVERT(__double2float_##suffix, double, float, mode)                                       \
    KH_CONVERT(__ll2double_##suffix, long long, double, mode)                                      \
    KH_CONVERT(__ull2double_##suffix, unsigned long long, double, mode)

#define KH_ROUNDED(suffix, mode)                                                                   \
    KH_TO_INTEGER(suffix, mode)                                                                    \
    KH_TO_FLOAT(suffix, mode)
KH_ROUNDED(rn, emulated::Round::nearest)
KH_ROUNDED(rz, emulated::Round::zero)
KH_ROUNDED(ru, emulated::Round::up)
KH_ROUNDED(rd, emulated::Round::down)
#undef KH_ROUNDED
#undef KH_TO_INTEGER
#undef KH_TO_FLOAT
#undef KH_CONVERT

inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned int x) { return x; }
