// PyTorch's allocator of device memory: here the one that the emulated device has registered, which
// caches nothing. So there is nothing to empty, and memory need not be kept for a stream.
// Not modelled: statistics, limits, pools and snapshots.
#pragma once

#include <string>

#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAStream.h>

namespace c10::cuda::CUDACachingAllocator {

class CUDAAllocator : public Allocator {
public:
    DataPtr allocate(size_t bytes) override { return device().allocate(bytes); }
    DeleterFnPtr raw_deleter() const override { return device().raw_deleter(); }
    void copy_data(void* to, const void* from, size_t bytes) const override {
        device().copy_data(to, from, bytes);
    }

    void* raw_alloc(size_t bytes) { return device().raw_allocate(bytes); }
    void* raw_alloc_with_stream(size_t bytes, cudaStream_t) { return raw_alloc(bytes); }
    void raw_delete(void* pointer) { device().raw_deallocate(pointer); }
    void init(int /*devices*/) {}
    bool initialized() { return true; }
    void emptyCache() {}
    void recordStream(const DataPtr&, CUDAStream) {}
    std::string name() { return "emulated"; }

private:
    static Allocator& device() { return *GetAllocator(DeviceType::CUDA); }
};

inline CUDAAllocator* get() {
    static CUDAAllocator allocator;
    return &allocator;
}
inline void* raw_alloc(size_t bytes) { return get()->raw_alloc(bytes); }
inline void* raw_alloc_with_stream(size_t bytes, cudaStream_t stream) {
    return get()->raw_alloc_with_stream(bytes, stream);
}
inline void raw_delete(void* pointer) { get()->raw_delete(pointer); }
inline void init(int devices) { get()->init(devices); }
inline void emptyCache() { get()->emptyCache(); }
inline void recordStream(const DataPtr& data, CUDAStream stream) {
    get()->recordStream(data, stream);
}

}  // namespace c10::cuda::CUDACachingAllocator
