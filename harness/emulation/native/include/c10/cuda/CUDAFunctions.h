// The one device, as PyTorch sees it.
#pragma once

#include <optional>

#include <c10/core/Device.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAMacros.h>
#include <cuda_runtime_api.h>

namespace c10::cuda {

inline DeviceIndex device_count() noexcept { return 1; }
inline DeviceIndex device_count_ensure_non_zero() { return 1; }
inline DeviceIndex current_device() { return 0; }

inline cudaError_t GetDeviceCount(int* count) { return cudaGetDeviceCount(count); }
inline cudaError_t GetDevice(DeviceIndex* device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t SetDevice(DeviceIndex device, bool /*force*/ = false) {
    return cudaSetDevice(device);
}
inline cudaError_t MaybeSetDevice(DeviceIndex device) { return SetDevice(device); }

inline void set_device(DeviceIndex device, bool force = false) {
    C10_CUDA_CHECK(SetDevice(device, force));
}
inline DeviceIndex ExchangeDevice(DeviceIndex device) {
    set_device(device);
    return 0;
}
inline DeviceIndex MaybeExchangeDevice(DeviceIndex device) {
    return device < 0 ? 0 : ExchangeDevice(device);
}

inline void device_synchronize() { C10_CUDA_CHECK(cudaDeviceSynchronize()); }
inline void stream_synchronize(cudaStream_t stream) {
    C10_CUDA_CHECK(cudaStreamSynchronize(stream));
}
inline void memcpy_and_sync(void* to, const void* from, int64_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    C10_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, stream));
    stream_synchronize(stream);
}

inline bool hasPrimaryContext(DeviceIndex device) { return device == 0; }
inline std::optional<DeviceIndex> getDeviceIndexWithPrimaryContext() { return 0; }

}  // namespace c10::cuda
