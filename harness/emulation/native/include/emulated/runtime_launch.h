// Kernels as the runtime API handles them: attributes, and launches by pointer.
//
// The rewriter gives the source's name of a kernel along, by which the device keeps what was
// allowed to it. Not modelled: registers, local memory and a kernel's own static shared memory;
// cooperative launches, clusters and programmatic dependent launches are not declared.
#pragma once

#include <map>
#include <mutex>

#include "emulated/launch.h"
#include "emulated/limits.h"
#include "emulated/runtime_errors.h"

namespace emulated {

// Names of the kernels that came with one, for the calls that come without.
class KernelNames {
public:
    static KernelNames& get() {
        static KernelNames all;
        return all;
    }
    void add(const void* kernel, const char* name) {
        std::lock_guard lock(mutex_);
        names_[kernel] = name;
    }
    const char* find(const void* kernel, const char* otherwise) {
        std::lock_guard lock(mutex_);
        auto found = names_.find(kernel);
        return found == names_.end() ? otherwise : found->second;
    }

private:
    std::mutex mutex_;
    std::map<const void*, const char*> names_;
};

template <class Kernel>
const void* address(Kernel* kernel) {
    return reinterpret_cast<const void*>(kernel);
}

inline cudaError_t set_attribute(const char* name, cudaFuncAttribute attribute, int value) {
    switch (attribute) {
        case cudaFuncAttributeMaxDynamicSharedMemorySize:
            return value >= 0 && allow_shared(name, value) ? cudaSuccess : cudaErrorInvalidValue;
        case cudaFuncAttributePreferredSharedMemoryCarveout:
            return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
    }
    return cudaErrorInvalidValue;
}

// cudaFuncSetAttribute(kernel, attribute, value)
template <class Kernel>
cudaError_t func_set_attribute(const char* name, Kernel* kernel, cudaFuncAttribute attribute,
                               int value) {
    return call([&] {
        if (!kernel) return cudaErrorInvalidDeviceFunction;
        KernelNames::get().add(address(kernel), name);
        return set_attribute(name, attribute, value);
    });
}

// The error of a launch that was refused. What goes wrong in the kernel itself comes to light in
// the calls after it, as on a GPU.
template <class Launching>
cudaError_t launch_error(Launching launch) {
    if (const cudaError_t error = broken()) return error;
    const int earlier = last_error(true);
    launch();
    const int error = last_error(false);
    if (!error && earlier) set_error(earlier);
    return error < cudaErrorIllegalAddress || error == cudaErrorLaunchOutOfResources
               ? static_cast<cudaError_t>(error)
               : cudaSuccess;
}

// cudaLaunchKernel(kernel, ...)
template <class... Args>
cudaError_t cuda_launch_kernel(void (*kernel)(Args...), const char* name, dim3 grid, dim3 block,
                               void** args, size_t shared_bytes = 0,
                               cudaStream_t stream = nullptr) {
    return launch_error(
        [&] { launch_by_pointer(kernel, name, grid, block, args, shared_bytes, stream); });
}

}  // namespace emulated

// ---- attributes ----

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
    return emulated::call([&] {
        const char* name = emulated::KernelNames::get().find(emulated::address(kernel), nullptr);
        return emulated::set_attribute(name, attribute, value);
    });
}

template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel* kernel) {
    return emulated::call([&] {
        if (!attributes || !kernel) return cudaErrorInvalidValue;
        *attributes = {};
        attributes->maxThreadsPerBlock = emulated::limits::block_threads;
        attributes->numRegs = 32;
        attributes->ptxVersion = attributes->binaryVersion = 90;
        attributes->maxDynamicSharedSizeBytes = emulated::limits::shared_static;
        attributes->preferredShmemCarveout = cudaSharedmemCarveoutDefault;
        return cudaSuccess;
    });
}

template <class Kernel>
cudaError_t cudaFuncSetCacheConfig(Kernel*, cudaFuncCache) {
    return emulated::broken();
}

template <class Kernel>
cudaError_t cudaFuncSetSharedMemConfig(Kernel*, cudaSharedMemConfig) {
    return emulated::broken();
}

// ---- launches ----

template <class... Args>
cudaError_t cudaLaunchKernel(void (*kernel)(Args...), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
    const char* name = emulated::KernelNames::get().find(emulated::address(kernel), "a kernel");
    return emulated::cuda_launch_kernel(kernel, name, grid, block, args, shared_bytes, stream);
}

// A kernel whose type is lost cannot be called.
inline cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t = 0,
                                    cudaStream_t = nullptr) {
    emulated::unsupported("cudaLaunchKernel with a pointer that was made without naming a kernel");
    return cudaErrorNotSupported;
}

template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...),
                               Args&&... args) {
    const char* name = emulated::KernelNames::get().find(emulated::address(kernel), "a kernel");
    return emulated::launch_error([&] {
        emulated::launch(kernel, name, config->gridDim, config->blockDim, config->dynamicSmemBytes,
                         config->stream)(static_cast<Params>(std::forward<Args>(args))...);
    });
}
