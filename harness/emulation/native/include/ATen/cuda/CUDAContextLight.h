// PyTorch's view of the device: its properties, its allocator and its cuBLAS handle.
// Handles of cuBLASLt, cuSPARSE and cuSOLVER, and workspaces, are not declared.
#pragma once

#include <ATen/cuda/Exceptions.h>
#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

namespace at::cuda {

inline int64_t getNumGPUs() { return c10::cuda::device_count(); }
inline bool is_available() { return true; }
inline int warp_size() { return warpSize; }

inline cudaDeviceProp* getCurrentDeviceProperties() {
    static cudaDeviceProp properties = emulated::properties();
    return &properties;
}
inline cudaDeviceProp* getDeviceProperties(c10::DeviceIndex device) {
    TORCH_CHECK(device == 0 || device == -1, "device=", static_cast<int>(device),
                ", num_gpus=", getNumGPUs());
    return getCurrentDeviceProperties();
}

inline c10::Allocator* getCUDADeviceAllocator() { return c10::GetAllocator(c10::DeviceType::CUDA); }

// On the current stream, as PyTorch's.
inline cublasHandle_t getCurrentCUDABlasHandle(bool setup = true) {
    static cublasContext handle;
    if (setup) handle.stream = c10::cuda::getCurrentCUDAStream();
    return &handle;
}

}  // namespace at::cuda
