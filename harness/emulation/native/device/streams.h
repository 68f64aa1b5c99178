// The one thing that happens late on this device: a producer on a stream.
#pragma once

#include <cstddef>

namespace emulated {

// Copies as soon as any work on the current stream, or a synchronisation of the device, is reached.
void produce_late(void* to, const void* from, size_t bytes);

}  // namespace emulated
