// PyTorch's checks of the runtime API and of cuBLAS. cuSPARSE, cuSOLVER, cuDNN, NVRTC and the
// driver API are not emulated, and neither are their checks.
#pragma once

#include <ATen/Context.h>
#include <c10/cuda/CUDAException.h>
#include <c10/macros/Export.h>
#include <c10/util/Exception.h>
#include <cublas_v2.h>

namespace at::cuda::blas {
inline const char* _cublasGetErrorEnum(cublasStatus_t status) {
    return cublasGetStatusName(status);
}
}  // namespace at::cuda::blas

#define AT_CUDA_CHECK(EXPR) C10_CUDA_CHECK(EXPR)

#define TORCH_CUDABLAS_CHECK(EXPR)                                                               \
    do {                                                                                         \
        const cublasStatus_t kh_status = EXPR;                                                   \
        TORCH_CHECK(kh_status == CUBLAS_STATUS_SUCCESS, "CUDA error: ",                          \
                    at::cuda::blas::_cublasGetErrorEnum(kh_status), " when calling `" #EXPR "`"); \
    } while (0)
