// half and half2: IEEE's 16-bit floats. Their members and functions are those of
// emulated/sixteen_bits.h; how they are rounded stands there and in emulated/rounding.h.
//
// As NVIDIA's header this one obeys __CUDA_NO_HALF_CONVERSIONS__, __CUDA_NO_HALF_OPERATORS__ and
// __CUDA_NO_HALF2_OPERATORS__, which torch defines for extensions.
#pragma once

#include "emulated/sixteen_bits_arithmetic.h"

#define KH_SCALAR __half
#define KH_SCALAR_WORD half
#define KH_PAIR __half2
#define KH_PAIR_WORD half2
#define KH_RAW __half_raw
#define KH_PAIR_RAW __half2_raw
#define KH_FORMAT emulated::Binary16
#define KH_TORCH c10::Half
#define KH_FROM_TORCH
#define KH_OTHER_SCALAR __nv_bfloat16
#ifndef __CUDA_NO_HALF_CONVERSIONS__
#define KH_CONVERSIONS 1
#endif
#ifndef __CUDA_NO_HALF_OPERATORS__
#define KH_OPERATORS 1
#endif
#ifndef __CUDA_NO_HALF2_OPERATORS__
#define KH_PAIR_OPERATORS 1
#endif
#include "emulated/sixteen_bits.h"

using half = __half;
using half2 = __half2;
using nv_half = __half;
using nv_half2 = __half2;
using __nv_half = __half;
using __nv_half2 = __half2;
using __nv_half_raw = __half_raw;
using __nv_half2_raw = __half2_raw;

#define CUDART_INF_FP16 __ushort_as_half(0x7c00)
#define CUDART_NAN_FP16 __ushort_as_half(0x7fff)
#define CUDART_MIN_DENORM_FP16 __ushort_as_half(0x0001)
#define CUDART_MAX_NORMAL_FP16 __ushort_as_half(0x7bff)
#define CUDART_NEG_ZERO_FP16 __ushort_as_half(0x8000)
#define CUDART_ZERO_FP16 __ushort_as_half(0x0000)
#define CUDART_ONE_FP16 __ushort_as_half(0x3c00)
