// The emulated device as kernels see it: who am I, wait for others, report what is wrong.
//
// Everything here is implemented once, in the device library (../../device). The CUDA headers
// beside this folder are built on these few functions and on nothing else of the device.
//
// One block runs at a time, on one thread of the operating system. Its CUDA threads run one after
// the other; one that has to wait (a barrier, a warp exchange, a spinning lock) is set aside on a
// stack of its own. So plain memory operations are atomic, and every run of a schedule is the same.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vector_types.h"

#define KH_API __attribute__((visibility("default")))

// Not const, although kernels may only read them: a compiler may keep a const across a barrier.
extern KH_API uint3 threadIdx asm("kernel_harness_threadIdx");
extern KH_API uint3 blockIdx asm("kernel_harness_blockIdx");
extern KH_API dim3 blockDim asm("kernel_harness_blockDim");
extern KH_API dim3 gridDim asm("kernel_harness_gridDim");
constexpr int warpSize = 32;

namespace emulated {

// ---- the running thread ----

KH_API unsigned linear_thread();  // x + y * blockDim.x + z * blockDim.x * blockDim.y
inline unsigned lane() { return linear_thread() & 31u; }
KH_API unsigned living_lanes();  // of the running thread's warp: those that have not returned
KH_API bool in_kernel();

// ---- waiting ----

enum class Vote { none, count, all, any };
// Of the block; the vote's result. Barriers are told apart by the source line of the call: the
// compiler may make several instructions of one.
KH_API int barrier(int predicate = 0, Vote vote = Vote::none, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE());

// What every lane of a warp brought to an exchange; 16 bytes are the most that a lane may bring.
struct Exchange {
    alignas(16) unsigned char values[32][16];
    unsigned lanes;  // which lanes brought something
};
// Waits until every living lane of `mask` has come with the same mask.
KH_API void exchange(unsigned mask, const void* value, size_t bytes, Exchange& all);

// The lanes of the warp that stand at this source line once nobody in the block can go on: those
// that a GPU would find converged, if it waited for as many as possible.
KH_API unsigned converged_lanes(const char* file, int line);

// For loops that wait on memory (a lock): lets the block's other threads run now and then.
KH_API void spinning();

// ---- memory ----

KH_API void* allocate(size_t bytes);  // guarded and poisoned; null where there is no memory left
KH_API bool release(void* pointer);   // false where it is no allocation
KH_API bool is_device_memory(const void* pointer);
KH_API void declare_device_memory(const void* pointer, size_t bytes);  // a __device__ variable

// ---- errors (codes as in cudaError_t) ----

KH_API int last_error(bool clear);
KH_API void set_error(int code);  // the kind that the next cudaGetLastError returns and clears

// ---- reports ----

// Ends the running kernel, as a trap does. `file` and `line` may be null and 0.
[[noreturn]] KH_API void trap(const char* kind, const char* text, const char* file, int line);
// The candidate needs something that is not emulated: the verdict will be `unsupported`.
KH_API void unsupported(const char* what);

// ---- launching (what <<<>>> is rewritten to) ----

using Body = void (*)(void* context);
// Runs `body` once per thread of the grid. A launch that a GPU would refuse leaves its error behind.
KH_API void run(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, void* stream,
                Body body, void* context);
// Whether every pointer argument points into device memory; reports the first that does not.
KH_API bool check_pointer(const char* kernel, const void* pointer, int position);
// Allows a kernel (by the name in the source, without template arguments; null means any) more than
// 48 KB of dynamic shared memory; false where the device has not so much.
KH_API bool allow_shared(const char* kernel, size_t bytes);

// ---- shared memory ----

KH_API void* dynamic_shared();  // of the running block; its end is guarded
// A __shared__ variable; `site` starts as 0 and identifies its declaration. The first thread of a
// block that comes by poisons it. Its end is guarded.
KH_API void* shared(int& site, const char* name, size_t bytes, size_t alignment);

}  // namespace emulated
