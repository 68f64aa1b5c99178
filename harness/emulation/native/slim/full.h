// Prefix of a unit that needs more of PyTorch than code.h has: all of torch/extension.h, as in a
// stock build. Not precompiled, and slow: the build comes back here only after code.h has failed.
#ifndef KH_SLIM_FULL_H
#define KH_SLIM_FULL_H

#define KH_FULL
#include "code.h"

#undef __CUDACC__
#undef __CUDA_ARCH__
#include <torch/extension.h>
#define __CUDACC__
#define __CUDA_ARCH__ 900

#endif
