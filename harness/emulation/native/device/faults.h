// Signals that a kernel's own mistakes raise, and the timer that looks for endless loops.
#pragma once

namespace emulated {

// In force while it lives: kernels run on this thread of the operating system.
class Watch {
  public:
    Watch();
    ~Watch();
    Watch(const Watch&) = delete;
};

}  // namespace emulated
