// Streams, events and callbacks of the runtime API.
//
// Work is done when it is asked for, so every query says that it is done. Recording an event does
// not wait for its stream; waiting for the event does. Elapsed times are those of the host's clock.
// Not modelled: priorities, graphs and capture, and cudaErrorNotReady before a wait.
#pragma once

#include <chrono>

#include "emulated/runtime_memory.h"

struct CUevent_st {
    using Clock = std::chrono::steady_clock;
    unsigned flags = cudaEventDefault;
    bool recorded = false;
    cudaStream_t stream = nullptr;
    Clock::time_point time{};
};

// ---- streams ----

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return emulated::call([&] {
        if (!stream || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
        *stream = static_cast<cudaStream_t>(emulated::new_stream(flags == cudaStreamDefault));
        return cudaSuccess;
    });
}

inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}

inline cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return emulated::call([&] {
        if (least) *least = 0;
        if (greatest) *greatest = -5;
        return cudaSuccess;
    });
}

// What the stream has to do is still done; its handle is not used again for another stream.
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    return emulated::call([&] {
        if (!stream || !emulated::is_stream(stream)) return cudaErrorInvalidResourceHandle;
        emulated::reached(stream);
        return cudaSuccess;
    });
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    return emulated::call_on(stream, [&] {
        emulated::reached(stream);
        return cudaSuccess;
    });
}

inline cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

inline cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
    return emulated::call_on(stream, [&] {
        if (!function) return cudaErrorInvalidValue;
        function(data);
        return cudaSuccess;
    });
}

inline cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback,
                                         void* data, unsigned) {
    return emulated::call_on(stream, [&] {
        if (!callback) return cudaErrorInvalidValue;
        callback(stream, cudaSuccess, data);
        return cudaSuccess;
    });
}

// ---- events ----

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    return emulated::call([&] {
        constexpr unsigned known = cudaEventBlockingSync | cudaEventDisableTiming;
        if (!event || (flags & ~known)) return cudaErrorInvalidValue;
        *event = new CUevent_st{.flags = flags};
        return cudaSuccess;
    });
}

inline cudaError_t cudaEventCreate(cudaEvent_t* event, unsigned flags = cudaEventDefault) {
    return cudaEventCreateWithFlags(event, flags);
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    return emulated::call([&] {
        if (!event) return cudaErrorInvalidResourceHandle;
        delete event;
        return cudaSuccess;
    });
}

inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr) {
    return emulated::call([&] {
        if (!event || !emulated::is_stream(stream)) return cudaErrorInvalidResourceHandle;
        event->recorded = true;
        event->stream = stream;
        event->time = CUevent_st::Clock::now();
        return cudaSuccess;
    });
}

inline cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream = nullptr,
                                            unsigned flags = cudaEventRecordDefault) {
    if (flags != cudaEventRecordDefault) emulated::unsupported("cudaEventRecordExternal");
    return cudaEventRecord(event, stream);
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return emulated::call([&] {
        if (!event) return cudaErrorInvalidResourceHandle;
        if (event->recorded) emulated::reached(event->stream);
        return cudaSuccess;
    });
}

inline cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned = 0) {
    return emulated::call([&] {
        if (!event || !emulated::is_stream(stream)) return cudaErrorInvalidResourceHandle;
        if (event->recorded) emulated::reached(event->stream);
        return cudaSuccess;
    });
}

inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    return emulated::call([&] {
        if (!milliseconds) return cudaErrorInvalidValue;
        for (const cudaEvent_t event : {start, end}) {
            if (!event || !event->recorded || (event->flags & cudaEventDisableTiming))
                return cudaErrorInvalidResourceHandle;
        }
        const std::chrono::duration<float, std::milli> elapsed = end->time - start->time;
        *milliseconds = elapsed.count();
        return cudaSuccess;
    });
}
