// The sixteen-bit floats beside torch's c10::Half and c10::BFloat16: they convert as in a CUDA
// build, whether or not the source is compiled with the macros that torch defines for extensions.
//
//   g++ -std=c++20 -I harness/emulation/native/include -I TORCH/include numerics_torch.cpp
//   the same with -D__CUDA_NO_HALF_OPERATORS__ -D__CUDA_NO_HALF_CONVERSIONS__
//                 -D__CUDA_NO_BFLOAT16_CONVERSIONS__ -D__CUDA_NO_HALF2_OPERATORS__
//
// Returns 0 when all holds. Torch's headers come after or, with -DTORCH_FIRST, before ours.
#ifdef TORCH_FIRST
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#endif

#include "emulated/device.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulated/torch_atomics.h"
#include "mma.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/complex.h>

#include <cstdio>
#include <type_traits>

// Atomics may wait, and a failing one would end a kernel; here is no device.
namespace emulated {
void spinning() {}
}  // namespace emulated

namespace {

int failures = 0;

void check(bool holds, const char* property) {
    if (holds) return;
    std::printf("FAILED %s\n", property);
    failures++;
}

#ifdef __CUDA_NO_HALF_CONVERSIONS__
constexpr bool converts = false;
#else
constexpr bool converts = true;
#endif

using c10::BFloat16;
using c10::Half;
template <class From, class To>
constexpr bool implicit = std::is_convertible_v<From, To>;
template <class From, class To>
constexpr bool direct = std::is_constructible_v<To, From>;

static_assert(implicit<__half, Half> && implicit<Half, __half>);
static_assert(direct<__half, Half> && direct<Half, __half>);
static_assert(implicit<__nv_bfloat16, BFloat16> && direct<__nv_bfloat16, BFloat16>);
static_assert(!implicit<BFloat16, __nv_bfloat16> && direct<BFloat16, __nv_bfloat16>);
static_assert(implicit<__half, float> == converts && implicit<float, __half> == converts &&
              implicit<int, __half> == converts && implicit<double, __half> == converts);
static_assert(implicit<__nv_bfloat16, float> == converts &&
              implicit<float, __nv_bfloat16> == converts);
static_assert(!implicit<__half, __nv_bfloat16> && !implicit<__nv_bfloat16, __half>);
static_assert(direct<__half, __nv_bfloat16> == converts);
static_assert(implicit<Half, float> && implicit<float, Half>);

float takes_half(__half x) { return __half2float(x); }
float takes_torch_half(Half x) { return x; }
float takes_bfloat(__nv_bfloat16 x) { return __bfloat162float(x); }
float takes_torch_bfloat(BFloat16 x) { return x; }

void halves() {
    const Half torch(1.5f);
    const __half ours = torch;
    check(takes_half(torch) == 1.5f && takes_torch_half(ours) == 1.5f, "as arguments");
    check(static_cast<float>(static_cast<Half>(ours)) == 1.5f, "static_cast to c10::Half");
    check(__half2float(static_cast<__half>(torch)) == 1.5f, "static_cast to __half");
    const Half back(ours), copied = ours;
    Half assigned;
    assigned = ours;
    check(back == 1.5f && copied == 1.5f && assigned == 1.5f, "constructed and assigned");
#ifdef __CUDA_NO_HALF_CONVERSIONS__  // ambiguous without, in CUDA too
    __half assigned_ours;
    assigned_ours = torch;
    check(__half2float(assigned_ours) == 1.5f, "assigned to __half");
#endif
    check(__half2float(__hadd(torch, ours)) == 3.0f, "c10::Half as an operand");
    const __half array[] = {torch, ours};
    check(__half2float(__ldg(&array[0])) == 1.5f && static_cast<float>(__ldg(&torch)) == 1.5f,
          "__ldg");
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        const __half x = __ushort_as_half(static_cast<unsigned short>(bits));
        const Half y = x;
        if (y.x != bits || __half_as_ushort(y) != bits) check(false, "all codes of half");
        const float f = y;
        if (f == f && (f != __half2float(x) || Half(f).x != __half_as_ushort(__float2half(f))))
            check(false, "half as torch converts it");
    }
}

void bfloats() {
    const BFloat16 torch(1.5f);
    const __nv_bfloat16 ours(torch);
    check(takes_bfloat(static_cast<__nv_bfloat16>(torch)) == 1.5f &&
              takes_torch_bfloat(ours) == 1.5f, "bfloat16 as arguments");
    const BFloat16 back(ours), copied = ours;
    check(back == 1.5f && copied == 1.5f && static_cast<BFloat16>(ours) == 1.5f,
          "bfloat16 constructed");
    for (unsigned i = 0; i < 0x10000; i++) {
        const float f = std::bit_cast<float>(i << 16 | (i * 40503u & 0xffffu));
        if (f == f && BFloat16(f).x != __bfloat16_as_ushort(__float2bfloat16(f)))
            check(false, "bfloat16 as torch rounds it");
    }
}

void operators() {
#ifndef __CUDA_NO_HALF_OPERATORS__
    const __half a = __float2half(1.5f), b = __float2half(0.25f);
    check(__half2float(a + b) == 1.75f && a > b && a != b && __half2float(-a) == -1.5f &&
              __half2float(a / b) == 6, "operators");
    __half c = a;
    c *= b;
    c++;
    check(__half2float(c) == 1.375f, "operators that assign");
#endif
#ifndef __CUDA_NO_HALF_CONVERSIONS__
    __half n = 1.5;
    n = 3;
    check(static_cast<int>(n) == 3 && static_cast<float>(n) == 3 && n, "conversions of __half");
#endif
    // bfloat16's operators are always there in an extension.
    const __nv_bfloat16 x = __float2bfloat16(1.5f), y = __float2bfloat16(0.25f);
    check(__bfloat162float(x + y) == 1.75f && x > y &&
              __nv_bfloat162(x, x) > __nv_bfloat162(y, y), "operators of bfloat16");
}

// As kernels of torch's dispatch macros use them.
template <class scalar_t>
scalar_t scaled_sum(const scalar_t* values, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum += static_cast<float>(values[i]);
    return static_cast<scalar_t>(sum * 2);
}

void dispatched() {
    const Half halves[] = {Half(1), Half(2)};
    const BFloat16 bfloats[] = {BFloat16(1), BFloat16(2)};
    const double doubles[] = {1, 2};
    check(scaled_sum(halves, 2) == 6.0f && scaled_sum(bfloats, 2) == 6.0f &&
              scaled_sum(doubles, 2) == 6, "kernels over scalar_t");
}

void atomics() {
    Half h(1.5f);
    BFloat16 b(1.5f);
    long n = 5;
    bool flag = false;
    unsigned char byte = 250;
    c10::complex<float> z(1, 2);
    gpuAtomicAdd(&h, Half(0.5f));
    gpuAtomicAdd(&b, 0.5f);
    gpuAtomicAddNoReturn(&n, 2);
    atomicAdd(&n, 1L);
    atomicAdd(&h, Half(1));
    gpuAtomicAdd(&flag, true);
    gpuAtomicAdd(&byte, 10);
    gpuAtomicAdd(&z, c10::complex<float>(1, 1));
    float most = 1;
    gpuAtomicMax(&most, 2.0);
    check(h == 3.0f && b == 2.0f && n == 8 && flag && byte == 4 && z.imag() == 3 && most == 2,
          "torch's atomics");
    int counter = 3;
    float sum = 1;
    check(atomicAdd(&counter, 2.9f) == 3 && counter == 5 && atomicAdd(&sum, 1) == 1 && sum == 2 &&
              atomicCAS(&counter, 4, 9) == 5 && atomicCAS(&counter, 5, 9) == 5 && counter == 9,
          "atomics convert the value");
    unsigned u = 3;
    check(atomicInc(&u, 3) == 3 && u == 0 && atomicDec(&u, 7) == 0 && u == 7 &&
              atomicMax(&u, 9u) == 7 && u == 9 && atomicXor(&u, 8u) == 9 && u == 1,
          "atomicInc and others");
    __half2 pair = __floats2half2_rn(1, 2);
    atomicAdd(&pair, pair);
    check(__low2float(pair) == 2 && __high2float(pair) == 4, "atomicAdd of half2");
}

}  // namespace

int main() {
    halves();
    bfloats();
    operators();
    dispatched();
    atomics();
    if (!failures) std::puts("all properties hold");
    return failures != 0;
}
