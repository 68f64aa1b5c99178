// PyTorch's streams. The id of one is its handle, and 0 for the default stream.
// Not modelled: the pool's limit of 32 streams, priorities, and capture.
#pragma once

#include <functional>
#include <ostream>
#include <tuple>

#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

namespace c10::cuda {

class CUDAStream {
public:
    enum Unchecked { UNCHECKED };

    explicit CUDAStream(Stream stream) : stream_(stream) {
        TORCH_CHECK(stream_.device_type() == DeviceType::CUDA);
    }
    CUDAStream(Unchecked, Stream stream) : stream_(stream) {}

    bool operator==(const CUDAStream& other) const noexcept { return stream_ == other.stream_; }
    bool operator!=(const CUDAStream& other) const noexcept { return stream_ != other.stream_; }

    cudaStream_t stream() const { return reinterpret_cast<cudaStream_t>(stream_.id()); }
    Stream unwrap() const { return stream_; }
    operator cudaStream_t() const { return stream(); }
    operator Stream() const { return stream_; }

    DeviceType device_type() const { return DeviceType::CUDA; }
    DeviceIndex device_index() const { return stream_.device_index(); }
    Device device() const { return {DeviceType::CUDA, device_index()}; }
    StreamId id() const { return stream_.id(); }
    int priority() const { return 0; }
    bool is_capturing() const { return false; }

    bool query() const { return cudaStreamQuery(stream()) == cudaSuccess; }
    void synchronize() const { stream_synchronize(stream()); }

    StreamData3 pack3() const { return stream_.pack3(); }
    static CUDAStream unpack3(StreamId id, DeviceIndex index, DeviceType type) {
        return CUDAStream(Stream::unpack3(id, index, type));
    }
    static std::tuple<int, int> priority_range() { return {0, -3}; }

private:
    Stream stream_;
};

inline CUDAStream getStreamFromExternal(cudaStream_t stream, DeviceIndex /*device*/) {
    const Device device(DeviceType::CUDA, 0);
    return CUDAStream(Stream(Stream::UNSAFE, device, reinterpret_cast<StreamId>(stream)));
}
inline CUDAStream getDefaultCUDAStream(DeviceIndex = -1) { return getStreamFromExternal({}, 0); }
inline CUDAStream getCurrentCUDAStream(DeviceIndex = -1) {
    return getStreamFromExternal(static_cast<cudaStream_t>(emulated::current_stream()), 0);
}
inline void setCurrentCUDAStream(CUDAStream stream) {
    emulated::set_current_stream(stream.stream());
}

// The streams of PyTorch's pool do not wait for the default stream.
inline CUDAStream getStreamFromPool(int /*priority*/, DeviceIndex = -1) {
    return getStreamFromExternal(static_cast<cudaStream_t>(emulated::new_stream(false)), 0);
}
inline CUDAStream getStreamFromPool(bool /*high_priority*/ = false, DeviceIndex device = -1) {
    return getStreamFromPool(0, device);
}

inline std::ostream& operator<<(std::ostream& out, const CUDAStream& stream) {
    return out << stream.unwrap();
}

}  // namespace c10::cuda

template <>
struct std::hash<c10::cuda::CUDAStream> {
    size_t operator()(c10::cuda::CUDAStream stream) const noexcept {
        return std::hash<c10::Stream>{}(stream.unwrap());
    }
};
