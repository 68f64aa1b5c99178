// assert() and torch's CUDA_KERNEL_ASSERT in kernels: a failing one ends the kernel, as a trap.
//
// Both call libc's __assert_fail. Every candidate gets one of its own instead, hidden, so that its
// calls bind to it, whichever header declared the macro last. Outside of kernels it prints and
// aborts, as libc's does.
#pragma once

#include <cassert>
#include <cstdio>
#include <cstdlib>

#include "emulated/core.h"

extern "C" {
__attribute__((noreturn, visibility("hidden"))) inline void __assert_fail(
    const char* expression, const char* file, unsigned line, const char* function) noexcept {
    if (emulated::in_kernel()) {
        emulated::trap("assertion", expression, file, static_cast<int>(line));
    }
    std::fprintf(stderr, "%s:%u: %s: Assertion `%s' failed.\n", file, line,
                 function ? function : "?", expression);
    std::abort();
}
}
