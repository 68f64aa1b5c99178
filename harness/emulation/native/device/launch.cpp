#include "launch.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "emulated/core.h"
#include "emulated/streams.h"
#include "faults.h"
#include "memory.h"
#include "reports.h"

namespace emulated {
namespace {

constexpr unsigned kMostThreads = 1024, kMostInZ = 64, kMostBlocksInYZ = 65535;
constexpr unsigned kMostBlocksInX = 2147483647;
constexpr size_t kUsualShared = 48 << 10, kMostShared = 227 << 10;

std::mutex mutex;
Schedule schedule;
std::map<std::string, uint64_t> launches;
std::map<std::string, uint64_t> operators;
std::map<std::string, size_t> allowed;  // dynamic shared memory by kernel; "" is any kernel

std::string bare(const char* name) {  // without template arguments
    const std::string text = name;
    return text.substr(0, text.find_first_of("< "));
}

size_t most_shared(const char* name) {
    size_t most = kUsualShared;
    for (const auto& key : {bare(name), std::string()})
        if (auto found = allowed.find(key); found != allowed.end())
            most = std::max(most, found->second);
    return most;
}

struct Refusal {
    int error = 0;
    std::string text;
};

Refusal refusal(const char* name, dim3 grid, dim3 block, size_t shared_bytes) {
    const uint64_t threads = uint64_t{block.x} * block.y * block.z;
    const auto shape = [](dim3 d) {
        return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " +
               std::to_string(d.z) + ")";
    };
    if (threads == 0 || threads > kMostThreads || block.z > kMostInZ)
        return {kInvalidConfiguration, "a block of " + shape(block) +
                                           " threads; there must be at least 1 and at most 1024, "
                                           "and at most 64 in z"};
    if (!grid.x || !grid.y || !grid.z || grid.x > kMostBlocksInX || grid.y > kMostBlocksInYZ ||
        grid.z > kMostBlocksInYZ)
        return {kInvalidConfiguration, "a grid of " + shape(grid) +
                                           " blocks; each must be at least 1, and at most "
                                           "65535 in y and z"};
    if (shared_bytes > most_shared(name))
        return {kInvalidValue, std::to_string(shared_bytes) +
                                   " bytes of dynamic shared memory; the kernel may use " +
                                   std::to_string(most_shared(name)) +
                                   " (cudaFuncSetAttribute raises that, up to 232448)"};
    return {};
}

}  // namespace

void set_schedule(const Schedule& wanted) {
    std::lock_guard lock(mutex);
    schedule = wanted;
    set_patience(wanted.seconds);
}

std::map<std::string, uint64_t> take_launches() {
    std::lock_guard lock(mutex);
    return std::exchange(launches, {});
}

void note_operator(const std::string& name) {
    std::lock_guard lock(mutex);
    operators[name]++;
}

std::map<std::string, uint64_t> take_operators() {
    std::lock_guard lock(mutex);
    return std::exchange(operators, {});
}

bool allow_shared(const char* kernel, size_t bytes) {
    if (bytes > kMostShared) return false;
    std::lock_guard lock(mutex);
    allowed[kernel ? bare(kernel) : ""] = bytes;
    return true;
}

bool check_pointer(const char* kernel, const void* pointer, int position) {
    if (!pointer || is_device_memory(pointer)) return true;
    report("host_pointer",
           std::string(kernel) + ": argument " + std::to_string(position) +
               " points to host memory",
           {.address = __builtin_return_address(0)});
    set_sticky_error(kIllegalAddress);
    return false;
}

void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, void* stream, Body body,
         void* context) {
    if (in_kernel()) {
        unsupported("a kernel launched from a kernel");
        return;
    }
    std::lock_guard lock(mutex);
    if (is_broken()) return;
    const OnStream here(stream);
    if (const Refusal refused = refusal(name, grid, block, shared_bytes); refused.error) {
        report("launch_refused", std::string(name) + ": " + refused.text,
               {.address = __builtin_return_address(0)});
        set_error(refused.error);
        return;
    }
    if (schedule.left_out) return;
    launches[name]++;
    gridDim = grid;
    blockDim = block;
    const Kernel kernel{name,          body,           context,
                        block.x * block.y * block.z,   shared_bytes,
                        schedule.threads, schedule.seed};
    Watch watch;
    run_blocks(kernel, schedule.blocks);
}

}  // namespace emulated
