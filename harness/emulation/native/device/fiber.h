// A stack of its own for a CUDA thread that has to wait (x86-64, System V calling convention).
#pragma once

#include <cstddef>

namespace emulated {

struct Fiber {
    static constexpr size_t kStack = 256 << 10;  // touched pages only are ever backed by memory

    void* stack_pointer = nullptr;
    char* stack = nullptr;  // a guard page, then kStack bytes

    static Fiber* make();
    void start(void (*entry)());  // the next switch enters `entry`, which must never return
    bool overflowed(const void* address) const;  // whether it lies on the guard page
};

// Saves the caller's registers on its stack and goes on where `to` was saved.
extern "C" void kernel_harness_switch(void** save, void* to);

}  // namespace emulated
