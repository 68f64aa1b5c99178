// Allocations, copies and fills of the runtime API.
//
// A copy is done at once, whatever its stream, and its direction is checked: a pointer on the wrong
// side, or a size that leaves the allocation far behind, is cudaErrorInvalidValue; a size that
// leaves it by little runs into the guard page.
// Not modelled: pitched 3D memory, prefetching and advice, and copies that are still under way when
// the host reads their result.
#pragma once

#include <cstring>
#include <memory>

#include "emulated/host_memory.h"
#include "emulated/limits.h"
#include "emulated/runtime_errors.h"
#include "emulated/streams.h"

namespace emulated {

inline cudaError_t use(cudaStream_t stream) {
    return is_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

inline cudaError_t allocate_device(void** pointer, size_t bytes) {
    if (!pointer) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (bytes <= limits::memory) *pointer = allocate(bytes);
    return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}

inline cudaError_t allocate_shared_with_host(void** pointer, size_t bytes, cudaMemoryType type) {
    const cudaError_t error = allocate_device(pointer, bytes);
    if (!error && *pointer) HostMemory::get().add(*pointer, {bytes, type, true});
    return error;
}

inline cudaError_t check_copy(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
        return cudaErrorInvalidMemcpyDirection;
    if (bytes == 0) return cudaSuccess;
    if (!to || !from) return cudaErrorInvalidValue;
    if (kind == cudaMemcpyDefault) return cudaSuccess;
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    const bool right = (to_device ? on_device(to, bytes) : on_host(to)) &&
                       (from_device ? on_device(from, bytes) : on_host(from));
    return right ? cudaSuccess : cudaErrorInvalidValue;
}

inline cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    const cudaError_t error = check_copy(to, from, bytes, kind);
    if (!error && bytes) std::memmove(to, from, bytes);
    return error;
}

inline cudaError_t copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                             size_t width, size_t height, cudaMemcpyKind kind) {
    if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
    for (size_t row = 0; row < height; row++) {
        const cudaError_t error = copy(static_cast<char*>(to) + row * to_pitch,
                                       static_cast<const char*>(from) + row * from_pitch, width,
                                       kind);
        if (error) return error;
    }
    return cudaSuccess;
}

inline cudaError_t fill_rows(void* to, size_t pitch, int value, size_t width, size_t height) {
    if (width > pitch && height > 1) return cudaErrorInvalidPitchValue;
    for (size_t row = 0; row < height && width; row++) {
        char* begin = static_cast<char*>(to) + row * pitch;
        if (!begin || !on_device(begin, width)) return cudaErrorInvalidValue;
        std::memset(begin, value, width);
    }
    return cudaSuccess;
}

// The address of a __device__ or __constant__ variable; from now on it is device memory.
template <class T>
char* symbol_address(const T& symbol) {
    auto* address = const_cast<char*>(reinterpret_cast<const char*>(std::addressof(symbol)));
    declare_device_memory(address, sizeof(T));
    return address;
}

template <class T>
cudaError_t copy_to_symbol(const T& symbol, const void* from, size_t bytes, size_t offset,
                           cudaMemcpyKind kind) {
    if (kind == cudaMemcpyHostToHost || kind == cudaMemcpyDeviceToHost)
        return cudaErrorInvalidMemcpyDirection;
    if (offset > sizeof(T) || bytes > sizeof(T) - offset) return cudaErrorInvalidValue;
    return copy(symbol_address(symbol) + offset, from, bytes, kind);
}

template <class T>
cudaError_t copy_from_symbol(void* to, const T& symbol, size_t bytes, size_t offset,
                             cudaMemcpyKind kind) {
    if (kind == cudaMemcpyHostToHost || kind == cudaMemcpyHostToDevice)
        return cudaErrorInvalidMemcpyDirection;
    if (offset > sizeof(T) || bytes > sizeof(T) - offset) return cudaErrorInvalidValue;
    return copy(to, symbol_address(symbol) + offset, bytes, kind);
}

// A call that waits for the device, and one that is added to a stream.
template <class Body>
cudaError_t call_synchronous(Body body) {
    return call([&] {
        reached_all();
        return body();
    });
}
template <class Body>
cudaError_t call_on(cudaStream_t stream, Body body) {
    return call([&] {
        if (const cudaError_t error = use(stream)) return error;
        const OnStream here(stream);
        return body();
    });
}

}  // namespace emulated

// ---- allocations ----

template <class T>
cudaError_t cudaMalloc(T** pointer, size_t bytes) {
    return emulated::call(
        [&] { return emulated::allocate_device(reinterpret_cast<void**>(pointer), bytes); });
}

template <class T>
cudaError_t cudaMallocAsync(T** pointer, size_t bytes, cudaStream_t stream) {
    return emulated::call_on(stream, [&] {
        return emulated::allocate_device(reinterpret_cast<void**>(pointer), bytes);
    });
}

template <class T>
cudaError_t cudaMallocManaged(T** pointer, size_t bytes, unsigned = cudaMemAttachGlobal) {
    return emulated::call([&] {
        if (bytes == 0) return cudaErrorInvalidValue;
        return emulated::allocate_shared_with_host(reinterpret_cast<void**>(pointer), bytes,
                                                   cudaMemoryTypeManaged);
    });
}

template <class T>
cudaError_t cudaHostAlloc(T** pointer, size_t bytes, unsigned) {
    return emulated::call([&] {
        return emulated::allocate_shared_with_host(reinterpret_cast<void**>(pointer), bytes,
                                                   cudaMemoryTypeHost);
    });
}

template <class T>
cudaError_t cudaMallocHost(T** pointer, size_t bytes, unsigned flags = cudaHostAllocDefault) {
    return cudaHostAlloc(pointer, bytes, flags);
}

template <class T>
cudaError_t cudaMallocPitch(T** pointer, size_t* pitch, size_t width, size_t height) {
    return emulated::call([&] {
        if (!pitch) return cudaErrorInvalidValue;
        *pitch = (width + emulated::limits::pitch - 1) / emulated::limits::pitch *
                 emulated::limits::pitch;
        return emulated::allocate_device(reinterpret_cast<void**>(pointer), *pitch * height);
    });
}

inline cudaError_t cudaFree(void* pointer) {
    return emulated::call_synchronous([&] {
        if (!pointer) return cudaSuccess;
        const cudaMemoryType type = emulated::HostMemory::get().type(pointer);
        if (type == cudaMemoryTypeHost) return cudaErrorInvalidValue;
        if (type == cudaMemoryTypeManaged) emulated::HostMemory::get().remove(pointer, true);
        return emulated::release(pointer) ? cudaSuccess : cudaErrorInvalidValue;
    });
}

inline cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
    return emulated::call_on(stream, [&] {
        return !pointer || emulated::release(pointer) ? cudaSuccess : cudaErrorInvalidValue;
    });
}

inline cudaError_t cudaFreeHost(void* pointer) {
    return emulated::call_synchronous([&] {
        if (!pointer) return cudaSuccess;
        auto& memory = emulated::HostMemory::get();
        const bool pinned = memory.type(pointer) == cudaMemoryTypeHost;
        if (!pinned || !memory.remove(pointer, true)) return cudaErrorInvalidValue;
        return emulated::release(pointer) ? cudaSuccess : cudaErrorInvalidValue;
    });
}

inline cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned) {
    if (emulated::HostMemory::get().type(pointer)) return cudaErrorHostMemoryAlreadyRegistered;
    return emulated::call([&] {
        if (!pointer || bytes == 0) return cudaErrorInvalidValue;
        emulated::HostMemory::get().add(pointer, {bytes, cudaMemoryTypeHost, false});
        emulated::declare_device_memory(pointer, bytes);
        return cudaSuccess;
    });
}

inline cudaError_t cudaHostUnregister(void* pointer) {
    if (const cudaError_t error = emulated::broken()) return error;
    if (!emulated::HostMemory::get().remove(pointer, false))
        return cudaErrorHostMemoryNotRegistered;
    emulated::declare_device_memory(pointer, 0);
    return cudaSuccess;
}

template <class T>
cudaError_t cudaHostGetDevicePointer(T** device, void* host, unsigned) {
    return emulated::call([&] {
        if (!device || !emulated::HostMemory::get().type(host)) return cudaErrorInvalidValue;
        *device = static_cast<T*>(host);
        return cudaSuccess;
    });
}

inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes,
                                            const void* pointer) {
    return emulated::call([&] {
        if (!attributes) return cudaErrorInvalidValue;
        auto* p = const_cast<void*>(pointer);
        auto type = emulated::HostMemory::get().type(p);
        if (!type && emulated::is_device_memory(p)) type = cudaMemoryTypeDevice;
        *attributes = {type, type ? 0 : -2, type ? p : nullptr,
                       type == cudaMemoryTypeDevice ? nullptr : p};
        return cudaSuccess;
    });
}

inline cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    return emulated::call([&] {
        if (free) *free = emulated::limits::free_memory;
        if (total) *total = emulated::limits::memory;
        return cudaSuccess;
    });
}

// ---- copies ----

inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    return emulated::call_synchronous([&] { return emulated::copy(to, from, bytes, kind); });
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream = nullptr) {
    return emulated::call_on(stream, [&] { return emulated::copy(to, from, bytes, kind); });
}

inline cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                                size_t width, size_t height, cudaMemcpyKind kind) {
    return emulated::call_synchronous([&] {
        return emulated::copy_rows(to, to_pitch, from, from_pitch, width, height, kind);
    });
}

inline cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from,
                                     size_t from_pitch, size_t width, size_t height,
                                     cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
    return emulated::call_on(stream, [&] {
        return emulated::copy_rows(to, to_pitch, from, from_pitch, width, height, kind);
    });
}

// ---- variables of the device ----

template <class T>
cudaError_t cudaMemcpyToSymbol(const T& symbol, const void* from, size_t bytes, size_t offset = 0,
                               cudaMemcpyKind kind = cudaMemcpyHostToDevice) {
    return emulated::call_synchronous(
        [&] { return emulated::copy_to_symbol(symbol, from, bytes, offset, kind); });
}

template <class T>
cudaError_t cudaMemcpyToSymbolAsync(const T& symbol, const void* from, size_t bytes,
                                    size_t offset = 0, cudaMemcpyKind kind = cudaMemcpyHostToDevice,
                                    cudaStream_t stream = nullptr) {
    return emulated::call_on(
        stream, [&] { return emulated::copy_to_symbol(symbol, from, bytes, offset, kind); });
}

template <class T>
cudaError_t cudaMemcpyFromSymbol(void* to, const T& symbol, size_t bytes, size_t offset = 0,
                                 cudaMemcpyKind kind = cudaMemcpyDeviceToHost) {
    return emulated::call_synchronous(
        [&] { return emulated::copy_from_symbol(to, symbol, bytes, offset, kind); });
}

template <class T>
cudaError_t cudaMemcpyFromSymbolAsync(void* to, const T& symbol, size_t bytes, size_t offset = 0,
                                      cudaMemcpyKind kind = cudaMemcpyDeviceToHost,
                                      cudaStream_t stream = nullptr) {
    return emulated::call_on(
        stream, [&] { return emulated::copy_from_symbol(to, symbol, bytes, offset, kind); });
}

template <class T>
cudaError_t cudaGetSymbolAddress(void** pointer, const T& symbol) {
    return emulated::call([&] {
        *pointer = emulated::symbol_address(symbol);
        return cudaSuccess;
    });
}

template <class T>
cudaError_t cudaGetSymbolSize(size_t* bytes, const T&) {
    return emulated::call([&] {
        *bytes = sizeof(T);
        return cudaSuccess;
    });
}

// ---- fills ----

inline cudaError_t cudaMemset(void* to, int value, size_t bytes) {
    return emulated::call_synchronous(
        [&] { return emulated::fill_rows(to, bytes, value, bytes, 1); });
}

inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes,
                                   cudaStream_t stream = nullptr) {
    return emulated::call_on(stream,
                             [&] { return emulated::fill_rows(to, bytes, value, bytes, 1); });
}

inline cudaError_t cudaMemset2D(void* to, size_t pitch, int value, size_t width, size_t height) {
    return emulated::call_synchronous(
        [&] { return emulated::fill_rows(to, pitch, value, width, height); });
}

inline cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width,
                                     size_t height, cudaStream_t stream = nullptr) {
    return emulated::call_on(
        stream, [&] { return emulated::fill_rows(to, pitch, value, width, height); });
}
