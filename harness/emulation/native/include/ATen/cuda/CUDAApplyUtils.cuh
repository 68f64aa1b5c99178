// The headers that PyTorch's own brings along: sizes of grids, index arithmetic and atomics.
// Its pointwise apply functions (at::cuda::CUDA_tensor_apply1, ...) are not declared.
#pragma once

#include <ATen/ceil_div.h>
#include <ATen/core/TensorBase.h>
#include <ATen/cuda/ApplyGridUtils.cuh>
#include <ATen/cuda/Atomic.cuh>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/detail/IndexUtils.cuh>
#include <c10/macros/Macros.h>
#include <math.h>
