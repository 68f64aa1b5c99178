// A float type of 16 bits and its pair: the classes, operators and functions that cuda_fp16.h and
// cuda_bf16.h have in common. Included once by each (so: no #pragma once), which define before
//
//   KH_SCALAR, KH_SCALAR_WORD   __half, half         the type, and its name in functions' names
//   KH_PAIR, KH_PAIR_WORD       __half2, half2       the same for two of them
//   KH_RAW, KH_PAIR_RAW         __half_raw, __half2_raw
//   KH_FORMAT                   emulated::Binary16   how numbers are rounded to it
//   KH_TORCH                    c10::Half            torch's type; converts to it implicitly
//   KH_FROM_TORCH               nothing, or explicit where torch's converts explicitly
//   KH_OTHER_SCALAR             __nv_bfloat16        the other such type
//   KH_CONVERSIONS, KH_OPERATORS, KH_PAIR_OPERATORS  1, or nothing where the source wants none
//
// Every operation is rounded once: to nearest even, or as its name says. It is computed in float,
// which is exact enough for + - * / sqrt; fma goes through double and rounding to odd. Functions
// like hexp are the host's float functions, rounded; a GPU's may differ in the last bit.

#define KH_JOIN_2(a, b) a##b
#define KH_JOIN_3(a, b, c) a##b##c
#define KH_JOIN_4(a, b, c, d) a##b##c##d
#define KH_JOIN(a, b) KH_JOIN_2(a, b)
#define KH_NAME(before, word, after) KH_JOIN_3(before, word, after)
#define KH_NAME_2(before, word, between, word_2) KH_JOIN_4(before, word, between, word_2)

struct alignas(2) KH_RAW {
    unsigned short x;
};
struct alignas(4) KH_PAIR_RAW {
    unsigned short x, y;
};

// ---- the classes ----

struct alignas(2) KH_SCALAR {
    KH_SCALAR() = default;
    constexpr KH_SCALAR(const KH_RAW& raw) : __x(raw.x) {}
    operator KH_RAW() const { return {__x}; }

    template <std::same_as<KH_TORCH> Torch>
    KH_FROM_TORCH KH_SCALAR(const Torch& torch) : __x(torch.x) {}
    template <std::same_as<KH_TORCH> Torch>
    operator Torch() const {
        return Torch(__x, Torch::from_bits());
    }

#if KH_CONVERSIONS
    KH_SCALAR(float x) : __x(KH_FORMAT::narrow(x)) {}
    KH_SCALAR(double x) : __x(KH_FORMAT::narrow(emulated::odd_float(x))) {}
    KH_SCALAR(short n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(unsigned short n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(int n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(unsigned int n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(long n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(unsigned long n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(long long n) : KH_SCALAR(emulated::odd_double(n)) {}
    KH_SCALAR(unsigned long long n) : KH_SCALAR(emulated::odd_double(n)) {}
    explicit inline KH_SCALAR(const KH_OTHER_SCALAR& other);

    operator float() const { return KH_FORMAT::widen(__x); }
    operator signed char() const { return integer<signed char>(); }
    operator unsigned char() const { return integer<unsigned char>(); }
    operator char() const { return integer<char>(); }
    operator short() const { return integer<short>(); }
    operator unsigned short() const { return integer<unsigned short>(); }
    operator int() const { return integer<int>(); }
    operator unsigned int() const { return integer<unsigned int>(); }
    operator long() const { return integer<long>(); }
    operator unsigned long() const { return integer<unsigned long>(); }
    operator long long() const { return integer<long long>(); }
    operator unsigned long long() const { return integer<unsigned long long>(); }
    constexpr operator bool() const { return (__x & 0x7fff) != 0; }

    KH_SCALAR& operator=(float x) { return *this = KH_SCALAR(x); }
    KH_SCALAR& operator=(double x) { return *this = KH_SCALAR(x); }
    KH_SCALAR& operator=(short n) { return *this = KH_SCALAR(n); }
    KH_SCALAR& operator=(unsigned short n) { return *this = KH_SCALAR(n); }
    KH_SCALAR& operator=(int n) { return *this = KH_SCALAR(n); }
    KH_SCALAR& operator=(unsigned int n) { return *this = KH_SCALAR(n); }
    KH_SCALAR& operator=(long long n) { return *this = KH_SCALAR(n); }
    KH_SCALAR& operator=(unsigned long long n) { return *this = KH_SCALAR(n); }

  private:
    template <class Integer>
    Integer integer() const {
        return emulated::to_integer<emulated::Round::zero, Integer>(KH_FORMAT::widen(__x));
    }
#endif

  protected:
    unsigned short __x;
};

struct alignas(4) KH_PAIR {
    KH_SCALAR x, y;

    KH_PAIR() = default;
    constexpr KH_PAIR(const KH_SCALAR& x, const KH_SCALAR& y) : x(x), y(y) {}
    constexpr KH_PAIR(const KH_PAIR_RAW& raw) : x(KH_RAW{raw.x}), y(KH_RAW{raw.y}) {}
    operator KH_PAIR_RAW() const {
        return {static_cast<KH_RAW>(x).x, static_cast<KH_RAW>(y).x};
    }
};

namespace emulated {

template <> struct FormatOf<KH_SCALAR> { using Type = KH_FORMAT; };
template <> inline constexpr bool cacheable<KH_SCALAR> = true;
template <> inline constexpr bool cacheable<KH_PAIR> = true;

inline float widen(KH_SCALAR a) { return KH_FORMAT::widen(static_cast<KH_RAW>(a).x); }

// A comparison of pairs as numbers: 1 where it holds, 0 elsewhere.
inline KH_SCALAR truth(bool holds, KH_SCALAR) {
    return KH_RAW{holds ? KH_FORMAT::one : static_cast<unsigned short>(0)};
}

}  // namespace emulated

// ---- conversions ----

inline float KH_NAME(__, KH_SCALAR_WORD, 2float)(KH_SCALAR a) { return emulated::widen(a); }
inline KH_SCALAR KH_JOIN(__float2, KH_SCALAR_WORD)(float a) { return KH_RAW{KH_FORMAT::narrow(a)}; }
inline KH_SCALAR KH_JOIN(__double2, KH_SCALAR_WORD)(double a) {
    return KH_RAW{KH_FORMAT::narrow(emulated::odd_float(a))};
}

#define KH_FROM(suffix, mode, From, from)                                                          \
    inline KH_SCALAR KH_NAME(__##from##2, KH_SCALAR_WORD, _##suffix)(From n) {                     \
        return KH_RAW{KH_FORMAT::narrow(emulated::odd_double(n), mode)};                           \
    }
#define KH_TO(suffix, mode, To, to)                                                                \
    inline To KH_NAME(__, KH_SCALAR_WORD, 2##to##_##suffix)(KH_SCALAR a) {                         \
        return emulated::to_integer<mode, To>(emulated::widen(a));                                 \
    }
#define KH_INTEGER(suffix, mode, Integer, name)                                                    \
    KH_FROM(suffix, mode, Integer, name)                                                           \
    KH_TO(suffix, mode, Integer, name)
#define KH_ROUNDED(suffix, mode)                                                                   \
    inline KH_SCALAR KH_NAME(__float2, KH_SCALAR_WORD, _##suffix)(float a) {                       \
        return KH_RAW{mode == emulated::Round::nearest ? KH_FORMAT::narrow(a)                      \
                                                       : KH_FORMAT::narrow(double{a}, mode)};      \
    }                                                                                              \
    KH_INTEGER(suffix, mode, int, int)                                                             \
    KH_INTEGER(suffix, mode, unsigned int, uint)                                                   \
    KH_INTEGER(suffix, mode, short, short)                                                         \
    KH_INTEGER(suffix, mode, unsigned short, ushort)                                               \
    KH_INTEGER(suffix, mode, long long, ll)                                                        \
    KH_INTEGER(suffix, mode, unsigned long long, ull)
KH_ROUNDED(rn, emulated::Round::nearest)
KH_ROUNDED(rz, emulated::Round::zero)
KH_ROUNDED(ru, emulated::Round::up)
KH_ROUNDED(rd, emulated::Round::down)
KH_TO(rz, emulated::Round::zero, signed char, char)
KH_TO(rz, emulated::Round::zero, unsigned char, uchar)
#undef KH_ROUNDED
#undef KH_INTEGER
#undef KH_FROM
#undef KH_TO

inline short KH_NAME(__, KH_SCALAR_WORD, _as_short)(KH_SCALAR a) {
    return static_cast<short>(static_cast<KH_RAW>(a).x);
}
inline unsigned short KH_NAME(__, KH_SCALAR_WORD, _as_ushort)(KH_SCALAR a) {
    return static_cast<KH_RAW>(a).x;
}
inline KH_SCALAR KH_JOIN(__short_as_, KH_SCALAR_WORD)(short bits) {
    return KH_RAW{static_cast<unsigned short>(bits)};
}
inline KH_SCALAR KH_JOIN(__ushort_as_, KH_SCALAR_WORD)(unsigned short bits) {
    return KH_RAW{bits};
}

// ---- pairs ----

inline KH_PAIR KH_JOIN(make_, KH_PAIR_WORD)(KH_SCALAR x, KH_SCALAR y) { return {x, y}; }
inline KH_PAIR KH_JOIN(__halves2, KH_PAIR_WORD)(KH_SCALAR x, KH_SCALAR y) { return {x, y}; }
inline KH_PAIR KH_NAME_2(__, KH_SCALAR_WORD, 2, KH_PAIR_WORD)(KH_SCALAR a) { return {a, a}; }
inline KH_PAIR KH_NAME(__floats2, KH_PAIR_WORD, _rn)(float x, float y) {
    return {KH_RAW{KH_FORMAT::narrow(x)}, KH_RAW{KH_FORMAT::narrow(y)}};
}
inline KH_PAIR KH_NAME(__float2, KH_PAIR_WORD, _rn)(float a) {
    return KH_NAME(__floats2, KH_PAIR_WORD, _rn)(a, a);
}
inline KH_PAIR KH_NAME(__float22, KH_PAIR_WORD, _rn)(float2 a) {
    return KH_NAME(__floats2, KH_PAIR_WORD, _rn)(a.x, a.y);
}
inline float __low2float(KH_PAIR a) { return emulated::widen(a.x); }
inline float __high2float(KH_PAIR a) { return emulated::widen(a.y); }
inline float2 KH_NAME(__, KH_PAIR_WORD, 2float2)(KH_PAIR a) {
    return {__low2float(a), __high2float(a)};
}
inline KH_SCALAR KH_JOIN(__low2, KH_SCALAR_WORD)(KH_PAIR a) { return a.x; }
inline KH_SCALAR KH_JOIN(__high2, KH_SCALAR_WORD)(KH_PAIR a) { return a.y; }
inline KH_PAIR KH_JOIN(__low2, KH_PAIR_WORD)(KH_PAIR a) { return {a.x, a.x}; }
inline KH_PAIR KH_JOIN(__high2, KH_PAIR_WORD)(KH_PAIR a) { return {a.y, a.y}; }
inline KH_PAIR KH_JOIN(__lows2, KH_PAIR_WORD)(KH_PAIR a, KH_PAIR b) { return {a.x, b.x}; }
inline KH_PAIR KH_JOIN(__highs2, KH_PAIR_WORD)(KH_PAIR a, KH_PAIR b) { return {a.y, b.y}; }
inline KH_PAIR __lowhigh2highlow(KH_PAIR a) { return {a.y, a.x}; }

// ---- comparisons: false where a NaN takes part; true in the ones whose name ends in u ----

inline bool __hisnan(KH_SCALAR a) { return emulated::widen(a) != emulated::widen(a); }
inline KH_PAIR __hisnan2(KH_PAIR a) {
    return {emulated::truth(__hisnan(a.x), a.x), emulated::truth(__hisnan(a.y), a.y)};
}
inline int __hisinf(KH_SCALAR a) {  // 1, or -1 for the negative one
    const float x = emulated::widen(a);
    return std::isinf(x) ? (x < 0 ? -1 : 1) : 0;
}

#define KH_COMPARE(name, expression)                                                               \
    inline bool __h##name(KH_SCALAR a, KH_SCALAR b) {                                              \
        const float x = emulated::widen(a), y = emulated::widen(b);                                \
        return expression;                                                                         \
    }                                                                                              \
    inline KH_PAIR __h##name##2(KH_PAIR a, KH_PAIR b) {                                            \
        return {emulated::truth(__h##name(a.x, b.x), a.x),                                         \
                emulated::truth(__h##name(a.y, b.y), a.y)};                                        \
    }                                                                                              \
    inline unsigned int __h##name##2_mask(KH_PAIR a, KH_PAIR b) {                                  \
        return (__h##name(a.x, b.x) ? 0xffffu : 0u) | (__h##name(a.y, b.y) ? 0xffff0000u : 0u);    \
    }                                                                                              \
    inline bool __hb##name##2(KH_PAIR a, KH_PAIR b) {                                              \
        return __h##name(a.x, b.x) && __h##name(a.y, b.y);                                         \
    }
KH_COMPARE(eq, x == y)
KH_COMPARE(ne, x < y || x > y)
KH_COMPARE(lt, x < y)
KH_COMPARE(le, x <= y)
KH_COMPARE(gt, x > y)
KH_COMPARE(ge, x >= y)
KH_COMPARE(equ, !(x < y || x > y))
KH_COMPARE(neu, x != y)
KH_COMPARE(ltu, !(x >= y))
KH_COMPARE(leu, !(x > y))
KH_COMPARE(gtu, !(x <= y))
KH_COMPARE(geu, !(x < y))
#undef KH_COMPARE

// ---- arithmetic ----

// Each of a scalar and of a pair; `expression` gives the result in float, from floats.
#define KH_UNARY(name, name_2, expression)                                                         \
    inline KH_SCALAR name(KH_SCALAR a) {                                                           \
        const float x = emulated::widen(a);                                                        \
        return KH_RAW{KH_FORMAT::narrow(expression)};                                              \
    }                                                                                              \
    inline KH_PAIR name_2(KH_PAIR a) { return {name(a.x), name(a.y)}; }
#define KH_BINARY(name, name_2, expression)                                                        \
    inline KH_SCALAR name(KH_SCALAR a, KH_SCALAR b) {                                              \
        const float x = emulated::widen(a), y = emulated::widen(b);                                \
        return KH_RAW{KH_FORMAT::narrow(expression)};                                              \
    }                                                                                              \
    inline KH_PAIR name_2(KH_PAIR a, KH_PAIR b) { return {name(a.x, b.x), name(a.y, b.y)}; }
#define KH_TERNARY(name, name_2, expression)                                                       \
    inline KH_SCALAR name(KH_SCALAR a, KH_SCALAR b, KH_SCALAR c) {                                 \
        const float x = emulated::widen(a), y = emulated::widen(b), z = emulated::widen(c);        \
        return KH_RAW{KH_FORMAT::narrow(expression)};                                              \
    }                                                                                              \
    inline KH_PAIR name_2(KH_PAIR a, KH_PAIR b, KH_PAIR c) {                                       \
        return {name(a.x, b.x, c.x), name(a.y, b.y, c.y)};                                         \
    }

KH_BINARY(__hadd, __hadd2, x + y)
KH_BINARY(__hsub, __hsub2, x - y)
KH_BINARY(__hmul, __hmul2, x * y)
KH_BINARY(__hdiv, __h2div, emulated::odd_float(double{x} / y))
KH_BINARY(__hadd_rn, __hadd2_rn, x + y)
KH_BINARY(__hsub_rn, __hsub2_rn, x - y)
KH_BINARY(__hmul_rn, __hmul2_rn, x * y)
KH_BINARY(__hadd_sat, __hadd2_sat, emulated::unit(x + y))
KH_BINARY(__hsub_sat, __hsub2_sat, emulated::unit(x - y))
KH_BINARY(__hmul_sat, __hmul2_sat, emulated::unit(x * y))
KH_TERNARY(__hfma, __hfma2, emulated::odd_fma(x, y, z))
KH_TERNARY(__hfma_sat, __hfma2_sat, emulated::unit(emulated::odd_fma(x, y, z)))
KH_TERNARY(__hfma_relu, __hfma2_relu, emulated::positive_part(emulated::odd_fma(x, y, z)))

inline KH_SCALAR __hneg(KH_SCALAR a) {
    return KH_RAW{static_cast<unsigned short>(static_cast<KH_RAW>(a).x ^ 0x8000)};
}
inline KH_SCALAR __habs(KH_SCALAR a) {
    return KH_RAW{static_cast<unsigned short>(static_cast<KH_RAW>(a).x & 0x7fff)};
}
inline KH_PAIR __hneg2(KH_PAIR a) { return {__hneg(a.x), __hneg(a.y)}; }
inline KH_PAIR __habs2(KH_PAIR a) { return {__habs(a.x), __habs(a.y)}; }

// A NaN loses against a number, or wins (_nan); -0 is less than +0.
KH_BINARY(__hmin, __hmin2, emulated::lesser(x, y))
KH_BINARY(__hmax, __hmax2, emulated::greater(x, y))
KH_BINARY(__hmin_nan, __hmin2_nan, x != x ? x : y != y ? y : emulated::lesser(x, y))
KH_BINARY(__hmax_nan, __hmax2_nan, x != x ? x : y != y ? y : emulated::greater(x, y))

// a * b + c of complex numbers, the real parts in x.
inline KH_PAIR __hcmadd(KH_PAIR a, KH_PAIR b, KH_PAIR c) {
    const KH_SCALAR real = __hfma(a.x, b.x, c.x), imaginary = __hfma(a.x, b.y, c.y);
    return {__hfma(__hneg(a.y), b.y, real), __hfma(a.y, b.x, imaginary)};
}

// ---- functions ----

KH_UNARY(hsqrt, h2sqrt, std::sqrt(x))
KH_UNARY(hrsqrt, h2rsqrt, static_cast<float>(1 / std::sqrt(double{x})))
KH_UNARY(hrcp, h2rcp, emulated::odd_float(1.0 / x))
KH_UNARY(hexp, h2exp, std::exp(x))
KH_UNARY(hexp2, h2exp2, std::exp2(x))
KH_UNARY(hexp10, h2exp10, ::exp10f(x))
KH_UNARY(hlog, h2log, std::log(x))
KH_UNARY(hlog2, h2log2, std::log2(x))
KH_UNARY(hlog10, h2log10, std::log10(x))
KH_UNARY(hsin, h2sin, std::sin(x))
KH_UNARY(hcos, h2cos, std::cos(x))
KH_UNARY(htanh, h2tanh, std::tanh(x))
KH_UNARY(htanh_approx, h2tanh_approx, std::tanh(x))
KH_UNARY(hfloor, h2floor, std::floor(x))
KH_UNARY(hceil, h2ceil, std::ceil(x))
KH_UNARY(htrunc, h2trunc, std::trunc(x))
KH_UNARY(hrint, h2rint, std::nearbyint(x))
#undef KH_UNARY
#undef KH_BINARY
#undef KH_TERNARY

// ---- with other threads ----

KH_SHUFFLES(KH_SCALAR)
KH_SHUFFLES(KH_PAIR)

inline KH_SCALAR atomicAdd(KH_SCALAR* address, KH_SCALAR value) {
    return emulated::update(address, [=](KH_SCALAR old) { return __hadd(old, value); });
}
inline KH_PAIR atomicAdd(KH_PAIR* address, KH_PAIR value) {
    return emulated::update(address, [=](KH_PAIR old) { return __hadd2(old, value); });
}

// ---- operators ----

#define KH_ARITHMETIC(T, op, function)                                                             \
    inline T operator op(const T& a, const T& b) { return function(a, b); }                        \
    inline T& operator op##=(T& a, const T& b) { return a = function(a, b); }
#define KH_STEP(T, op, function, one)                                                              \
    inline T& operator op(T& a) { return a = function(a, one); }                                   \
    inline T operator op(T& a, int) {                                                              \
        const T before = a;                                                                        \
        a = function(a, one);                                                                      \
        return before;                                                                             \
    }
#define KH_COMPARISON(T, op, function)                                                             \
    inline bool operator op(const T& a, const T& b) { return function(a, b); }

#if KH_OPERATORS
KH_ARITHMETIC(KH_SCALAR, +, __hadd)
KH_ARITHMETIC(KH_SCALAR, -, __hsub)
KH_ARITHMETIC(KH_SCALAR, *, __hmul)
KH_ARITHMETIC(KH_SCALAR, /, __hdiv)
KH_STEP(KH_SCALAR, ++, __hadd, (KH_RAW{KH_FORMAT::one}))
KH_STEP(KH_SCALAR, --, __hsub, (KH_RAW{KH_FORMAT::one}))
inline KH_SCALAR operator+(const KH_SCALAR& a) { return a; }
inline KH_SCALAR operator-(const KH_SCALAR& a) { return __hneg(a); }
KH_COMPARISON(KH_SCALAR, ==, __heq)
KH_COMPARISON(KH_SCALAR, !=, __hneu)
KH_COMPARISON(KH_SCALAR, <, __hlt)
KH_COMPARISON(KH_SCALAR, <=, __hle)
KH_COMPARISON(KH_SCALAR, >, __hgt)
KH_COMPARISON(KH_SCALAR, >=, __hge)
#endif

#if KH_PAIR_OPERATORS
KH_ARITHMETIC(KH_PAIR, +, __hadd2)
KH_ARITHMETIC(KH_PAIR, -, __hsub2)
KH_ARITHMETIC(KH_PAIR, *, __hmul2)
KH_ARITHMETIC(KH_PAIR, /, __h2div)
KH_STEP(KH_PAIR, ++, __hadd2, (KH_PAIR_RAW{KH_FORMAT::one, KH_FORMAT::one}))
KH_STEP(KH_PAIR, --, __hsub2, (KH_PAIR_RAW{KH_FORMAT::one, KH_FORMAT::one}))
inline KH_PAIR operator+(const KH_PAIR& a) { return a; }
inline KH_PAIR operator-(const KH_PAIR& a) { return __hneg2(a); }
KH_COMPARISON(KH_PAIR, ==, __hbeq2)
KH_COMPARISON(KH_PAIR, !=, __hbneu2)
KH_COMPARISON(KH_PAIR, <, __hblt2)
KH_COMPARISON(KH_PAIR, <=, __hble2)
KH_COMPARISON(KH_PAIR, >, __hbgt2)
KH_COMPARISON(KH_PAIR, >=, __hbge2)
#endif

#undef KH_ARITHMETIC
#undef KH_STEP
#undef KH_COMPARISON
#undef KH_JOIN_2
#undef KH_JOIN_3
#undef KH_JOIN_4
#undef KH_JOIN
#undef KH_NAME
#undef KH_NAME_2
#undef KH_SCALAR
#undef KH_SCALAR_WORD
#undef KH_PAIR
#undef KH_PAIR_WORD
#undef KH_RAW
#undef KH_PAIR_RAW
#undef KH_FORMAT
#undef KH_TORCH
#undef KH_FROM_TORCH
#undef KH_OTHER_SCALAR
#undef KH_CONVERSIONS
#undef KH_OPERATORS
#undef KH_PAIR_OPERATORS
