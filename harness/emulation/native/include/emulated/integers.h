// Integer intrinsics: counting and permuting bits, wide products, dot products of bytes.
#pragma once

#include <bit>
#include <cstdint>

#include "vector_types.h"

// ---- bits ----

inline int __popc(unsigned int x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned int>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }

inline unsigned long long __brevll(unsigned long long x) {
    x = (x >> 1 & 0x5555555555555555ull) | (x & 0x5555555555555555ull) << 1;
    x = (x >> 2 & 0x3333333333333333ull) | (x & 0x3333333333333333ull) << 2;
    x = (x >> 4 & 0x0f0f0f0f0f0f0f0full) | (x & 0x0f0f0f0f0f0f0f0full) << 4;
    return __builtin_bswap64(x);
}
inline unsigned int __brev(unsigned int x) { return static_cast<unsigned int>(__brevll(x) >> 32); }

// Where the n-th set bit of `mask` is, counted from bit `base` upwards (n > 0), downwards (n < 0),
// or `base` itself if it is set (n = 0); all bits set where there is none.
inline unsigned int __fns(unsigned int mask, unsigned int base, int offset) {
    const int step = offset < 0 ? -1 : 1;
    int left = offset < 0 ? -offset : offset ? offset : 1;
    for (int at = static_cast<int>(base); at >= 0 && at < 32; at += step) {
        if ((mask >> at & 1) && --left == 0) return at;
        if (offset == 0) break;
    }
    return 0xffffffffu;
}

inline unsigned int __byte_perm(unsigned int x, unsigned int y, unsigned int selector) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(y) << 32 | x;
    unsigned int result = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned which = selector >> (4 * i) & 7;
        result |= static_cast<unsigned int>(bytes >> (8 * which) & 0xff) << (8 * i);
    }
    return result;
}

// The upper (l) or lower (r) word of hi:lo shifted; the shift is taken modulo 32, or clamped (c).
inline unsigned int __funnelshift_l(unsigned int lo, unsigned int hi, unsigned int shift) {
    const std::uint64_t both = static_cast<std::uint64_t>(hi) << 32 | lo;
    return static_cast<unsigned int>(both << (shift & 31) >> 32);
}
inline unsigned int __funnelshift_lc(unsigned int lo, unsigned int hi, unsigned int shift) {
    return shift >= 32 ? lo : __funnelshift_l(lo, hi, shift);
}
inline unsigned int __funnelshift_r(unsigned int lo, unsigned int hi, unsigned int shift) {
    const std::uint64_t both = static_cast<std::uint64_t>(hi) << 32 | lo;
    return static_cast<unsigned int>(both >> (shift & 31));
}
inline unsigned int __funnelshift_rc(unsigned int lo, unsigned int hi, unsigned int shift) {
    return shift >= 32 ? hi : __funnelshift_r(lo, hi, shift);
}

// ---- arithmetic ----

inline unsigned int __umul24(unsigned int x, unsigned int y) {
    return (x & 0xffffffu) * (y & 0xffffffu);
}
inline int __mul24(int x, int y) {
    const auto low = [](int n) { return static_cast<std::int64_t>(static_cast<int>(
                                     static_cast<unsigned int>(n) << 8) >> 8); };
    return static_cast<int>(low(x) * low(y));
}
inline int __mulhi(int x, int y) {
    return static_cast<int>(static_cast<std::int64_t>(x) * y >> 32);
}
inline unsigned int __umulhi(unsigned int x, unsigned int y) {
    return static_cast<unsigned int>(static_cast<std::uint64_t>(x) * y >> 32);
}
inline long long __mul64hi(long long x, long long y) {
    return static_cast<long long>(static_cast<__int128>(x) * y >> 64);
}
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
inline unsigned int __sad(int x, int y, unsigned int z) {
    const auto difference = static_cast<std::int64_t>(x) - y;
    return z + static_cast<unsigned int>(difference < 0 ? -difference : difference);
}
inline unsigned int __usad(unsigned int x, unsigned int y, unsigned int z) {
    return z + (x < y ? y - x : x - y);
}
inline int __hadd(int x, int y) {
    return static_cast<int>((static_cast<std::int64_t>(x) + y) >> 1);
}
inline int __rhadd(int x, int y) {
    return static_cast<int>((static_cast<std::int64_t>(x) + y + 1) >> 1);
}
inline unsigned int __uhadd(unsigned int x, unsigned int y) {
    return static_cast<unsigned int>((static_cast<std::uint64_t>(x) + y) >> 1);
}
inline unsigned int __urhadd(unsigned int x, unsigned int y) {
    return static_cast<unsigned int>((static_cast<std::uint64_t>(x) + y + 1) >> 1);
}

// ---- dot products of small integers, added to c ----

namespace emulated {

template <class Small>
Small part(unsigned int word, int i) {
    return static_cast<Small>(word >> (8 * sizeof(Small) * i));
}

template <class Byte, class Sum>
Sum dot_4(unsigned int a, unsigned int b, Sum c) {
    unsigned int sum = static_cast<unsigned int>(c);
    for (int i = 0; i < 4; i++) sum += part<Byte>(a, i) * part<Byte>(b, i);
    return static_cast<Sum>(sum);
}

// Of two 16-bit integers in a and two bytes in b, the lower or the upper pair.
template <class Short, class Byte, class Sum>
Sum dot_2(unsigned int a, unsigned int b, Sum c, int first) {
    auto sum = static_cast<unsigned int>(c);
    for (int i = 0; i < 2; i++) sum += part<Short>(a, i) * part<Byte>(b, first + i);
    return static_cast<Sum>(sum);
}

}  // namespace emulated

inline int __dp4a(int a, int b, int c) { return emulated::dot_4<signed char>(a, b, c); }
inline unsigned int __dp4a(unsigned int a, unsigned int b, unsigned int c) {
    return emulated::dot_4<unsigned char>(a, b, c);
}
inline int __dp4a(char4 a, char4 b, int c) {
    return __dp4a(std::bit_cast<int>(a), std::bit_cast<int>(b), c);
}
inline unsigned int __dp4a(uchar4 a, uchar4 b, unsigned int c) {
    return __dp4a(std::bit_cast<unsigned int>(a), std::bit_cast<unsigned int>(b), c);
}

#define KH_DP2A(name, first)                                                                       \
    inline int name(int a, int b, int c) {                                                         \
        return emulated::dot_2<short, signed char>(a, b, c, first);                                \
    }                                                                                              \
    inline unsigned int name(unsigned int a, unsigned int b, unsigned int c) {                     \
        return emulated::dot_2<unsigned short, unsigned char>(a, b, c, first);                     \
    }                                                                                              \
    inline int name(short2 a, char4 b, int c) {                                                    \
        return name(std::bit_cast<int>(a), std::bit_cast<int>(b), c);                              \
    }                                                                                              \
    inline unsigned int name(ushort2 a, uchar4 b, unsigned int c) {                                \
        return name(std::bit_cast<unsigned int>(a), std::bit_cast<unsigned int>(b), c);            \
    }
KH_DP2A(__dp2a_lo, 0)
KH_DP2A(__dp2a_hi, 2)
#undef KH_DP2A
