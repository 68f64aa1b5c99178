// The rest of an error message of PyTorch's. Not modelled: its advice on where to look further.
#pragma once

#include <string>

#include <c10/cuda/CUDAMacros.h>
#include <cuda_runtime.h>

namespace c10::cuda {

inline std::string get_cuda_error_help(cudaError_t error) noexcept {
    return std::string(" (") + cudaGetErrorName(error) + ")";
}
inline const char* get_cuda_check_suffix() noexcept { return ""; }

}  // namespace c10::cuda
