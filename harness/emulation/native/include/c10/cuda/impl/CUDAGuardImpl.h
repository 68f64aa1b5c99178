// What the guards of c10/cuda/CUDAGuard.h, which are PyTorch's own, switch: the device, of which
// there is one, and the current stream.
#pragma once

#include <c10/core/Device.h>
#include <c10/cuda/CUDAStream.h>

namespace c10::cuda::impl {

struct CUDAGuardImpl {
    static constexpr DeviceType static_type = DeviceType::CUDA;

    CUDAGuardImpl() = default;
    explicit CUDAGuardImpl(DeviceType type) {
        TORCH_CHECK(type == DeviceType::CUDA,
                    "CUDAGuardImpl initialized with non-CUDA DeviceType: ", type);
    }

    Device getDevice() const { return {DeviceType::CUDA, 0}; }
    void setDevice(Device device) const {
        TORCH_CHECK(device.is_cuda(), "Expected a CUDA device, but got ", device);
        set_device(device.index());
    }
    void uncheckedSetDevice(Device) const noexcept {}
    Device exchangeDevice(Device device) const {
        setDevice(device);
        return getDevice();
    }

    Stream getStream(Device) const { return getCurrentCUDAStream(); }
    Stream exchangeStream(Stream stream) const {
        const Stream earlier = getCurrentCUDAStream();
        setCurrentCUDAStream(CUDAStream(stream));
        return earlier;
    }
};

}  // namespace c10::cuda::impl
