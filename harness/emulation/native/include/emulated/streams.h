// Streams, as far as order can be told on this device: work is done as soon as it is asked for.
//
// One thing is late: what the harness has put off on the current stream, as a kernel before the
// candidate's would be on a GPU. Work on that stream sees it done, and so does everybody once the
// stream, or the whole device, was waited for. Work on another stream that did not wait sees stale
// inputs, even if some work on the right stream has been asked for before.
#pragma once

#include "emulated/core.h"

namespace emulated {

// A new handle. A blocking stream runs its work after the work of the default stream (null).
KH_API void* new_stream(bool blocking);
KH_API bool is_stream(void* stream);  // null, the default stream, is one

KH_API void* current_stream();  // PyTorch's
KH_API void set_current_stream(void* stream);

KH_API void reached(void* stream);  // it is waited for
KH_API void reached_all();          // the device is waited for

KH_API void begin_work(void* stream);
KH_API void end_work(void* stream);

// While it lives, the host does what a stream was asked to do.
class OnStream {
  public:
    explicit OnStream(void* stream) : stream_(stream) { begin_work(stream_); }
    ~OnStream() { end_work(stream_); }
    OnStream(const OnStream&) = delete;

  private:
    void* stream_;
};

}  // namespace emulated
