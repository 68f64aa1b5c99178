// One block of CUDA threads: which of them runs, who waits for what, and its shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "emulated/core.h"

namespace emulated {

enum class Order { forward, reverse, shuffled };

struct Kernel {
    const char* name;
    Body body;
    void* context;
    unsigned threads;  // of one block
    size_t dynamic_bytes;
    Order order;
    uint64_t seed;
};

// Runs all blocks of the grid given by gridDim and blockDim, one after the other; false where the
// kernel was ended before its end (a report says why).
bool run_blocks(const Kernel& kernel, Order blocks);

// Leaves the running kernel for good, from any thread of it or from a signal handler.
[[noreturn]] void end_kernel();

// From a timer's signal at an instruction: sets the running thread aside if it has had its share, so that threads
// that it waits for in a loop can run; ends the kernel where that has helped nobody for long.
void tick(const void* instruction);
void set_patience(double seconds);  // how long kernels may run from now on, all together
constexpr double kTickSeconds = 0.25;
constexpr double kMostPatience = 5.0;  // seconds without progress that are an endless loop

const char* running_kernel();  // empty outside of kernels

// In words, which shared variable or stack lies at an address; empty where it is none.
std::string describe_local(const void* address, const char** kind);

}  // namespace emulated
