// What the runtime API says of the device, its versions, limits and settings.
// There is one device, 0. Settings are taken and have no effect.
#pragma once

#include <cstdio>

#include "emulated/limits.h"
#include "emulated/runtime_errors.h"
#include "emulated/streams.h"

namespace emulated {

inline cudaError_t known_device(int device) {
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

inline cudaDeviceProp properties() {
    using namespace limits;
    cudaDeviceProp p{};
    std::snprintf(p.name, sizeof p.name, "%s", limits::name);
    p.totalGlobalMem = memory;
    p.sharedMemPerBlock = shared_static;
    p.sharedMemPerBlockOptin = shared_optin;
    p.sharedMemPerMultiprocessor = shared_multiprocessor;
    p.reservedSharedMemPerBlock = shared_reserved;
    p.regsPerBlock = p.regsPerMultiprocessor = registers;
    p.warpSize = ::warpSize;
    p.memPitch = 2147483647;
    p.maxThreadsPerBlock = block_threads;
    p.maxThreadsDim[0] = block_x, p.maxThreadsDim[1] = block_y, p.maxThreadsDim[2] = block_z;
    p.maxGridSize[0] = grid_x, p.maxGridSize[1] = grid_y, p.maxGridSize[2] = grid_z;
    p.totalConstMem = constant_memory;
    p.major = limits::major;
    p.minor = limits::minor;
    p.textureAlignment = pitch;
    p.texturePitchAlignment = 32;
    p.multiProcessorCount = multiprocessors;
    p.maxThreadsPerMultiProcessor = multiprocessor_threads;
    p.maxBlocksPerMultiProcessor = multiprocessor_blocks;
    p.l2CacheSize = l2_cache;
    p.memoryBusWidth = 5120;
    p.asyncEngineCount = 3;
    p.canMapHostMemory = p.canUseHostPointerForRegisteredMem = p.hostRegisterSupported = 1;
    p.concurrentKernels = p.streamPrioritiesSupported = p.computePreemptionSupported = 1;
    p.unifiedAddressing = p.managedMemory = p.concurrentManagedAccess = 1;
    p.globalL1CacheSupported = p.localL1CacheSupported = 1;
    p.unifiedFunctionPointers = 1;
    return p;
}

inline cudaError_t attribute(int* value, cudaDeviceAttr which) {
    using namespace limits;
    const auto is = [&](size_t v) {
        *value = static_cast<int>(v);
        return cudaSuccess;
    };
    switch (which) {
        case cudaDevAttrMaxThreadsPerBlock: return is(block_threads);
        case cudaDevAttrMaxBlockDimX: return is(block_x);
        case cudaDevAttrMaxBlockDimY: return is(block_y);
        case cudaDevAttrMaxBlockDimZ: return is(block_z);
        case cudaDevAttrMaxGridDimX: return is(grid_x);
        case cudaDevAttrMaxGridDimY: return is(grid_y);
        case cudaDevAttrMaxGridDimZ: return is(grid_z);
        case cudaDevAttrMaxSharedMemoryPerBlock: return is(shared_static);
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: return is(shared_optin);
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return is(shared_multiprocessor);
        case cudaDevAttrReservedSharedMemoryPerBlock: return is(shared_reserved);
        case cudaDevAttrTotalConstantMemory: return is(constant_memory);
        case cudaDevAttrWarpSize: return is(::warpSize);
        case cudaDevAttrMaxPitch: return is(2147483647);
        case cudaDevAttrMaxRegistersPerBlock:
        case cudaDevAttrMaxRegistersPerMultiprocessor: return is(registers);
        case cudaDevAttrClockRate: return is(1980000);
        case cudaDevAttrMemoryClockRate: return is(2619000);
        case cudaDevAttrGlobalMemoryBusWidth: return is(5120);
        case cudaDevAttrMultiProcessorCount: return is(multiprocessors);
        case cudaDevAttrMaxThreadsPerMultiProcessor: return is(multiprocessor_threads);
        case cudaDevAttrMaxBlocksPerMultiprocessor: return is(multiprocessor_blocks);
        case cudaDevAttrL2CacheSize: return is(l2_cache);
        case cudaDevAttrAsyncEngineCount: return is(3);
        case cudaDevAttrComputeCapabilityMajor: return is(limits::major);
        case cudaDevAttrComputeCapabilityMinor: return is(limits::minor);
        case cudaDevAttrSingleToDoublePrecisionPerfRatio: return is(2);
        case cudaDevAttrGpuOverlap:
        case cudaDevAttrCanMapHostMemory:
        case cudaDevAttrConcurrentKernels:
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrStreamPrioritiesSupported:
        case cudaDevAttrGlobalL1CacheSupported:
        case cudaDevAttrLocalL1CacheSupported:
        case cudaDevAttrManagedMemory:
        case cudaDevAttrConcurrentManagedAccess:
        case cudaDevAttrComputePreemptionSupported:
        case cudaDevAttrCanUseHostPointerForRegisteredMem:
        case cudaDevAttrHostRegisterSupported: return is(1);
        // What is not emulated is said not to be there.
        case cudaDevAttrCooperativeLaunch:
        case cudaDevAttrClusterLaunch:
        case cudaDevAttrMemoryPoolsSupported:
        case cudaDevAttrMaxPersistingL2CacheSize:
        case cudaDevAttrKernelExecTimeout:
        case cudaDevAttrIntegrated:
        case cudaDevAttrComputeMode:
        case cudaDevAttrEccEnabled:
        case cudaDevAttrHostNativeAtomicSupported:
        case cudaDevAttrPageableMemoryAccess: return is(0);
    }
    return cudaErrorInvalidValue;
}

inline cudaError_t limit(size_t* value, cudaLimit which) {
    switch (which) {
        case cudaLimitStackSize: return *value = 1024, cudaSuccess;
        case cudaLimitPrintfFifoSize: return *value = 1 << 20, cudaSuccess;
        case cudaLimitMallocHeapSize: return *value = 8 << 20, cudaSuccess;
        case cudaLimitMaxL2FetchGranularity: return *value = 64, cudaSuccess;
        case cudaLimitPersistingL2CacheSize: return *value = 0, cudaSuccess;
    }
    return cudaErrorUnsupportedLimit;
}

}  // namespace emulated

// ---- the device ----

inline cudaError_t cudaGetDeviceCount(int* count) {
    return emulated::call([&] { return *count = 1, cudaSuccess; });
}
inline cudaError_t cudaGetDevice(int* device) {
    return emulated::call([&] { return *device = 0, cudaSuccess; });
}
inline cudaError_t cudaSetDevice(int device) {
    return emulated::call([&] { return emulated::known_device(device); });
}
inline cudaError_t cudaInitDevice(int device, unsigned, unsigned) { return cudaSetDevice(device); }
inline cudaError_t cudaSetDeviceFlags(unsigned) { return emulated::broken(); }

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    return emulated::call([&] {
        if (!properties) return cudaErrorInvalidValue;
        *properties = emulated::properties();
        return emulated::known_device(device);
    });
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    return emulated::call([&] {
        if (!value) return cudaErrorInvalidValue;
        const cudaError_t error = emulated::known_device(device);
        return error ? error : emulated::attribute(value, attribute);
    });
}

inline cudaError_t cudaDeviceSynchronize() {
    return emulated::call([] { return emulated::reached_all(), cudaSuccess; });
}
// Frees nothing: the memory is PyTorch's as well.
inline cudaError_t cudaDeviceReset() { return cudaDeviceSynchronize(); }

// ---- versions ----

inline cudaError_t cudaRuntimeGetVersion(int* version) {
    return emulated::call([&] { return *version = emulated::limits::cuda_version, cudaSuccess; });
}
inline cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

// ---- settings ----

inline cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) {
    return emulated::call([&] { return emulated::limit(value, limit); });
}
inline cudaError_t cudaDeviceSetLimit(cudaLimit limit, size_t) {
    size_t ignored;
    return cudaDeviceGetLimit(&ignored, limit);
}
inline cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache) { return emulated::broken(); }
inline cudaError_t cudaDeviceGetCacheConfig(cudaFuncCache* config) {
    return emulated::call([&] { return *config = cudaFuncCachePreferNone, cudaSuccess; });
}
inline cudaError_t cudaDeviceSetSharedMemConfig(cudaSharedMemConfig) { return emulated::broken(); }
inline cudaError_t cudaDeviceGetSharedMemConfig(cudaSharedMemConfig* config) {
    return emulated::call([&] { return *config = cudaSharedMemBankSizeFourByte, cudaSuccess; });
}
inline cudaError_t cudaCtxResetPersistingL2Cache() { return emulated::broken(); }
