// The numbers of the pretended device: an sm_90 with 132 multiprocessors and 16 GiB of memory.
#pragma once

#include <cstddef>

namespace emulated::limits {

constexpr char name[] = "Emulated CUDA device (sm_90)";
constexpr int major = 9, minor = 0, cuda_version = 13000;
constexpr int multiprocessors = 132;
constexpr size_t memory = size_t{16} << 30;
constexpr size_t free_memory = size_t{15} << 30;  // what is said to be free, at all times

constexpr int block_threads = 1024;
constexpr int block_x = 1024, block_y = 1024, block_z = 64;
constexpr int grid_x = 2147483647, grid_y = 65535, grid_z = 65535;
constexpr int registers = 65536;  // of a block, and of a multiprocessor

constexpr int multiprocessor_threads = 2048;
constexpr int multiprocessor_blocks = 32;

constexpr size_t shared_static = 48 * 1024;   // without opting in
constexpr size_t shared_optin = 227 * 1024;
constexpr size_t shared_reserved = 1024;      // of each block, by the system
constexpr size_t shared_multiprocessor = 228 * 1024;
constexpr size_t constant_memory = 64 * 1024;
constexpr size_t l2_cache = size_t{50} << 20;
constexpr size_t pitch = 512;                 // rows of cudaMallocPitch begin at multiples of it

}  // namespace emulated::limits
