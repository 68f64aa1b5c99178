#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "emulated/core.h"
#include "reports.h"

namespace emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kWatched = 256;  // bytes before an allocation that are looked at for stray writes

struct Allocation {
    Guarded memory;
    Owner owner;
    bool damaged = false;
};

std::mutex mutex;
std::map<const char*, Allocation> allocations;   // by the first byte of the mapping
std::map<const char*, size_t> declared;          // __device__ variables: first byte, bytes
std::map<const char*, size_t> freed;             // mappings that are gone: first byte, bytes

Allocation* find(const void* address) {
    const auto* p = static_cast<const char*>(address);
    auto next = allocations.upper_bound(p);
    if (next == allocations.begin()) return nullptr;
    auto& found = std::prev(next)->second;
    return p < found.memory.map + found.memory.map_bytes ? &found : nullptr;
}

bool within(const std::map<const char*, size_t>& ranges, const void* address) {
    const auto* p = static_cast<const char*>(address);
    auto next = ranges.upper_bound(p);
    return next != ranges.begin() && p < std::prev(next)->first + std::prev(next)->second;
}

bool is_poison(const char* from, const char* to) {
    return std::all_of(from, to, [](char c) { return static_cast<unsigned char>(c) == kPoison; });
}

}  // namespace

Guarded Guarded::make(size_t bytes, size_t alignment) {
    const size_t body = std::max<size_t>(1, (bytes + kPage - 1) / kPage) * kPage;
    Guarded made;
    made.map_bytes = body + 2 * kPage;
    void* map = mmap(nullptr, made.map_bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return {};
    made.map = static_cast<char*>(map);
    if (mprotect(made.map + kPage, body, PROT_READ | PROT_WRITE)) {
        munmap(map, made.map_bytes);
        return {};
    }
    made.bytes = bytes;
    made.begin = made.map + kPage + (body - bytes) / alignment * alignment;
    std::memset(made.map + kPage, kPoison, body);
    return made;
}

void Guarded::poison() { std::memset(begin, kPoison, bytes); }

bool Guarded::intact_before() const {
    return is_poison(std::max(map + kPage, begin - kWatched), begin);
}

bool Guarded::intact_after() const {
    return is_poison(begin + bytes, map + map_bytes - kPage);
}

void Guarded::unmap() {
    if (map) munmap(map, map_bytes);
    *this = {};
}

void* allocate(size_t bytes, Owner owner) {
    if (bytes == 0) return nullptr;
    Guarded memory = Guarded::make(bytes, kAlignment);
    if (!memory.map) return nullptr;
    std::lock_guard lock(mutex);
    freed.erase(memory.map);
    allocations[memory.map] = {memory, owner};
    return memory.begin;
}

void* allocate(size_t bytes) { return allocate(bytes, Owner::candidate); }

bool release(void* pointer) {
    if (!pointer) return true;
    std::lock_guard lock(mutex);
    Allocation* found = find(pointer);
    if (!found || found->memory.begin != pointer) return false;
    freed[found->memory.map] = found->memory.map_bytes;
    const char* key = found->memory.map;
    found->memory.unmap();
    allocations.erase(key);
    return true;
}

bool is_device_memory(const void* pointer) {
    std::lock_guard lock(mutex);
    return find(pointer) || within(declared, pointer);
}

void declare_device_memory(const void* pointer, size_t bytes) {
    std::lock_guard lock(mutex);
    declared[static_cast<const char*>(pointer)] = bytes;
}

std::string describe(const void* address) {
    // No lock: called from a signal handler, while the one thread that runs kernels stands still.
    if (const Allocation* found = find(address)) {
        const auto* p = static_cast<const char*>(address);
        const auto& memory = found->memory;
        const long offset = p - memory.begin;
        const std::string size = std::to_string(memory.bytes) + " bytes";
        return offset < 0 ? std::to_string(-offset) + " bytes before an allocation of " + size
                          : std::to_string(offset - static_cast<long>(memory.bytes)) +
                                " bytes past the end of an allocation of " + size;
    }
    return within(freed, address) ? "in memory that has been freed" : "";
}

void check_surroundings() {
    std::lock_guard lock(mutex);
    for (auto& [start, allocation] : allocations) {
        const auto& memory = allocation.memory;
        if (allocation.damaged) continue;
        const bool before = memory.intact_before(), after = memory.intact_after();
        if (before && after) continue;
        allocation.damaged = true;
        report("out_of_bounds",
               "wrote just " + std::string(before ? "past the end of" : "before") +
                   " an allocation of " + std::to_string(memory.bytes) + " bytes",
               {.afterwards = true});
        set_sticky_error(kIllegalAddress);
    }
}

size_t live_bytes(Owner owner) {
    std::lock_guard lock(mutex);
    size_t total = 0;
    for (const auto& [_, a] : allocations) total += a.owner == owner ? a.memory.bytes : 0;
    return total;
}

size_t live_allocations(Owner owner) {
    std::lock_guard lock(mutex);
    return std::count_if(allocations.begin(), allocations.end(),
                         [&](const auto& entry) { return entry.second.owner == owner; });
}

}  // namespace emulated
