// The order in which threads and blocks run, and how often each kernel was launched.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "block.h"

namespace emulated {

struct Schedule {
    Order threads = Order::forward;
    Order blocks = Order::forward;
    uint64_t seed = 0;
    double seconds = 1e9;  // of the processor, that kernels may take until the next schedule
    bool left_out = false;  // whether launches do nothing, to see if results depend on them
};

void set_schedule(const Schedule& schedule);
std::map<std::string, uint64_t> take_launches();

// Operators of torch that the device computed, in whatever thread.
void note_operator(const std::string& name);
std::map<std::string, uint64_t> take_operators();

}  // namespace emulated
