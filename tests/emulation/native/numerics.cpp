// Properties of the emulated device's types and functions that need no device: layout, rounding,
// sixteen- and eight-bit floats, integer intrinsics, the overloads of min and max.
//
//   g++ -std=c++20 -O2 -I harness/emulation/native/include numerics.cpp && ./a.out
//
// Returns 0 when all hold, and else prints the first failure of each.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <type_traits>

#include "emulated/device.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_fp8.h"
#include "math_constants.h"
#include "mma.h"

namespace {

using Exact = __float128;  // holds every sum and product below exactly, or farther from any tie
using emulated::Round;

std::set<std::string> failed;

void check(bool holds, const std::string& property, double a = 0, double b = 0, double c = 0) {
    if (holds || !failed.insert(property).second) return;
    std::printf("FAILED %s (%.17g, %.17g, %.17g)\n", property.c_str(), a, b, c);
}

bool same(double a, double b) {
    return (a != a && b != b) || (a == b && std::signbit(a) == std::signbit(b));
}

// ---- a reference for rounding to a small format: the neighbours of the exact number ----

struct Format {
    unsigned largest;  // code of the largest finite number; the next one up is the infinity
    double (*value)(unsigned code);
    Exact beyond;  // what would come after the largest number
};

double half_value(unsigned code) {  // g++'s own half
    const auto bits = static_cast<unsigned short>(code);
    _Float16 value;
    std::memcpy(&value, &bits, 2);
    return static_cast<double>(value);
}
double bfloat_value(unsigned code) {
    const std::uint32_t bits = code << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
double e4m3_value(unsigned code) {
    const int exponent = code >> 3, mantissa = code & 7;
    return exponent ? std::ldexp(8 + mantissa, exponent - 10) : std::ldexp(mantissa, -9);
}
double e5m2_value(unsigned code) { return half_value(code << 8); }

const Format half_format{0x7bff, half_value, 65536};
const Format bfloat_format{0x7f7f, bfloat_value, Exact(0x1p127) * 2};
const Format e4m3_format{0x7e, e4m3_value, 480};
const Format e5m2_format{0x7b, e5m2_value, 65536};

unsigned reference(const Format& format, Exact x, Round mode = Round::nearest) {
    const bool negative = x < 0;
    const Exact size = negative ? -x : x;
    unsigned low = 0, high = format.largest + 1;  // value(low) <= size < value(high)
    if (size == Exact(INFINITY)) return high;
    if (size >= format.beyond) {
        low = high;
    } else {
        while (high - low > 1) {
            const unsigned middle = (low + high) / 2;
            (format.value(middle) <= size ? low : high) = middle;
        }
    }
    const bool down = mode == Round::zero || mode == (negative ? Round::up : Round::down);
    if (low > format.largest) return down ? format.largest : low;
    const Exact below = size - format.value(low);
    if (below == 0) return low;
    if (mode != Round::nearest) return down ? low : high;
    const Exact above = (high > format.largest ? format.beyond : Exact(format.value(high))) - size;
    return below < above || (below == above && low % 2 == 0) ? low : high;
}

// ---- sixteen bits ----

template <class Scalar, class Raw, class Pair>
struct Arithmetic {
    const Format& format;
    const char* name;
    static constexpr unsigned nan = 0x7fff;

    static Scalar from(unsigned code) { return Raw{static_cast<unsigned short>(code)}; }
    static unsigned code(Scalar x) { return static_cast<Raw>(x).x; }
    double value(unsigned code) const {
        const double size = format.value(code & 0x7fff);
        return code & 0x8000 ? -size : size;
    }
    bool finite(unsigned code) const { return (code & 0x7fff) <= format.largest; }
    bool is_nan(unsigned code) const { return (code & 0x7fff) > format.largest + 1; }

    void expect(const char* what, Scalar got, Exact exact, double a, double b, double c = 0) const {
        const unsigned size = code(got) & 0x7fff;
        const bool sign_is_right = exact == 0 || (code(got) >> 15) == (exact < 0);
        check(size == reference(format, exact) && sign_is_right, std::string(name) + what, a, b, c);
    }

    void run() const {
        const Scalar others[] = {from(0x0001), from(0x03ff), from(0x3c01), from(0xbe00),
                                 from(0x4248), from(0x7bff), from(0x2e66), from(0x8423)};
        for (unsigned i = 0; i < 0x10000; i++) {
            const Scalar a = from(i);
            const double x = value(i);
            check(same(emulated::widen(a), is_nan(i) ? NAN : x), std::string(name) + " widened", x);
            check(__hisnan(a) == is_nan(i), std::string(name) + " __hisnan", x);
            if (!finite(i)) continue;
            check(code(__hneg(a)) == (i ^ 0x8000) && code(__habs(a)) == (i & 0x7fff),
                  std::string(name) + " sign", x);
            if (x > 0) expect(" hsqrt", hsqrt(a), std::sqrt((long double)x), x, 0);
            if (x != 0) expect(" hrcp", hrcp(a), 1.0L / x, x, 0);
            check(same(emulated::widen(hfloor(a)), std::floor(x)) &&
                      same(emulated::widen(hrint(a)), std::nearbyint(x)),
                  std::string(name) + " to integers", x);
            for (Scalar b : others) {
                const double y = value(code(b));
                expect(" +", __hadd(a, b), Exact(x) + y, x, y);
                expect(" -", __hsub(a, b), Exact(x) - y, x, y);
                expect(" *", __hmul(a, b), Exact(x) * y, x, y);
                expect(" /", __hdiv(a, b), Exact(x) / y, x, y);
                check(__hlt(a, b) == (x < y) && __heq(a, b) == (x == y) && __hge(a, b) == (x >= y),
                      std::string(name) + " comparisons", x, y);
                check(same(emulated::widen(__hmax(a, b)), x > y ? x : y),
                      std::string(name) + " __hmax", x, y);
                const Pair sum = __hadd2(Pair(a, b), Pair(b, a));
                check(code(sum.x) == code(__hadd(a, b)) && code(sum.y) == code(__hadd(b, a)),
                      std::string(name) + " __hadd2", x, y);
            }
            for (unsigned j = 0; j < 8; j++) {
                const Scalar b = others[j], c = others[(j + i) % 8];
                const double y = value(code(b)), z = value(code(c));
                if (std::fabs(std::log2(std::fabs(x * y / z))) > 100) continue;  // not exact
                expect(" fma", __hfma(a, b, c), Exact(x) * y + z, x, y, z);
            }
        }
        const Scalar not_a_number = from(nan), one = number_1();
        check(code(__hmax(one, not_a_number)) == code(one) &&
                  code(__hmin(not_a_number, one)) == code(one) &&
                  code(__hmax_nan(one, not_a_number)) == nan &&
                  code(__hmin_nan(not_a_number, one)) == nan,
              std::string(name) + " min and max of NaN");
        check(!__heq(one, not_a_number) && __hequ(one, not_a_number) && !__hne(one, not_a_number) &&
                  __hneu(one, not_a_number) && __hltu(one, not_a_number) &&
                  !__hge(one, not_a_number),
              std::string(name) + " comparisons with NaN");
        check(code(__hmin(from(0), from(0x8000))) == 0x8000 &&
                  code(__hmax(from(0x8000), from(0))) == 0,
              std::string(name) + " min and max of zeros");
        check(code(__hfma_relu(one, __hneg(one), from(0))) == 0 &&
                  code(__hadd_sat(one, one)) == code(one),
              std::string(name) + " _relu and _sat");
    }

    static Scalar number_1() {
        if constexpr (std::is_same_v<Scalar, __half>) return __short2half_rn(1);
        else return __short2bfloat16_rn(1);
    }
};

void narrowing() {
    std::mt19937 random(1);
    const auto compare = [](double x) {
        const auto f = static_cast<float>(x);
        const auto both = [&](const char* what, unsigned got, const Format& format, Exact exact,
                              Round mode) {
            check((got & 0x7fff) == reference(format, exact, mode), what, x);
            check((got >> 15) == std::signbit(x), std::string(what) + ", sign", x);
        };
        both("__float2half", __half_as_ushort(__float2half(f)), half_format, f, Round::nearest);
        both("__double2half", __half_as_ushort(__double2half(x)), half_format, x, Round::nearest);
        both("__float2half_rz", __half_as_ushort(__float2half_rz(f)), half_format, f, Round::zero);
        both("__float2half_ru", __half_as_ushort(__float2half_ru(f)), half_format, f, Round::up);
        both("__float2half_rd", __half_as_ushort(__float2half_rd(f)), half_format, f, Round::down);
        both("__float2bfloat16", __bfloat16_as_ushort(__float2bfloat16(f)), bfloat_format, f,
             Round::nearest);
        both("__double2bfloat16", __bfloat16_as_ushort(__double2bfloat16(x)), bfloat_format, x,
             Round::nearest);
        both("__float2bfloat16_rz", __bfloat16_as_ushort(__float2bfloat16_rz(f)), bfloat_format, f,
             Round::zero);
        both("__float2bfloat16_ru", __bfloat16_as_ushort(__float2bfloat16_ru(f)), bfloat_format, f,
             Round::up);
    };
    for (unsigned i = 0; i <= half_format.largest; i++) {
        const double low = half_value(i);
        const double high = i < half_format.largest ? half_value(i + 1) : 65536;
        const double middle = (low + high) / 2;
        for (double x : {low, middle, std::nextafter(middle, 0.0), std::nextafter(middle, 1e9),
                         static_cast<double>(std::nextafterf(static_cast<float>(middle), 1e9f))}) {
            compare(x);
            compare(-x);
        }
    }
    for (int i = 0; i < 20000; i++) {
        const std::uint32_t bits = random();
        float x;
        std::memcpy(&x, &bits, 4);
        if (std::isfinite(x)) compare(x);
    }
    compare(1e300);
    compare(-1e-300);
    check(__half_as_ushort(__float2half(NAN)) == 0x7fff, "half of NaN");
    check(__half_as_ushort(__float2half(-INFINITY)) == 0xfc00, "half of -infinity");
    check(__bfloat16_as_ushort(__float2bfloat16(NAN)) == 0x7fff, "bfloat16 of NaN");

    // (1 + 2^-7) * 1.5 is a tie of bfloat16, which a tiny number decides.
    const auto factor = __float2bfloat16(1.0078125f), tiny = __float2bfloat16(0x1p-130f);
    const auto times = __float2bfloat16(1.5f);
    check(__bfloat162float(__hfma(factor, times, tiny)) == 1.515625f &&
              __bfloat162float(__hfma(factor, times, __hneg(tiny))) == 1.5078125f,
          "bfloat16 fma, beside a tie");

    // 2^62 + 2^54 is a tie of bfloat16 (to even: down); one more is not, and lost in a double.
    check(__bfloat162float(__ll2bfloat16_rn((1ll << 62) + (1ll << 54))) == 0x1p62f,
          "__ll2bfloat16_rn, tie");
    check(__bfloat162float(__ll2bfloat16_rn((1ll << 62) + (1ll << 54) + 1)) == 0x1.02p62f,
          "__ll2bfloat16_rn, above a tie");
    check(__half2float(__int2half_rz(-70000)) == -65504 && __hisinf(__int2half_rn(70000)) == 1,
          "__int2half beyond the largest half");
    check(__half2int_rn(__float2half(2.5f)) == 2 && __half2int_ru(__float2half(2.5f)) == 3 &&
              __half2int_rd(__float2half(-2.5f)) == -3 && __half2int_rz(__float2half(-2.5f)) == -2,
          "__half2int");
    check(__half2short_rn(CUDART_INF_FP16) == 32767 && __half2uint_rn(__float2half(-3.f)) == 0 &&
              __half2int_rz(CUDART_NAN_FP16) == 0,
          "half to integers saturates");
}

void eight_bits() {
    for (unsigned i = 0; i < 256; i++) {
        const auto code = static_cast<unsigned char>(i);
        __nv_fp8_e4m3 a;
        __nv_fp8_e5m2 b;
        a.__x = b.__x = code;
        const unsigned size = i & 0x7f;
        if (size != 0x7f) {
            check(same(float(a), std::copysign(e4m3_value(size), i & 0x80 ? -1 : 1)),
                  "e4m3 to float", i);
            check(__nv_fp8_e4m3(float(a)).__x == code, "e4m3 from float", i);
        } else {
            check(float(a) != float(a), "e4m3's NaN", i);
        }
        if (size <= 0x7b) check(__nv_fp8_e5m2(float(b)).__x == code, "e5m2 there and back", i);
    }
    for (double x = 0x1p-18; x < 0x1p17; x *= 1.0009765625) {
        const auto f = static_cast<float>(x);
        const unsigned expected = reference(e4m3_format, f);
        check(__nv_cvt_float_to_fp8(f, __NV_NOSAT, __NV_E4M3) == expected, "to e4m3", x);
        check(__nv_cvt_float_to_fp8(f, __NV_SATFINITE, __NV_E4M3) ==
                  (expected > 0x7e ? 0x7e : expected), "to e4m3, saturating", x);
        check(__nv_cvt_float_to_fp8(-f, __NV_NOSAT, __NV_E5M2) ==
                  (0x80 | reference(e5m2_format, f)), "to e5m2", x);
    }
}

// ---- float and double ----

// Whether `got` is the right one of the floats around `exact`.
template <class T>
bool rounds(T got, Exact exact, Round mode) {
    const T infinity = std::numeric_limits<T>::infinity();
    const Exact below = exact - std::nextafter(got, -infinity);
    const Exact above = std::nextafter(got, infinity) - exact;
    const Exact error = got - exact;
    switch (mode) {
        case Round::down: return error <= 0 && above > 0;
        case Round::up: return error >= 0 && below > 0;
        case Round::zero: return exact < 0 ? error >= 0 && below > 0 : error <= 0 && above > 0;
        default: return (error < 0 ? -error : error) <= (below < above ? below : above);
    }
}

template <class T>
T moderate(std::mt19937& random) {  // of exponents close enough for exact sums of products
    return static_cast<T>(std::ldexp(static_cast<T>(static_cast<int>(random())) +
                                         static_cast<T>(random()) * T(0x1p-32),
                                     static_cast<int>(random() % 24) - 44));
}

#define CHECK_MODE(suffix, mode)                                                                   \
    for (int i = 0; i < 20000; i++) {                                                              \
        const float x = moderate<float>(random), y = moderate<float>(random),                      \
                    z = moderate<float>(random);                                                   \
        const double p = moderate<double>(random), q = moderate<double>(random);                   \
        const Exact ex = x, ep = p;                                                                \
        check(rounds(__fadd_##suffix(x, y), ex + y, mode), "__fadd_" #suffix, x, y);               \
        check(rounds(__fsub_##suffix(x, y), ex - y, mode), "__fsub_" #suffix, x, y);               \
        check(rounds(__fmul_##suffix(x, y), ex * y, mode), "__fmul_" #suffix, x, y);               \
        check(rounds(__fdiv_##suffix(x, y), ex / y, mode), "__fdiv_" #suffix, x, y);               \
        check(rounds(__fmaf_##suffix(x, y, z), ex * y + z, mode), "__fmaf_" #suffix, x, y, z);     \
        check(rounds(__frcp_##suffix(x), 1 / ex, mode), "__frcp_" #suffix, x);                     \
        check(rounds(__dadd_##suffix(p, q), ep + q, mode), "__dadd_" #suffix, p, q);               \
        check(rounds(__dmul_##suffix(p, q), ep * q, mode), "__dmul_" #suffix, p, q);               \
        check(rounds(__double2float_##suffix(p), ep, mode), "__double2float_" #suffix, p);         \
        const auto n = static_cast<long long>(std::uint64_t{random()} << 32 | random());           \
        check(rounds(__ll2float_##suffix(n), Exact(n), mode), "__ll2float_" #suffix, double(n));   \
        check(rounds(__ll2double_##suffix(n), Exact(n), mode), "__ll2double_" #suffix, double(n)); \
        const auto u = static_cast<unsigned long long>(n);                                         \
        check(rounds(__ull2float_##suffix(u), Exact(u), mode), "__ull2float_" #suffix, double(u)); \
        const int k = static_cast<int>(random());                                                  \
        check(rounds(__int2float_##suffix(k), Exact(k), mode), "__int2float_" #suffix, k);         \
        const Exact root = __fsqrt_##suffix(std::fabs(x));                                         \
        check(rounds(static_cast<float>(root), Exact(std::sqrt((long double)std::fabs(x))), mode), \
              "__fsqrt_" #suffix, x);                                                              \
    }

void floats() {
    std::mt19937 random(2);
    CHECK_MODE(rn, Round::nearest)
    CHECK_MODE(rz, Round::zero)
    CHECK_MODE(ru, Round::up)
    CHECK_MODE(rd, Round::down)
    check(std::fegetround() == FE_TONEAREST, "the rounding mode is put back");
    check(__float2int_rn(2.5f) == 2 && __float2int_rn(3.5f) == 4 && __float2int_rz(-2.7f) == -2 &&
              __float2int_ru(-2.7f) == -2 && __float2int_rd(-2.2f) == -3, "__float2int");
    check(__float2int_rn(3e9f) == 2147483647 && __float2int_rz(-3e9f) == -2147483647 - 1 &&
              __float2uint_rz(-1.f) == 0 && __float2uint_rn(5e9f) == 4294967295u &&
              __float2int_rz(NAN) == 0, "float to integer saturates");
    check(__float2ll_rz(1e19f) == 9223372036854775807ll && __double2ull_rn(1.5) == 2 &&
              __double2ull_rz(1e30) == 18446744073709551615ull, "to 64-bit integers");
    check(__hiloint2double(0x3ff80000, 0) == 1.5 && __double2hiint(1.5) == 0x3ff80000 &&
              __double2loint(1.0000000000000002) == 1, "the words of a double");
    check(nvcuda::wmma::__float_to_tf32(1.0f + 0x1p-11f) == 1.0f + 0x1p-10f &&
              nvcuda::wmma::__float_to_tf32(1.0f + 0x1.fcp-12f) == 1.0f, "__float_to_tf32");

    check(same(sinpif(1.0f), 0) && same(sinpif(-3.0f), -0.0) && sinpif(0.5f) == 1 &&
              sinpif(2.5f) == 1 && sinpif(3.5f) == -1 && same(cospif(0.5f), 0) &&
              same(cospif(-2.5f), 0) && cospif(1e8f + 8) == 1 && cospi(1.0) == -1, "sinpi, cospi");
    check(std::fabs(sinpi(0.25) - std::sqrt(0.5)) < 1e-16, "sinpi(1/4)");
    for (double x = -5.5; x < 5.5; x += 0.01) {
        // Where a function is close to 1, its rounding moves x by that much.
        const double close = 4e-15, steep = std::exp(x * x);
        const auto near = [=](double got, double room) { return std::fabs(got - x) < room; };
        check(near(normcdfinv(normcdf(x)), close * (10 + (x > 0 ? std::sqrt(steep) : 0))),
              "normcdfinv(normcdf(x))", x);
        check(near(erfcinv(std::erfc(x)), close * (10 + (x < 0 ? steep : 0))),
              "erfcinv(erfc(x))", x);
        check(std::fabs(erfinv(std::erf(x / 2)) - x / 2) < 1e-15 * std::exp(x * x / 4) + 1e-15,
              "erfinv(erf(x))", x);
    }
    check(erfinv(1e-300) > 8.8e-301 && erfinv(1e-300) < 8.9e-301 && std::isinf(erfinvf(1.0f)) &&
              std::isnan(erfinvf(2.0f)) && std::isinf(erfcinv(0.0)), "erfinv at its ends");
    check(std::fabs(erfcx(25.9999) / erfcx(26.0001) - 26.0001 / 25.9999) < 1e-7 &&
              std::fabs(erfcx(1.0) - 0.42758357615580700442) < 1e-16, "erfcx");
    check(std::fabs(cyl_bessel_i0f(1.0f) - 1.26606588f) < 1e-6 &&
              std::fabs(cyl_bessel_i1f(-1.0f) + 0.56515910f) < 1e-6, "cyl_bessel");
    check(norm3df(2, 3, 6) == 7 && rnorm3df(2, 3, 6) == 1 / 7.0f &&
              norm4d(1e300, 0, 0, 0) == 1e300 && rhypotf(3, 4) == 0.2f && rcbrtf(8) == 0.5f &&
              rsqrtf(4) == 0.5f && std::isinf(rsqrtf(0)), "norms and roots");
    check(__powf(-2, 2) != __powf(-2, 2) && __powf(2, 3) == 8 && __fdividef(1, 0x1p127f) == 0 &&
              __fdividef(6, 3) == 2 && __saturatef(NAN) == 0 && __saturatef(7) == 1,
          "__powf, __fdividef, __saturatef");
    check(CUDART_PI_F == 3.14159274f && std::isinf(CUDART_INF_F) &&
              CUDART_LN2 == 0.693147180559945309, "math_constants.h");
}

// ---- integers ----

void integers() {
    std::mt19937_64 random(3);
    for (int round = 0; round < 20000; round++) {
        const std::uint64_t r = random() >> random() % 64, s = random() >> random() % 64;
        const auto x = static_cast<unsigned>(r), y = static_cast<unsigned>(s);
        const int a = static_cast<int>(x), b = static_cast<int>(y);
        int bits = 0, lowest = 0, highest = 0;
        unsigned reversed = 0;
        for (int i = 0; i < 32; i++) {
            if (!(x >> i & 1)) continue;
            bits++;
            if (!lowest) lowest = i + 1;
            highest = i + 1;
            reversed |= 1u << (31 - i);
        }
        check(__popc(x) == bits && __ffs(a) == lowest && __clz(a) == 32 - highest &&
                  __brev(x) == reversed, "bits of 32", x);
        const int upper = static_cast<int>(r >> 32);
        const auto whole = static_cast<long long>(r);
        check(__clzll(whole) == (upper ? __clz(upper) : 32 + __clz(a)) &&
                  __ffsll(whole) == (a ? lowest : upper ? 32 + __ffs(upper) : 0) &&
                  __popcll(r) == bits + __popc(static_cast<unsigned>(upper)),
              "bits of 64", static_cast<double>(r));
        check(__umulhi(x, y) == static_cast<unsigned>(std::uint64_t{x} * y >> 32) &&
                  __mulhi(a, b) == static_cast<int>(std::int64_t{a} * b >> 32), "__mulhi", x, y);
        const unsigned shift = y % 40;
        const std::uint64_t joined = std::uint64_t{y} << 32 | x;
        check(__funnelshift_l(x, y, shift) == static_cast<unsigned>(joined << shift % 32 >> 32) &&
                  __funnelshift_r(x, y, shift) == static_cast<unsigned>(joined >> shift % 32) &&
                  __funnelshift_lc(x, y, 35) == x && __funnelshift_rc(x, y, 32) == y,
              "__funnelshift");
        check(__byte_perm(x, y, 0x3210) == x && __byte_perm(x, y, 0x7654) == y &&
                  __byte_perm(x, y, 0x0123) == __builtin_bswap32(x), "__byte_perm", x, y);
        int dot = 7;
        unsigned added = 0, capped = 0, greater = 0, distance = 0;
        for (int i = 0; i < 32; i += 8) {
            const int p = static_cast<signed char>(x >> i), q = static_cast<signed char>(y >> i);
            const int sum = p + q < -128 ? -128 : p + q > 127 ? 127 : p + q;
            dot += p * q;
            added |= (((x >> i) + (y >> i)) & 255) << i;
            capped |= static_cast<unsigned>(sum & 255) << i;
            if (p > q) greater |= 255u << i;
            const int up = x >> i & 255, uq = y >> i & 255;
            distance += up > uq ? up - uq : uq - up;
        }
        check(__dp4a(a, b, 7) == dot, "__dp4a", x, y);
        check(__vadd4(x, y) == added && __vaddss4(x, y) == capped && __vcmpgts4(x, y) == greater &&
                  __vsadu4(x, y) == distance, "four bytes at a time", x, y);
        check(__vadd2(x, y) == ((x + y) & 0xffff) + (((x >> 16) + (y >> 16)) << 16),
              "two at a time", x, y);
        check(__hadd(a, b) == static_cast<int>((std::int64_t{a} + b) >> 1) &&
                  __sad(a, b, 3) == static_cast<unsigned>(std::llabs(std::int64_t{a} - b)) + 3 &&
                  __usad(x, y, 3) == (x > y ? x - y : y - x) + 3, "averages and distances", x, y);
    }
    check(__mul24(-3, 5) == -15 && __umul24(0xff000002u, 3) == 6 && __mul64hi(-1, 1) == -1 &&
              __umul64hi(1ull << 63, 4) == 2, "products");
    check(__dp2a_lo(0x00020003, 0x05060708, 1) == 3 * 8 + 2 * 7 + 1 &&
              __dp2a_hi(0x00020003, 0x05060708, 1) == 3 * 6 + 2 * 5 + 1, "__dp2a");
    check(__fns(0b10110, 0, 1) == 1 && __fns(0b10110, 0, 3) == 4 && __fns(0b10110, 4, -2) == 2 &&
              __fns(0b10110, 3, 0) == 0xffffffffu && __fns(0b10110, 2, 0) == 2, "__fns");
    check(__vabs4(0x80ff7f01u) == 0x80017f01u && __vabsss4(0x80ff7f01u) == 0x7f017f01u &&
              __vavgs4(0x000000ffu, 0x000000feu) == 0x000000feu, "__vabs, __vavgs");
}

// ---- overloads and layout: decided when this is compiled ----

template <class A, class B>
using Max = decltype(max(A(), B()));
static_assert(std::is_same_v<Max<int, int>, int> && std::is_same_v<Max<int, unsigned>, unsigned> &&
              std::is_same_v<Max<long, unsigned long>, unsigned long> &&
              std::is_same_v<Max<long long, long long>, long long> &&
              std::is_same_v<Max<float, float>, float> &&
              std::is_same_v<Max<float, double>, double> && std::is_same_v<Max<short, short>, int>);

void overloads() {
    using namespace std;
    float zero = 0;
    check(max(2, 3) == 3 && min(2u, 3) == 2 && max(1.0f, 2.0f) == 2 && min(1.0, 2.0f) == 1 &&
              max(sizeof(int), sizeof(char)) == 4 && min(-1, 1u) == 1,
          "min and max with std's beside");
    check(max(NAN, 1.0f) == 1 && min(1.0f, NAN) == 1, "min and max pass over a NaN");
    check(abs(-1.5f) == 1.5f && abs(-3ll) == 3 && isnan(zero / zero) && rsqrt(4.0f) == 0.5f &&
              rsqrt(4.0) == 0.5, "overloads of <cmath>");
}

template <class T, size_t size, size_t alignment>
constexpr bool laid_out =
    sizeof(T) == size && alignof(T) == alignment && std::is_trivially_copyable_v<T> &&
    std::is_trivially_default_constructible_v<T>;
static_assert(laid_out<char1, 1, 1> && laid_out<char2, 2, 2> && laid_out<char3, 3, 1> &&
              laid_out<char4, 4, 4> && laid_out<uchar4, 4, 4>);
static_assert(laid_out<short2, 4, 4> && laid_out<short3, 6, 2> && laid_out<ushort4, 8, 8>);
static_assert(laid_out<int1, 4, 4> && laid_out<int2, 8, 8> && laid_out<uint3, 12, 4> &&
              laid_out<int4, 16, 16>);
static_assert(laid_out<long2, 16, 16> && laid_out<ulong3, 24, 8> && laid_out<longlong4, 32, 16> &&
              laid_out<ulonglong2, 16, 16>);
static_assert(laid_out<float2, 8, 8> && laid_out<float3, 12, 4> && laid_out<float4, 16, 16>);
static_assert(laid_out<double2, 16, 16> && laid_out<double3, 24, 8> && laid_out<double4, 32, 16> &&
              laid_out<double4_16a, 32, 16> && laid_out<double4_32a, 32, 32>);
static_assert(laid_out<__half, 2, 2> && laid_out<half2, 4, 4> && laid_out<__nv_bfloat16, 2, 2> &&
              laid_out<__nv_bfloat162, 4, 4> && laid_out<__nv_fp8_e4m3, 1, 1> &&
              laid_out<__nv_fp8x4_e5m2, 4, 4>);
static_assert(std::is_same_v<decltype(char4::x), signed char> && std::is_aggregate_v<float4>);
constexpr dim3 constant(1, 2, 3), by_default, from_vector = uint3{4, 5, 6};
static_assert(constant.z == 3 && by_default.x == 1 && uint3(from_vector).y == 5);
using namespace nvcuda;
using Halves = wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major>;
using Bytes = wmma::fragment<wmma::matrix_b, 32, 8, 16, signed char, wmma::col_major>;
using Sums = wmma::fragment<wmma::accumulator, 8, 32, 16, float>;
static_assert(Halves::num_elements == 16 && Bytes::num_elements == 4 && Sums::num_elements == 8);

}  // namespace

int main() {
    overloads();
    integers();
    floats();
    narrowing();
    eight_bits();
    Arithmetic<__half, __half_raw, __half2>{half_format, "half"}.run();
    Arithmetic<__nv_bfloat16, __nv_bfloat16_raw, __nv_bfloat162>{bfloat_format, "bfloat16"}.run();
    if (failed.empty()) std::puts("all properties hold");
    return failed.empty() ? 0 : 1;
}
