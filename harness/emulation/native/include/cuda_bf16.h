// __nv_bfloat16 and __nv_bfloat162: floats cut to their upper 16 bits. Their members and functions
// are those of emulated/sixteen_bits.h.
//
// As NVIDIA's header this one obeys __CUDA_NO_BFLOAT16_CONVERSIONS__ (which torch defines for
// extensions), __CUDA_NO_BFLOAT16_OPERATORS__ and __CUDA_NO_BFLOAT162_OPERATORS__.
#pragma once

#include "cuda_fp16.h"

#define KH_SCALAR __nv_bfloat16
#define KH_SCALAR_WORD bfloat16
#define KH_PAIR __nv_bfloat162
#define KH_PAIR_WORD bfloat162
#define KH_RAW __nv_bfloat16_raw
#define KH_PAIR_RAW __nv_bfloat162_raw
#define KH_FORMAT emulated::Brain16
#define KH_TORCH c10::BFloat16
#define KH_FROM_TORCH explicit
#define KH_OTHER_SCALAR __half
#ifndef __CUDA_NO_BFLOAT16_CONVERSIONS__
#define KH_CONVERSIONS 1
#endif
#ifndef __CUDA_NO_BFLOAT16_OPERATORS__
#define KH_OPERATORS 1
#endif
#ifndef __CUDA_NO_BFLOAT162_OPERATORS__
#define KH_PAIR_OPERATORS 1
#endif
#include "emulated/sixteen_bits.h"

using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

#ifndef __CUDA_NO_HALF_CONVERSIONS__
inline __half::__half(const __nv_bfloat16& other) : __half(__bfloat162float(other)) {}
#endif
#ifndef __CUDA_NO_BFLOAT16_CONVERSIONS__
inline __nv_bfloat16::__nv_bfloat16(const __half& other) : __nv_bfloat16(__half2float(other)) {}
#endif

#define CUDART_INF_BF16 __ushort_as_bfloat16(0x7f80)
#define CUDART_NAN_BF16 __ushort_as_bfloat16(0x7fff)
#define CUDART_MIN_DENORM_BF16 __ushort_as_bfloat16(0x0001)
#define CUDART_MAX_NORMAL_BF16 __ushort_as_bfloat16(0x7f7f)
#define CUDART_NEG_ZERO_BF16 __ushort_as_bfloat16(0x8000)
#define CUDART_ZERO_BF16 __ushort_as_bfloat16(0x0000)
#define CUDART_ONE_BF16 __ushort_as_bfloat16(0x3f80)
