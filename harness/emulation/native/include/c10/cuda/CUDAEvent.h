// PyTorch's events, on those of the runtime API. Not modelled: events of other processes.
#pragma once

#include <optional>
#include <utility>

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace c10::cuda {

class CUDAEvent {
public:
    CUDAEvent() = default;
    explicit CUDAEvent(unsigned flags) : flags_(flags) {}
    CUDAEvent(const CUDAEvent&) = delete;
    CUDAEvent& operator=(const CUDAEvent&) = delete;
    CUDAEvent(CUDAEvent&& other) noexcept { swap(other); }
    CUDAEvent& operator=(CUDAEvent&& other) noexcept {
        swap(other);
        return *this;
    }
    ~CUDAEvent() {
        if (event_) cudaEventDestroy(event_);
    }

    operator cudaEvent_t() const { return event_; }
    cudaEvent_t event() const { return event_; }
    bool isCreated() const { return event_; }
    DeviceIndex device_index() const { return event_ ? 0 : -1; }
    std::optional<Device> device() const {
        return event_ ? std::optional<Device>({DeviceType::CUDA, 0}) : std::nullopt;
    }

    void create(DeviceIndex /*device*/) {
        if (!event_) C10_CUDA_CHECK(cudaEventCreateWithFlags(&event_, flags_));
    }
    void record() { record(getCurrentCUDAStream()); }
    void record(const CUDAStream& stream) {
        create(0);
        C10_CUDA_CHECK(cudaEventRecord(event_, stream));
        recorded_ = true;
    }
    void recordOnce(const CUDAStream& stream) {
        if (!recorded_) record(stream);
    }
    void block(const CUDAStream& stream) {
        if (event_) C10_CUDA_CHECK(cudaStreamWaitEvent(stream, event_));
    }
    bool query() const { return !event_ || cudaEventQuery(event_) == cudaSuccess; }
    void synchronize() const {
        if (event_) C10_CUDA_CHECK(cudaEventSynchronize(event_));
    }
    float elapsed_time(const CUDAEvent& end) const {
        TORCH_CHECK_VALUE(
            !(flags_ & cudaEventDisableTiming) && !(end.flags_ & cudaEventDisableTiming),
            "Both events must be created with argument 'enable_timing=True'.");
        TORCH_CHECK_VALUE(recorded_ && end.recorded_,
                          "Both events must be recorded before calculating elapsed time.");
        float milliseconds = 0;
        C10_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, event_, end.event_));
        return milliseconds;
    }

private:
    void swap(CUDAEvent& other) noexcept {
        std::swap(flags_, other.flags_);
        std::swap(recorded_, other.recorded_);
        std::swap(event_, other.event_);
    }

    unsigned flags_ = cudaEventDisableTiming;
    bool recorded_ = false;
    cudaEvent_t event_ = nullptr;
};

}  // namespace c10::cuda

namespace at::cuda {
using c10::cuda::CUDAEvent;
}
