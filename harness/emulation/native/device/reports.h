// What the device has seen go wrong, until the worker asks for it (see control.cpp).
#pragma once

#include <cstdint>
#include <string>

namespace emulated {

// Read by Python through ctypes: harness/emulation/device.py holds the same layout.
struct Report {
    char kind[32];
    char kernel[128];
    uint32_t block[3];
    uint32_t thread[3];
    uint32_t in_kernel;
    uint64_t address;  // of the instruction, in this process; 0 where it is not known
    char file[128];
    int32_t line;
    int32_t column;
    int32_t other_line;  // of a second place that the text speaks of
    uint32_t times;  // how often it was seen at this place
    char text[384];
};

struct Where {
    const void* address = nullptr;
    const char* file = nullptr;
    int line = 0;
    int column = 0;
    int other_line = 0;
    bool afterwards = false;  // seen when the kernel had ended: there is no thread to name
};

// Adds a report about the running thread, or counts it where the same was said before.
void report(const char* kind, const std::string& text, const Where& where);
int take_reports(Report* out, int most);

// Errors that a context never recovers from.
void set_sticky_error(int code);
bool is_broken();

constexpr int kInvalidValue = 1, kInvalidConfiguration = 9, kNotSupported = 801;
constexpr int kIllegalAddress = 700, kTimeout = 702, kAssert = 710, kMisaligned = 716,
              kLaunchFailure = 719;

}  // namespace emulated
