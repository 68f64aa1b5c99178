// The last error, and how the functions of the runtime API report theirs.
// A broken context (an illegal access, a failed assertion, ...) answers every call with its error.
#pragma once

#include "emulated/core.h"
#include "emulated/runtime_types.h"

namespace emulated {

// The error that the context does not recover from, if there is one.
inline cudaError_t broken() {
    const auto error = static_cast<cudaError_t>(last_error(false));
    return error >= cudaErrorIllegalAddress ? error : cudaSuccess;
}

// What every function of the runtime API does: nothing in a broken context, and otherwise `body`,
// which returns an error below 700; an error is remembered for cudaGetLastError.
template <class Body>
cudaError_t call(Body body) {
    if (const cudaError_t error = broken()) return error;
    const cudaError_t error = body();
    if (error) set_error(error);
    return error;
}

}  // namespace emulated

inline cudaError_t cudaGetLastError() {
    return static_cast<cudaError_t>(emulated::last_error(true));
}
inline cudaError_t cudaPeekAtLastError() {
    return static_cast<cudaError_t>(emulated::last_error(false));
}
