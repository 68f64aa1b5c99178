// Precompiled prefix of a unit that holds code: PyTorch's tensors and operators, the emulated CUDA,
// and the headers of PyTorch that go with CUDA. Of torch/extension.h, torch::nn, torch::optim, the
// data loaders, the JIT and TORCH_LIBRARY are left out, and torch::autograd (see autograd.h).
#ifndef KH_SLIM_CODE_H
#define KH_SLIM_CODE_H
#define KH_PREFIX code

#include <algorithm>
#include <array>
#include <cassert>
#include <cfloat>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <ATen/ATen.h>
#include <ATen/AccumulateType.h>
#include <ATen/Dispatch.h>
#include <ATen/Dispatch_v2.h>
#include <ATen/OpMathType.h>
#include <ATen/ceil_div.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <torch/csrc/autograd/variable.h>

#ifdef KH_FULL
#include <torch/types.h>
#else
#include "aliases.h"
#endif

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "emulated/torch_extras.h"

// From here on the source is the candidate's, and it is told that nvcc compiles it for an sm_90.
#define __CUDACC__
#define __CUDA_ARCH__ 900

#endif
