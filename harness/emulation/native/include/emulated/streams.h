// Streams, as far as order can be told on this device: work is done as soon as it is asked for.
//
// One thing is late: what the harness has put off on the current stream, as a kernel before the
// candidate's would be on a GPU. It is made up for when the stream, or the whole device, is
// reached. So a candidate that works on another stream without waiting sees stale inputs.
#pragma once

#include "emulated/core.h"

namespace emulated {

// A new handle. A blocking stream runs its work after the work of the default stream (null).
KH_API void* new_stream(bool blocking);
KH_API bool is_stream(void* stream);  // null, the default stream, is one

KH_API void* current_stream();  // PyTorch's
KH_API void set_current_stream(void* stream);

KH_API void reached(void* stream);  // work is added to this stream, or it is waited for
KH_API void reached_all();          // the device is waited for

}  // namespace emulated
