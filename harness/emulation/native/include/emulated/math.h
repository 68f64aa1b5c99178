// CUDA's math functions, as far as the host's <math.h> lacks them, min and max, and the intrinsics.
//
// What CUDA calls an approximation (__expf, __sinf ...) is as exact here as the host's function;
// where its documented way of computing shows in the result (__powf, __fdividef), that is followed.
// Operations with a rounding mode in their name are exact in that mode. Nothing flushes to zero.
#pragma once

#include <math.h>
#include <stdlib.h>

#include <cmath>
#include <limits>

#include "emulated/rounding.h"

// ---- min and max: CUDA's overloads, no templates, so that std's can stand beside them ----

#define KH_MIN_MAX(A, B, T)                                                                        \
    inline T min(A a, B b) { return static_cast<T>(a) < static_cast<T>(b) ? a : b; }               \
    inline T max(A a, B b) { return static_cast<T>(a) > static_cast<T>(b) ? a : b; }
KH_MIN_MAX(int, int, int)
KH_MIN_MAX(unsigned int, unsigned int, unsigned int)
KH_MIN_MAX(int, unsigned int, unsigned int)
KH_MIN_MAX(unsigned int, int, unsigned int)
KH_MIN_MAX(long, long, long)
KH_MIN_MAX(unsigned long, unsigned long, unsigned long)
KH_MIN_MAX(long, unsigned long, unsigned long)
KH_MIN_MAX(unsigned long, long, unsigned long)
KH_MIN_MAX(long long, long long, long long)
KH_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
KH_MIN_MAX(long long, unsigned long long, unsigned long long)
KH_MIN_MAX(unsigned long long, long long, unsigned long long)
#undef KH_MIN_MAX

inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return ::fmin(a, b); }
inline double max(double a, double b) { return ::fmax(a, b); }
inline double min(float a, double b) { return ::fmin(static_cast<double>(a), b); }
inline double max(float a, double b) { return ::fmax(static_cast<double>(a), b); }
inline double min(double a, float b) { return ::fmin(a, static_cast<double>(b)); }
inline double max(double a, float b) { return ::fmax(a, static_cast<double>(b)); }

inline unsigned int umin(unsigned int a, unsigned int b) { return min(a, b); }
inline unsigned int umax(unsigned int a, unsigned int b) { return max(a, b); }
inline long long llmin(long long a, long long b) { return min(a, b); }
inline long long llmax(long long a, long long b) { return max(a, b); }
inline unsigned long long ullmin(unsigned long long a, unsigned long long b) { return min(a, b); }
inline unsigned long long ullmax(unsigned long long a, unsigned long long b) { return max(a, b); }

// ---- operations with a rounding mode ----

#define KH_UNARY(name, T, mode, expression)                                                        \
    inline T name(T x) { return emulated::rounded<mode>([](T x) -> T { return expression; }, x); }
#define KH_BINARY(name, T, mode, expression)                                                       \
    inline T name(T x, T y) {                                                                      \
        return emulated::rounded<mode>([](T x, T y) -> T { return expression; }, x, y);            \
    }
#define KH_TERNARY(name, T, mode, expression)                                                      \
    inline T name(T x, T y, T z) {                                                                 \
        return emulated::rounded<mode>([](T x, T y, T z) -> T { return expression; }, x, y, z);    \
    }
#define KH_ROUNDED(suffix, mode)                                                                   \
    KH_BINARY(__fadd_##suffix, float, mode, x + y)                                                 \
    KH_BINARY(__fsub_##suffix, float, mode, x - y)                                                 \
    KH_BINARY(__fmul_##suffix, float, mode, x * y)                                                 \
    KH_BINARY(__fdiv_##suffix, float, mode, x / y)                                                 \
    KH_TERNARY(__fmaf_##suffix, float, mode, ::fmaf(x, y, z))                                      \
    KH_TERNARY(__fmaf_ieee_##suffix, float, mode, ::fmaf(x, y, z))                                 \
    KH_UNARY(__frcp_##suffix, float, mode, 1.0f / x)                                               \
    KH_UNARY(__fsqrt_##suffix, float, mode, ::sqrtf(x))                                            \
    KH_BINARY(__dadd_##suffix, double, mode, x + y)                                                \
    KH_BINARY(__dsub_##suffix, double, mode, x - y)                                                \
    KH_BINARY(__dmul_##suffix, double, mode, x * y)                                                \
    KH_BINARY(__ddiv_##suffix, double, mode, x / y)                                                \
    KH_TERNARY(__fma_##suffix, double, mode, ::fma(x, y, z))                                       \
    KH_UNARY(__drcp_##suffix, double, mode, 1.0 / x)                                               \
    KH_UNARY(__dsqrt_##suffix, double, mode, ::sqrt(x))
KH_ROUNDED(rn, emulated::Round::nearest)
KH_ROUNDED(rz, emulated::Round::zero)
KH_ROUNDED(ru, emulated::Round::up)
KH_ROUNDED(rd, emulated::Round::down)
#undef KH_ROUNDED
#undef KH_UNARY
#undef KH_BINARY
#undef KH_TERNARY

// ---- roots, norms ----

inline double rsqrt(double x) { return static_cast<double>(1.0L / std::sqrt((long double)x)); }
inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline double rcbrt(double x) { return static_cast<double>(1.0L / std::cbrt((long double)x)); }
inline float rcbrtf(float x) { return static_cast<float>(1.0 / std::cbrt(double{x})); }
inline float rcbrt(float x) { return rcbrtf(x); }

namespace emulated {

// As hypot: neither overflow nor underflow in between, and an infinity outweighs a NaN.
template <class T>
T norm(int n, const T* p) {
    long double sum = 0;
    bool infinite = false;
    for (int i = 0; i < n; i++) {
        infinite |= std::isinf(p[i]);
        sum += static_cast<long double>(p[i]) * p[i];
    }
    return infinite ? std::numeric_limits<T>::infinity() : static_cast<T>(std::sqrt(sum));
}
template <class T>
T rnorm(int n, const T* p) {
    long double sum = 0;
    bool infinite = false;
    for (int i = 0; i < n; i++) {
        infinite |= std::isinf(p[i]);
        sum += static_cast<long double>(p[i]) * p[i];
    }
    return infinite ? T(0) : static_cast<T>(1 / std::sqrt(sum));
}

}  // namespace emulated

#define KH_NORMS(T, f)                                                                             \
    inline T norm##f(int n, const T* p) { return emulated::norm(n, p); }                           \
    inline T rnorm##f(int n, const T* p) { return emulated::rnorm(n, p); }                         \
    inline T norm3d##f(T a, T b, T c) {                                                            \
        const T p[] = {a, b, c};                                                                   \
        return emulated::norm(3, p);                                                               \
    }                                                                                              \
    inline T rnorm3d##f(T a, T b, T c) {                                                           \
        const T p[] = {a, b, c};                                                                   \
        return emulated::rnorm(3, p);                                                              \
    }                                                                                              \
    inline T norm4d##f(T a, T b, T c, T d) {                                                       \
        const T p[] = {a, b, c, d};                                                                \
        return emulated::norm(4, p);                                                               \
    }                                                                                              \
    inline T rnorm4d##f(T a, T b, T c, T d) {                                                      \
        const T p[] = {a, b, c, d};                                                                \
        return emulated::rnorm(4, p);                                                              \
    }                                                                                              \
    inline T rhypot##f(T a, T b) {                                                                 \
        const T p[] = {a, b};                                                                      \
        return emulated::rnorm(2, p);                                                              \
    }
KH_NORMS(double, )
KH_NORMS(float, f)
#undef KH_NORMS

// ---- trigonometry of multiples of pi ----

namespace emulated {

// sin(pi x) for |x| <= 1/2, in a wider type than the result's.
template <class Wide>
Wide sine_of_turn(Wide x) {
    return std::sin(Wide(3.14159265358979323846264338327950288L) * x);
}
template <class T, class Wide>
T sine_pi(T x) {
    Wide r = std::remainder(Wide(x), Wide(2));
    if (r == 0 || r == 1 || r == -1) return std::copysign(T(0), x);
    if (r > Wide(0.5)) r = 1 - r;
    if (r < Wide(-0.5)) r = -1 - r;
    return static_cast<T>(sine_of_turn(r));
}
template <class T, class Wide>
T cosine_pi(T x) {
    const Wide r = std::fabs(std::remainder(Wide(x), Wide(2)));
    return static_cast<T>(sine_of_turn(Wide(0.5) - r)) + T(0);
}

}  // namespace emulated

inline double sinpi(double x) { return emulated::sine_pi<double, long double>(x); }
inline double cospi(double x) { return emulated::cosine_pi<double, long double>(x); }
inline float sinpif(float x) { return emulated::sine_pi<float, double>(x); }
inline float cospif(float x) { return emulated::cosine_pi<float, double>(x); }
inline float sinpi(float x) { return sinpif(x); }
inline float cospi(float x) { return cospif(x); }
inline void sincospi(double x, double* s, double* c) {
    const double angle = x;
    *s = sinpi(angle);
    *c = cospi(angle);
}
inline void sincospif(float x, float* s, float* c) {
    const float angle = x;
    *s = sinpif(angle);
    *c = cospif(angle);
}
inline void sincospi(float x, float* s, float* c) { sincospif(x, s, c); }
inline void sincos(float x, float* s, float* c) { ::sincosf(x, s, c); }

// ---- exponentials, error functions, Bessel functions ----

inline float exp10(float x) { return ::exp10f(x); }

namespace emulated {

constexpr long double kTwoBySqrtPi = 1.12837916709551257389615890312154517L;

// exp(x^2) erfc(x): by definition where that does not underflow, by its asymptotic series beyond.
inline long double scaled_erfc(long double x) {
    if (x < 26) return std::exp(x * x) * std::erfc(x);
    const long double y = 1 / (2 * x * x);
    long double term = 1, sum = 1;
    for (int n = 1; n < 12; n++) sum += term *= -(2 * n - 1) * y;
    return kTwoBySqrtPi / 2 / x * sum;
}

// erfc^-1 and erf^-1 by Halley's iteration from a start good to three digits.
inline long double inverse_erfc(long double y) {
    if (!(y >= 0 && y <= 2)) return std::numeric_limits<long double>::quiet_NaN();
    if (y == 0) return std::numeric_limits<long double>::infinity();
    if (y == 2) return -std::numeric_limits<long double>::infinity();
    const long double small = y < 1 ? y : 2 - y;
    const long double t = std::sqrt(-2 * std::log(small / 2));
    long double x = (t - (2.30753L + 0.27061L * t) / (1 + (0.99229L + 0.04481L * t) * t)) /
                    1.41421356237309504880L;
    for (int i = 0; i < 4; i++) {
        const long double error = std::erfc(x) - small;
        x += error / (kTwoBySqrtPi * std::exp(-x * x) - x * error);
    }
    return y < 1 ? x : -x;
}
inline long double inverse_erf(long double y) {
    if (std::fabs(y) > 0.5L || y != y) return inverse_erfc(1 - y);
    long double x = y / kTwoBySqrtPi;
    for (int i = 0; i < 5; i++) {
        const long double error = std::erf(x) - y;
        x -= error / (kTwoBySqrtPi * std::exp(-x * x) + x * error);
    }
    return x;
}

constexpr long double kSqrtHalf = 0.70710678118654752440084436210484904L;

}  // namespace emulated

#define KH_SPECIAL(name, expression)                                                               \
    inline double name(double a) {                                                                 \
        const long double x = a;                                                                   \
        return static_cast<double>(expression);                                                    \
    }                                                                                              \
    inline float name##f(float a) {                                                                \
        const long double x = a;                                                                   \
        return static_cast<float>(expression);                                                     \
    }                                                                                              \
    inline float name(float a) { return name##f(a); }
KH_SPECIAL(erfcx, emulated::scaled_erfc(x))
KH_SPECIAL(erfinv, emulated::inverse_erf(x))
KH_SPECIAL(erfcinv, emulated::inverse_erfc(x))
KH_SPECIAL(normcdf, std::erfc(-x * emulated::kSqrtHalf) / 2)
KH_SPECIAL(normcdfinv, -emulated::inverse_erfc(2 * x) / emulated::kSqrtHalf)
KH_SPECIAL(cyl_bessel_i0, std::cyl_bessel_i(0.0L, std::fabs(x)))
KH_SPECIAL(cyl_bessel_i1, std::copysign(std::cyl_bessel_i(1.0L, std::fabs(x)), x))
#undef KH_SPECIAL

inline float j0(float x) { return ::j0f(x); }
inline float j1(float x) { return ::j1f(x); }
inline float jn(int n, float x) { return ::jnf(n, x); }
inline float y0(float x) { return ::y0f(x); }
inline float y1(float x) { return ::y1f(x); }
inline float yn(int n, float x) { return ::ynf(n, x); }

// ---- fast intrinsics (some are declared by the C library, with these types) ----

inline float __expf(float x) noexcept { return ::expf(x); }
inline float __exp10f(float x) noexcept { return ::exp10f(x); }
inline float __logf(float x) noexcept { return ::logf(x); }
inline float __log2f(float x) noexcept { return ::log2f(x); }
inline float __log10f(float x) noexcept { return ::log10f(x); }
inline float __sinf(float x) noexcept { return ::sinf(x); }
inline float __cosf(float x) noexcept { return ::cosf(x); }
inline float __tanf(float x) noexcept { return ::tanf(x); }
inline float __tanhf(float x) noexcept { return ::tanhf(x); }
inline void __sincosf(float x, float* s, float* c) noexcept { ::sincosf(x, s, c); }
// NaN for negative x, and for 0 to the 0.
inline float __powf(float x, float y) noexcept { return ::exp2f(y * ::log2f(x)); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // NaN: 0

// 0 for y beyond 2^126, where the reciprocal that it multiplies with underflows.
inline float __fdividef(float x, float y) {
    const float size = std::fabs(y);
    if (size > 0x1p126f && size < std::numeric_limits<float>::infinity()) return x * 0.0f;
    return x / y;
}
inline float fdividef(float x, float y) { return x / y; }
inline double fdivide(double x, double y) { return x / y; }
inline float fdivide(float x, float y) { return x / y; }
