// Device memory: host memory between guard pages, filled with poison when it is handed out.
#pragma once

#include <cstddef>
#include <string>

namespace emulated {

constexpr unsigned char kPoison = 0xff;  // NaN in every float format, -1 as an integer
constexpr size_t kAlignment = 16;        // an allocation ends at most 15 bytes before its guard page

enum class Owner { torch, candidate };

void* allocate(size_t bytes, Owner owner);

// A run of pages with `bytes` usable bytes at its end, and a guard page on both sides.
struct Guarded {
    char* map = nullptr;
    size_t map_bytes = 0;
    char* begin = nullptr;
    size_t bytes = 0;

    static Guarded make(size_t bytes, size_t alignment);
    void poison();
    // Whether the bytes around the usable ones, up to the guard pages, are still as they were.
    bool intact_before() const;
    bool intact_after() const;
    void unmap();
};

// In words, what lies at an address that could not be accessed; empty where nobody knows.
std::string describe(const void* address);

// Reports allocations around which a kernel has written, once each.
void check_surroundings();

size_t live_bytes(Owner owner);
size_t live_allocations(Owner owner);

}  // namespace emulated
