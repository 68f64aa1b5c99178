// PyTorch's atomics: gpuAtomicAdd and its like, and atomicAdd for PyTorch's own element types.
#pragma once

#include <ATen/NumericUtils.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/complex.h>
#include <cuda.h>
#include <cuda_bf16.h>

#include "emulated/torch_atomics.h"
