// What the worker's Python calls through ctypes (harness/emulation/device.py holds the signatures).
#include <algorithm>
#include <cstring>
#include <string>

#include "block.h"
#include "emulated/core.h"
#include "emulated/streams.h"
#include "launch.h"
#include "memory.h"
#include "reports.h"
#include "streams.h"

using namespace emulated;

extern "C" {

struct KernelLaunches {
    char kernel[128];
    uint64_t launches;
};

KH_API void kernel_harness_schedule(int threads, int blocks, uint64_t seed, double seconds) {
    set_schedule({static_cast<Order>(threads), static_cast<Order>(blocks), seed, seconds});
}

KH_API int kernel_harness_reports(Report* out, int most) { return take_reports(out, most); }

KH_API int kernel_harness_launches(KernelLaunches* out, int most) {
    int n = 0;
    for (const auto& [kernel, count] : take_launches()) {
        if (n == most) break;
        std::snprintf(out[n].kernel, sizeof out[n].kernel, "%s", kernel.c_str());
        out[n++].launches = count;
    }
    return n;
}

KH_API int kernel_harness_last_error() { return last_error(true); }

KH_API void kernel_harness_late(void* to, const void* from, uint64_t bytes) {
    produce_late(to, from, bytes);
}

KH_API void kernel_harness_synchronize() { reached_all(); }
KH_API void* kernel_harness_new_stream() { return new_stream(false); }
KH_API void* kernel_harness_current_stream() { return current_stream(); }
KH_API void kernel_harness_set_current_stream(void* stream) { set_current_stream(stream); }

KH_API uint64_t kernel_harness_live_bytes(int of_candidate) {
    return live_bytes(of_candidate ? Owner::candidate : Owner::torch);
}

KH_API uint64_t kernel_harness_live_allocations(int of_candidate) {
    return live_allocations(of_candidate ? Owner::candidate : Owner::torch);
}

}  // extern "C"
