// Rounding: CUDA's four modes for the host's operations, and floats of fewer than 32 bits.
//
// The host is taken to round to nearest even and to keep subnormals, as CUDA does by default.
#pragma once

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace emulated {

enum class Round { nearest, zero, up, down };

// Keeps the compiler from moving the computation of a value across a change of the rounding mode.
template <class T>
void pin(T& value) {
    asm volatile("" : "+m"(value) : : "memory");
}

// operation(operands...), correctly rounded in the given mode. The operation must be a single one
// of the host's (or fma), so that it is rounded once. It is never contracted with another one.
template <Round mode, class Operation, class... T>
auto rounded(Operation operation, T... operands) {
    if constexpr (mode == Round::nearest) {
        auto result = operation(operands...);
        asm("" : "+x"(result));
        return result;
    } else {
        constexpr int host_mode = mode == Round::zero ? FE_TOWARDZERO
                                  : mode == Round::up ? FE_UPWARD
                                                      : FE_DOWNWARD;
        const int before = std::fegetround();
        std::fesetround(host_mode);
        (pin(operands), ...);
        auto result = operation(operands...);
        pin(result);
        std::fesetround(before);
        return result;
    }
}

template <Round mode>
double integral(double x) {
    if constexpr (mode == Round::nearest) return std::nearbyint(x);
    else if constexpr (mode == Round::zero) return std::trunc(x);
    else if constexpr (mode == Round::up) return std::ceil(x);
    else return std::floor(x);
}

// As cvt.*.sat does: what does not fit becomes the closest integer that does. NaN becomes 0, or in
// 64 bits the integer with only the top bit set.
template <Round mode, class Integer>
Integer to_integer(double x) {
    using Limits = std::numeric_limits<Integer>;
    if (x != x) return sizeof(Integer) == 8 ? Integer(std::uint64_t(1) << 63) : Integer(0);
    x = integral<mode>(x);
    if (x <= static_cast<double>(Limits::min())) return Limits::min();
    // The maximum of 64 bits is no double; the power of two above it is.
    if (x >= static_cast<double>(Limits::max())) return Limits::max();
    return static_cast<Integer>(x);
}

// Rounding to odd: what is inexact gets an odd last bit. A number rounded so can be rounded again
// to two bits less or fewer, and the result is as if it had been rounded once.
inline double odd_sum(double a, double b) {
    const double sum = a + b;
    const double of_b = sum - a;
    const double error = (a - (sum - of_b)) + (b - of_b);
    auto bits = std::bit_cast<std::uint64_t>(sum);
    if (!(std::fabs(error) > 0) || std::isinf(sum) || (bits & 1)) return sum;
    return std::bit_cast<double>((error > 0) == (sum > 0) ? bits + 1 : bits - 1);
}
inline float odd_float(double x) {
    const float nearest = static_cast<float>(x);
    const auto bits = std::bit_cast<std::uint32_t>(nearest);
    if (nearest == x || x != x || (bits & 1)) return nearest;
    const bool too_small = std::fabs(nearest) < std::fabs(x);
    const float magnitude = std::bit_cast<float>((bits & 0x7fffffffu) + (too_small ? 1 : -1));
    return std::copysign(magnitude, static_cast<float>(std::copysign(1.0, x)));
}
template <class Integer>
double odd_double(Integer n) {
    if constexpr (sizeof(Integer) < 8) {
        return n;
    } else {
        std::uint64_t size = n < 0 ? 0 - static_cast<std::uint64_t>(n) : n;
        if (size >> 53) size = (size & ~0x7ffull) | ((size & 0x7ff) ? 0x800 : 0);
        return n < 0 ? -static_cast<double>(size) : static_cast<double>(size);
    }
}

// A float format of sign, `exponent_bits` and `mantissa_bits`, without the sign: the code of |x|
// rounded in `mode`, as if there were no largest exponent. Codes grow as the numbers do, so that
// the caller sees an overflow. x is finite.
template <int exponent_bits, int mantissa_bits>
unsigned encode_magnitude(double x, Round mode) {
    constexpr int lowest = 2 - (1 << (exponent_bits - 1));  // exponent of subnormal numbers
    const double size = std::fabs(x);
    if (size == 0) return 0;
    int exponent = std::ilogb(size);
    if (exponent < lowest) exponent = lowest;
    const double scaled = std::scalbn(size, mantissa_bits - exponent);
    const bool away = mode == Round::up ? x > 0 : mode == Round::down ? x < 0 : false;
    const double whole = mode == Round::nearest ? std::nearbyint(scaled)
                         : away                 ? std::ceil(scaled)
                                                : std::floor(scaled);
    return (static_cast<unsigned>(exponent - lowest) << mantissa_bits) +
           static_cast<unsigned>(whole);
}

// IEEE's way with the largest exponent: infinities and NaNs. CUDA's NaN has all bits set but the
// sign.
template <int exponent_bits, int mantissa_bits>
unsigned short encode(double x, Round mode) {
    constexpr unsigned infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
    constexpr unsigned sign_bit = 1u << (exponent_bits + mantissa_bits);
    if (x != x) return sign_bit - 1;
    unsigned code = infinity;
    if (!std::isinf(x)) {
        code = encode_magnitude<exponent_bits, mantissa_bits>(x, mode);
        const bool stops = mode == Round::zero || (mode == Round::up && x < 0) ||
                           (mode == Round::down && x > 0);
        if (code >= infinity) code = stops ? infinity - 1 : infinity;
    }
    return static_cast<unsigned short>(code | (std::signbit(x) ? sign_bit : 0));
}

// half: what cuda_fp16.h and whatever stores halves need, fast.
struct Binary16 {
    static constexpr unsigned short nan = 0x7fff, infinity = 0x7c00, one = 0x3c00;

    static float widen(unsigned short code) {
        const float scaled = std::bit_cast<float>((code & 0x7fffu) << 13) * 0x1p112f;
        auto bits = std::bit_cast<std::uint32_t>(scaled) | (code & 0x8000u) << 16;
        if ((code & infinity) == infinity) bits |= 0x7f800000u;
        return std::bit_cast<float>(bits);
    }
    static unsigned short narrow(float x) {
        const auto bits = std::bit_cast<std::uint32_t>(x);
        const unsigned sign = (bits >> 16) & 0x8000u;
        const std::uint32_t size = bits & 0x7fffffffu;
        unsigned code;
        if (size > 0x7f800000u) return nan;
        if (size >= 0x47800000u) {  // 65536
            code = infinity;
        } else if (size < 0x38800000u) {  // subnormal: the last bit of 0.5f is that of a half
            code = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3f000000u;
        } else {
            code = (size - (112u << 23) + 0xfffu + ((size >> 13) & 1)) >> 13;
        }
        return static_cast<unsigned short>(sign | code);
    }
    static unsigned short narrow(double x, Round mode) { return encode<5, 10>(x, mode); }
};

// bfloat16: the upper half of a float.
struct Brain16 {
    static constexpr unsigned short nan = 0x7fff, infinity = 0x7f80, one = 0x3f80;

    static float widen(unsigned short code) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16);
    }
    static unsigned short narrow(float x) {
        const auto bits = std::bit_cast<std::uint32_t>(x);
        if ((bits & 0x7fffffffu) > 0x7f800000u) return nan;
        return static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
    }
    static unsigned short narrow(double x, Round mode) { return encode<8, 7>(x, mode); }
};

// tf32, kept in a float: 10 of its 23 bits of mantissa. cvt.rna rounds ties away from zero.
inline float round_to_tf32(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return x;
    return std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu);
}

}  // namespace emulated
