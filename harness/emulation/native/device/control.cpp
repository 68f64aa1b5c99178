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

struct Count {
    char name[128];
    uint64_t count;
};

KH_API void kernel_harness_schedule(int threads, int blocks, uint64_t seed, double seconds,
                                    int left_out) {
    set_schedule({static_cast<Order>(threads), static_cast<Order>(blocks), seed, seconds,
                  left_out != 0});
}

KH_API int kernel_harness_reports(Report* out, int most) { return take_reports(out, most); }

static int write(const std::map<std::string, uint64_t>& counts, Count* out, int most) {
    int n = 0;
    for (const auto& [name, count] : counts) {
        if (n == most) break;
        std::snprintf(out[n].name, sizeof out[n].name, "%s", name.c_str());
        out[n++].count = count;
    }
    return n;
}

KH_API int kernel_harness_launches(Count* out, int most) {
    return write(take_launches(), out, most);
}

KH_API int kernel_harness_operators(Count* out, int most) {
    return write(take_operators(), out, most);
}

KH_API int kernel_harness_last_error() { return last_error(true); }

KH_API void kernel_harness_late(void* to, const void* from, uint64_t bytes) {
    produce_late(to, from, bytes);
}

KH_API void kernel_harness_synchronize() { reached_all(); }
KH_API void kernel_harness_reached(void* stream) { reached(stream); }
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
