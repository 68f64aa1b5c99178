// How many blocks fit on a multiprocessor, from their threads and shared memory alone: every
// kernel is taken to use no static shared memory, and no more than 32 registers per thread.
#pragma once

#include <algorithm>

#include "emulated/limits.h"
#include "emulated/runtime_errors.h"

namespace emulated {

inline int blocks_per_multiprocessor(int threads, size_t shared_bytes) {
    using namespace limits;
    if (threads > block_threads || shared_bytes > shared_optin) return 0;
    const size_t shared = (shared_bytes + 127) / 128 * 128 + shared_reserved;
    const int warps = (threads + 31) / 32;
    return std::min({multiprocessor_blocks, multiprocessor_threads / 32 / warps,
                     static_cast<int>(shared_multiprocessor / shared)});
}

// The largest block size among those that keep the most threads on a multiprocessor.
template <class SharedBytes>
void best_block(int* grid, int* block, SharedBytes shared_bytes, int most_threads) {
    using namespace limits;
    if (most_threads <= 0 || most_threads > block_threads) most_threads = block_threads;
    int most = 0;
    *grid = *block = 0;
    for (int rounded = (most_threads + 31) / 32 * 32; rounded > 0; rounded -= 32) {
        const int threads = std::min(rounded, most_threads);
        const int blocks = blocks_per_multiprocessor(threads, shared_bytes(threads));
        if (blocks * threads <= most) continue;
        most = blocks * threads;
        *block = threads;
        *grid = blocks * multiprocessors;
    }
}

}  // namespace emulated

template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int threads,
                                                          size_t shared_bytes) {
    return emulated::call([&] {
        if (!blocks || threads <= 0) return cudaErrorInvalidValue;
        *blocks = emulated::blocks_per_multiprocessor(threads, shared_bytes);
        return cudaSuccess;
    });
}

template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, Kernel kernel,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared_bytes);
}

template <class SharedBytes, class Kernel>
cudaError_t cudaOccupancyMaxPotentialBlockSizeVariableSMem(int* grid, int* block, Kernel,
                                                           SharedBytes shared_bytes,
                                                           int most_threads = 0) {
    return emulated::call([&] {
        if (!grid || !block) return cudaErrorInvalidValue;
        emulated::best_block(grid, block, shared_bytes, most_threads);
        return cudaSuccess;
    });
}

template <class Kernel>
cudaError_t cudaOccupancyMaxPotentialBlockSize(int* grid, int* block, Kernel kernel,
                                               size_t shared_bytes = 0, int most_threads = 0) {
    return cudaOccupancyMaxPotentialBlockSizeVariableSMem(
        grid, block, kernel, [=](int) { return shared_bytes; }, most_threads);
}

template <class Kernel>
cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(size_t* shared_bytes, Kernel, int blocks,
                                                      int threads) {
    return emulated::call([&] {
        using namespace emulated::limits;
        if (!shared_bytes || blocks <= 0 || threads <= 0) return cudaErrorInvalidValue;
        const size_t share = shared_multiprocessor / blocks;
        const size_t usable = share > shared_reserved ? share - shared_reserved : 0;
        *shared_bytes = std::min(shared_optin, usable / 128 * 128);
        return cudaSuccess;
    });
}
