// What PyTorch's headers declare only for nvcc, and candidates use. Launch bounds have no effect.
// (The conversions between c10::Half and __half are those of cuda_fp16.h.)
#pragma once

#include <cstdint>

#include <ATen/core/TensorAccessor.h>
#include <c10/macros/Macros.h>

namespace torch::headeronly {
template <typename T>
struct RestrictPtrTraits {
    typedef T* __restrict__ PtrType;
};
}  // namespace torch::headeronly

namespace at {
using torch::headeronly::RestrictPtrTraits;
}

constexpr uint32_t CUDA_MAX_THREADS_PER_SM = 2048;
constexpr uint32_t CUDA_MAX_THREADS_PER_BLOCK = 1024;
constexpr uint32_t CUDA_THREADS_PER_BLOCK_FALLBACK = 256;

#define C10_MAX_THREADS_PER_BLOCK(val) \
    ((val) <= CUDA_MAX_THREADS_PER_BLOCK ? (val) : CUDA_THREADS_PER_BLOCK_FALLBACK)
#define C10_MIN_BLOCKS_PER_SM(threads, blocks)                       \
    ((threads) * (blocks) <= CUDA_MAX_THREADS_PER_SM ? (blocks)      \
        : (CUDA_MAX_THREADS_PER_SM + (threads) - 1) / (threads))

#define C10_LAUNCH_BOUNDS_0
#define C10_LAUNCH_BOUNDS_1(threads)
#define C10_LAUNCH_BOUNDS_2(threads, blocks)
