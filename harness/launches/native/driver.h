// What of the driver's interface is needed, and how to find the true functions behind ours.
//
// Layouts are those of cuda.h, which never change: building this takes no CUDA headers.
#pragma once

#include <cstdint>

namespace launches {

using Result = int;
using Handle = void*;
constexpr Result kSuccess = 0;

struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  Handle stream;
  void* attributes;
  unsigned attribute_count;
};

struct KernelNode {  // CUDA_KERNEL_NODE_PARAMS_v2
  Handle function;
  unsigned grid[3], block[3], shared_bytes;
  void **arguments, **extra;
  Handle kernel, context;
};

constexpr unsigned kPerThreadStreams = 2;  // a flag of cuGetProcAddress
constexpr int kKernelNode = 0, kChildGraphNode = 4;

using Dlsym = void* (*)(void*, const char*) noexcept;

// libc's own dlsym, looked up at the first call.
Dlsym true_dlsym() noexcept;

// A function of the driver that this process has loaded, or nothing.
void* of_driver(const char* name);

template <typename Function>
Function* of_driver_as(const char* name) {
  return reinterpret_cast<Function*>(of_driver(name));
}

}  // namespace launches
