// CUDA's qualifiers, as far as they mean something to a C++ compiler. Most mean nothing here: all
// code runs on the host, and what is launched is known from the launch.
//
// __shared__ declarations are rewritten before compiling (see launch.h); what is left of them (a
// declaration in a header, say) is one variable for all blocks, of which one runs at a time.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __shared__ static

#define __forceinline__ inline __attribute__((always_inline))
// Nothing: libstdc++ says __attribute__((__noinline__)), which this leaves a valid empty list.
#define __noinline__
#define __inline_hint__

#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __local_maxnreg__(...)
#define __cluster_dims__(...)
#define __block_size__(...)
#define __nv_pure__
#define __device_builtin__
#define __cudart_builtin__
