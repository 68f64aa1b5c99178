// Memory that both sides may use: pinned, registered and managed memory.
// Kernels can read it, as with unified addressing; it is never moved, so it is always coherent.
#pragma once

#include <iterator>
#include <map>
#include <mutex>

#include "emulated/core.h"
#include "emulated/runtime_types.h"

namespace emulated {

class HostMemory {
public:
    struct Range {
        size_t bytes;
        cudaMemoryType type;
        bool allocated;  // rather than registered
    };

    static HostMemory& get() {
        static HostMemory all;
        return all;
    }

    void add(void* begin, Range range) {
        std::lock_guard lock(mutex_);
        ranges_[static_cast<char*>(begin)] = range;
    }
    // False where no range begins there, or one of another origin.
    bool remove(void* begin, bool allocated) {
        std::lock_guard lock(mutex_);
        auto found = ranges_.find(static_cast<char*>(begin));
        if (found == ranges_.end() || found->second.allocated != allocated) return false;
        ranges_.erase(found);
        return true;
    }
    // cudaMemoryTypeUnregistered where the pointer is into no such memory.
    cudaMemoryType type(const void* pointer) {
        std::lock_guard lock(mutex_);
        const auto* p = static_cast<const char*>(pointer);
        auto next = ranges_.upper_bound(p);
        if (next == ranges_.begin()) return cudaMemoryTypeUnregistered;
        const auto& [begin, range] = *std::prev(next);
        return p < begin + range.bytes ? range.type : cudaMemoryTypeUnregistered;
    }

private:
    std::mutex mutex_;
    std::map<const char*, Range> ranges_;
};

// Whether the device may use all these bytes, as far as the first and the last of them tell.
inline bool on_device(const void* pointer, size_t bytes) {
    return is_device_memory(pointer) &&
           is_device_memory(static_cast<const char*>(pointer) + bytes - 1);
}

inline bool on_host(const void* pointer) {
    return !is_device_memory(pointer) || HostMemory::get().type(pointer);
}

}  // namespace emulated
