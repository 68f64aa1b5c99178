// Integer intrinsics on a word as two 16-bit or four 8-bit integers (__vadd4 and the like).
//
// Not here: the fused ones (__viaddmax_s32 ...).
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

namespace emulated {

// operation(a's part, b's part) -> int, in every part of the word.
template <class Small, class Operation>
unsigned int per_part(unsigned int a, unsigned int b, Operation operation) {
    constexpr int bits = 8 * sizeof(Small);
    using Unsigned = std::make_unsigned_t<Small>;
    unsigned int result = 0;
    for (int at = 0; at < 32; at += bits) {
        const int value = operation(static_cast<int>(static_cast<Small>(a >> at)),
                                    static_cast<int>(static_cast<Small>(b >> at)));
        result |= static_cast<unsigned int>(static_cast<Unsigned>(value)) << at;
    }
    return result;
}

template <class Small, class Operation>
unsigned int sum_of_parts(unsigned int a, unsigned int b, Operation operation) {
    unsigned int sum = 0;
    for (int at = 0; at < 32; at += 8 * sizeof(Small)) {
        sum += operation(static_cast<int>(static_cast<Small>(a >> at)),
                         static_cast<int>(static_cast<Small>(b >> at)));
    }
    return sum;
}

template <class Small>
int saturate(int x) {
    using Limits = std::numeric_limits<Small>;
    return x < Limits::min() ? Limits::min() : x > Limits::max() ? Limits::max() : x;
}

}  // namespace emulated

// Each for both widths: s and u are the signed and unsigned integers of that width.
#define KH_SIMD_WIDTH(name, width, Signed, Unsigned, Small, expression)                            \
    inline unsigned int name##width(unsigned int a, unsigned int b) {                              \
        using s [[maybe_unused]] = Signed;                                                         \
        using u [[maybe_unused]] = Unsigned;                                                       \
        const auto operation = []([[maybe_unused]] int x, [[maybe_unused]] int y) -> int {         \
            return expression;                                                                     \
        };                                                                                         \
        return emulated::per_part<Small>(a, b, operation);                                         \
    }
#define KH_SIMD(name, Small, expression)                                                           \
    KH_SIMD_WIDTH(name, 2, std::int16_t, std::uint16_t, Small, (expression))                       \
    KH_SIMD_WIDTH(name, 4, std::int8_t, std::uint8_t, Small, (expression))
#define KH_SIMD_UNARY(name, Small, expression)                                                     \
    KH_SIMD(name##_of_, Small, expression)                                                         \
    inline unsigned int name##2(unsigned int a) { return name##_of_2(a, 0); }                      \
    inline unsigned int name##4(unsigned int a) { return name##_of_4(a, 0); }

KH_SIMD(__vadd, u, x + y)
KH_SIMD(__vsub, u, x - y)
KH_SIMD(__vaddss, s, emulated::saturate<s>(x + y))
KH_SIMD(__vaddus, u, emulated::saturate<u>(x + y))
KH_SIMD(__vsubss, s, emulated::saturate<s>(x - y))
KH_SIMD(__vsubus, u, emulated::saturate<u>(x - y))
KH_SIMD(__vabsdiffs, s, x < y ? y - x : x - y)
KH_SIMD(__vabsdiffu, u, x < y ? y - x : x - y)
KH_SIMD(__vavgs, s, x + y < 0 ? (x + y) >> 1 : (x + y + 1) >> 1)  // halves go away from zero
KH_SIMD(__vavgu, u, (x + y + 1) >> 1)
KH_SIMD(__vhaddu, u, (x + y) >> 1)
KH_SIMD(__vmaxs, s, x > y ? x : y)
KH_SIMD(__vmaxu, u, x > y ? x : y)
KH_SIMD(__vmins, s, x < y ? x : y)
KH_SIMD(__vminu, u, x < y ? x : y)
KH_SIMD_UNARY(__vabs, s, x < 0 ? -x : x)
KH_SIMD_UNARY(__vabsss, s, emulated::saturate<s>(x < 0 ? -x : x))
KH_SIMD_UNARY(__vneg, s, -x)
KH_SIMD_UNARY(__vnegss, s, emulated::saturate<s>(-x))

// __vcmp: all bits of the part; __vset: its lowest bit.
#define KH_SIMD_COMPARE(suffix, Small, comparison)                                                 \
    KH_SIMD(__vcmp##suffix, Small, comparison ? -1 : 0)                                            \
    KH_SIMD(__vset##suffix, Small, comparison ? 1 : 0)
KH_SIMD_COMPARE(eq, u, (x == y))
KH_SIMD_COMPARE(ne, u, (x != y))
KH_SIMD_COMPARE(ges, s, (x >= y))
KH_SIMD_COMPARE(geu, u, (x >= y))
KH_SIMD_COMPARE(gts, s, (x > y))
KH_SIMD_COMPARE(gtu, u, (x > y))
KH_SIMD_COMPARE(les, s, (x <= y))
KH_SIMD_COMPARE(leu, u, (x <= y))
KH_SIMD_COMPARE(lts, s, (x < y))
KH_SIMD_COMPARE(ltu, u, (x < y))

#define KH_SIMD_SAD(name, Small)                                                                   \
    inline unsigned int name(unsigned int a, unsigned int b) {                                     \
        const auto distance = [](int x, int y) { return x < y ? y - x : x - y; };                  \
        return emulated::sum_of_parts<Small>(a, b, distance);                                      \
    }
KH_SIMD_SAD(__vsads2, std::int16_t)
KH_SIMD_SAD(__vsads4, std::int8_t)
KH_SIMD_SAD(__vsadu2, std::uint16_t)
KH_SIMD_SAD(__vsadu4, std::uint8_t)

#undef KH_SIMD_SAD
#undef KH_SIMD_COMPARE
#undef KH_SIMD_UNARY
#undef KH_SIMD
#undef KH_SIMD_WIDTH
