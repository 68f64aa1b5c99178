// PyTorch's checks of the runtime API: an error becomes an exception, and is forgotten by the
// device. Not modelled: device-side assertions that PyTorch collects (TORCH_USE_CUDA_DSA).
#pragma once

#include <c10/cuda/CUDAMiscFunctions.h>
#include <c10/macros/Macros.h>
#include <c10/util/Exception.h>
#include <c10/util/irange.h>
#include <cuda.h>

namespace c10 {

class CUDAError : public Error {
    using Error::Error;
};

namespace cuda {

inline void c10_cuda_check_implementation(int32_t error, const char* file, const char* function,
                                          uint32_t line, bool /*include_device_assertions*/) {
    if (C10_LIKELY(error == cudaSuccess)) return;
    cudaGetLastError();
    const auto code = static_cast<cudaError_t>(error);
    throw AcceleratorError(
        {function, file, line}, error,
        std::string("CUDA error: ") + cudaGetErrorString(code) + get_cuda_error_help(code));
}

}  // namespace cuda
}  // namespace c10

#define C10_CUDA_CHECK(EXPR)                                                                     \
    do {                                                                                         \
        const cudaError_t kh_error = EXPR;                                                       \
        c10::cuda::c10_cuda_check_implementation(static_cast<int32_t>(kh_error), __FILE__,       \
                                                 __func__, static_cast<uint32_t>(__LINE__),      \
                                                 true);                                          \
    } while (0)

#define C10_CUDA_CHECK_WARN(EXPR)                                                                \
    do {                                                                                         \
        const cudaError_t kh_error = EXPR;                                                       \
        if (C10_UNLIKELY(kh_error != cudaSuccess)) {                                             \
            cudaGetLastError();                                                                  \
            TORCH_WARN("CUDA warning: ", cudaGetErrorString(kh_error));                          \
        }                                                                                        \
    } while (0)

#define C10_CUDA_ERROR_HANDLED(EXPR) EXPR

#define C10_CUDA_IGNORE_ERROR(EXPR)                                                              \
    do {                                                                                         \
        if (C10_UNLIKELY((EXPR) != cudaSuccess)) cudaGetLastError();                             \
    } while (0)

#define C10_CUDA_CLEAR_ERROR() static_cast<void>(cudaGetLastError())

#define C10_CUDA_KERNEL_LAUNCH_CHECK() C10_CUDA_CHECK(cudaGetLastError())
