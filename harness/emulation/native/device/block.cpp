#include "block.h"

#include <setjmp.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "fiber.h"
#include "memory.h"
#include "reports.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulated {
namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kMostStaticShared = 48 << 10;
constexpr unsigned kSpinsPerTurn = 64;

enum class State { unstarted, running, ready, at_barrier, in_exchange, converging, done };

struct Thread {
    State state = State::unstarted;
    Fiber* fiber = nullptr;
    const void* waits_at = nullptr;  // the instruction after the call that waits
    const char* file = nullptr;      // of the barrier, or the place of convergence
    int line = 0;
    unsigned converged = 0;  // the lanes that it found itself with
};

// Lanes that meet under one mask. Two generations are kept: a fast lane can be one ahead.
struct Meeting {
    unsigned mask = 0;
    unsigned arrived = 0;
    unsigned generation = 0;
    Exchange slots[2];
};

struct Tally {
    int yes = 0;
    bool all = true;
    bool any = false;
};

struct SharedVariable {
    const char* name;
    Guarded memory;
    uint64_t block = 0;  // number of the block that has poisoned it
};

// The one block that runs.
struct Block {
    const Kernel* kernel = nullptr;
    std::vector<Thread> threads;
    std::vector<unsigned> order;
    std::vector<std::vector<Meeting>> warps;
    unsigned next = 0;  // in `order`: the first thread that has not been started
    unsigned done = 0;
    unsigned at_barrier = 0;
    Tally tally, last_tally;

    uint64_t number = 0;
    unsigned current = 0;
    Fiber* fiber = nullptr;
    void* scheduler = nullptr;  // its saved stack pointer
    sigjmp_buf end;
    std::mt19937_64 random;

    std::vector<Fiber*> fibers;
    std::vector<Fiber*> free_fibers;
    std::vector<SharedVariable> shared;
    Guarded dynamic;
    size_t static_bytes = 0;

    unsigned spins = 0;
    uint64_t events = 0;       // starts, ends, releases: what makes progress visible to `tick`
    uint64_t seen_events = 0;  // at the last tick
    unsigned ticks = 0;        // without an event
    double seconds_left = 1e9;
    double patience = kMostPatience;
    volatile bool preemptible = false;
};

Block block;

// While a thread is in the device's own code it must not be set aside.
struct Undisturbed {
    Undisturbed() { block.preemptible = false; }
    ~Undisturbed() { block.preemptible = true; }
};

void become(unsigned i) {
    block.current = i;
    block.spins = 0;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
}

// Gives the processor to the scheduler until the running thread is resumed.
void wait() {
    Fiber* own = block.fiber;
    const unsigned i = block.current;
    kernel_harness_switch(&own->stack_pointer, block.scheduler);
    block.fiber = own;
    become(i);
}

// A fiber runs threads that have not been started, one after the other, until one has to wait;
// that one keeps the fiber.
void run_threads() {
    Fiber* own = block.fiber;
    while (block.next < block.order.size()) {
        const unsigned i = block.order[block.next++];
        Thread& thread = block.threads[i];
        thread = {.state = State::running, .fiber = own};
        block.events++;
        become(i);
        block.preemptible = true;
        block.kernel->body(block.kernel->context);
        block.preemptible = false;
        block.threads[i] = {.state = State::done};
        block.done++;
        block.events++;
    }
    block.free_fibers.push_back(own);
    kernel_harness_switch(&own->stack_pointer, block.scheduler);
}

void resume(Fiber* fiber) {
    block.fiber = fiber;
    kernel_harness_switch(&block.scheduler, fiber->stack_pointer);
}

Fiber* fresh_fiber() {
    if (block.free_fibers.empty()) {
        block.fibers.push_back(Fiber::make());
        block.free_fibers.push_back(block.fibers.back());
    }
    Fiber* fiber = block.free_fibers.back();
    block.free_fibers.pop_back();
    fiber->start(run_threads);
    return fiber;
}

unsigned living(unsigned warp) {
    unsigned lanes = 0;
    for (unsigned lane = 0; lane < kWarp; lane++) {
        const unsigned i = warp * kWarp + lane;
        if (i < block.threads.size() && block.threads[i].state != State::done) lanes |= 1u << lane;
    }
    return lanes;
}

bool complete(unsigned warp, Meeting& meeting) {
    const unsigned needed = meeting.mask & living(warp);
    if (!meeting.arrived || (meeting.arrived & needed) != needed) return false;
    meeting.slots[meeting.generation % 2].lanes = meeting.arrived;
    for (unsigned lane = 0; lane < kWarp; lane++) {
        if (!(meeting.arrived >> lane & 1)) continue;
        Thread& thread = block.threads[warp * kWarp + lane];
        if (thread.state == State::in_exchange) thread.state = State::ready;
    }
    meeting.arrived = 0;
    meeting.generation++;
    block.events++;
    return true;
}

// Lanes that have returned are waited for no longer.
bool complete_meetings() {
    bool any = false;
    for (unsigned warp = 0; warp < block.warps.size(); warp++)
        for (auto& meeting : block.warps[warp]) any |= complete(warp, meeting);
    return any;
}

// Lanes of a warp that wait at one line find each other.
bool converge() {
    bool any = false;
    for (unsigned i = 0; i < block.threads.size(); i++) {
        Thread& first = block.threads[i];
        if (first.state != State::converging) continue;
        unsigned lanes = 0;
        const unsigned warp = i / kWarp, end = std::min<size_t>(block.threads.size(),
                                                                (warp + 1) * kWarp);
        const auto same = [&](const Thread& t) {
            return t.state == State::converging && t.line == first.line && t.file == first.file;
        };
        for (unsigned k = i; k < end; k++)
            if (same(block.threads[k])) lanes |= 1u << (k % kWarp);
        for (unsigned k = end; k-- > i;) {
            if (!same(block.threads[k])) continue;
            block.threads[k].converged = lanes;
            block.threads[k].state = State::ready;
        }
        any = true;
    }
    block.events += any;
    return any;
}

void release_barrier() {
    const Thread* first = nullptr;
    for (auto& thread : block.threads) {
        if (thread.state != State::at_barrier) continue;
        first = first ? first : &thread;
        if (thread.line != first->line)
            report("divergent_barrier", "threads of one block wait at different barriers",
                   {.file = first->file, .line = first->line, .other_line = thread.line});
        thread.state = State::ready;
    }
    block.last_tally = block.tally;
    block.tally = {};
    block.at_barrier = 0;
    block.events++;
}

[[noreturn]] void give_up() {
    for (unsigned i : block.order) {
        const Thread& thread = block.threads[i];
        if (thread.state != State::at_barrier && thread.state != State::in_exchange) continue;
        become(i);
        const bool barrier = thread.state == State::at_barrier;
        report("deadlock",
               barrier ? "waits at a barrier that the other threads of the block never reach"
                       : "waits for lanes of its warp that never come",
               {.address = thread.waits_at, .file = barrier ? thread.file : nullptr,
                .line = barrier ? thread.line : 0});
        break;
    }
    set_sticky_error(kTimeout);
    end_kernel();
}

void prepare_block(uint3 index) {
    blockIdx = index;
    block.number++;
    block.next = block.done = block.at_barrier = 0;
    block.tally = {};
    block.static_bytes = 0;
    std::fill(block.threads.begin(), block.threads.end(), Thread{});
    for (auto& warp : block.warps) warp.clear();
    if (block.kernel->order == Order::shuffled)
        std::shuffle(block.order.begin(), block.order.end(), block.random);
    if (block.dynamic.map) block.dynamic.poison();
}

void run_block() {
    while (block.done < block.threads.size()) {
        bool progress = block.next < block.order.size();
        while (block.next < block.order.size()) resume(fresh_fiber());
        for (unsigned i : block.order) {
            Thread& thread = block.threads[i];
            if (thread.state != State::ready) continue;
            thread.state = State::running;
            progress = true;
            resume(thread.fiber);
        }
        if (progress || complete_meetings() || converge()) continue;
        if (block.at_barrier && block.at_barrier + block.done == block.threads.size())
            release_barrier();
        else if (block.done < block.threads.size())
            give_up();
    }
}

void check_shared_memory() {
    for (auto& variable : block.shared) {
        if (!variable.memory.map) continue;
        const bool before = variable.memory.intact_before();
        if (before && variable.memory.intact_after()) continue;
        report("out_of_bounds",
               "wrote just " + std::string(before ? "past the end of" : "before") +
                   " the shared variable " + variable.name,
               {.afterwards = true});
        set_sticky_error(kIllegalAddress);
    }
}

void finish() {
    block.preemptible = false;
    check_shared_memory();
    check_surroundings();
    block.dynamic.unmap();
    block.free_fibers = block.fibers;
    block.kernel = nullptr;
}

std::string relative(const void* address, const Guarded& memory) {
    const long offset = static_cast<const char*>(address) - memory.begin;
    const long past = offset - static_cast<long>(memory.bytes);
    return offset < 0 ? std::to_string(-offset) + " bytes before "
                      : std::to_string(past) + " bytes past the end of ";
}

bool holds(const Guarded& memory, const void* address) {
    return address >= memory.map && address < memory.map + memory.map_bytes;
}

}  // namespace

bool run_blocks(const Kernel& kernel, Order blocks) {
    block.kernel = &kernel;
    block.threads.assign(kernel.threads, {});
    block.warps.assign((kernel.threads + kWarp - 1) / kWarp, {});
    block.order.resize(kernel.threads);
    std::iota(block.order.begin(), block.order.end(), 0u);
    if (kernel.order == Order::reverse) std::reverse(block.order.begin(), block.order.end());
    block.random.seed(kernel.seed);
    block.ticks = 0;
    if (kernel.dynamic_bytes) block.dynamic = Guarded::make(kernel.dynamic_bytes, kAlignment);
    const bool completed = sigsetjmp(block.end, 0) == 0;
    if (completed) {
        const uint64_t n = uint64_t{gridDim.x} * gridDim.y * gridDim.z;
        for (uint64_t k = 0; k < n; k++) {
            const uint64_t i = blocks == Order::reverse ? n - 1 - k : k;
            prepare_block({static_cast<unsigned>(i % gridDim.x),
                           static_cast<unsigned>(i / gridDim.x % gridDim.y),
                           static_cast<unsigned>(i / gridDim.x / gridDim.y)});
            run_block();
        }
    }
    finish();
    return completed;
}

void end_kernel() {
    block.preemptible = false;
    siglongjmp(block.end, 1);
}

void set_patience(double seconds) {
    block.seconds_left = seconds;
    block.patience = std::min(kMostPatience, seconds / 3);  // say so before the time is up
}

void tick(const void* instruction) {
    if (!block.kernel || !block.preemptible) return;
    block.seconds_left -= kTickSeconds;
    if (block.seconds_left < 0) {
        report("too_slow", "more work than the emulated device does in the time of one call",
               {.address = instruction});
        set_sticky_error(kTimeout);
        end_kernel();
    }
    const bool stuck = block.events == block.seen_events;
    block.seen_events = block.events;
    if (!stuck) {
        block.ticks = 0;
        return;
    }
    if (++block.ticks * kTickSeconds > block.patience) {
        report("endless", "runs on and on, and nothing in its block makes progress",
               {.address = instruction});
        set_sticky_error(kTimeout);
        end_kernel();
    }
    block.threads[block.current].state = State::ready;
    wait();
    block.threads[block.current].state = State::running;
    block.preemptible = true;
}

const char* running_kernel() { return block.kernel ? block.kernel->name : ""; }

std::string describe_local(const void* address, const char** kind) {
    *kind = "out_of_bounds";
    for (const auto& variable : block.shared)
        if (holds(variable.memory, address))
            return relative(address, variable.memory) + "the shared variable " + variable.name +
                   " of " + std::to_string(variable.memory.bytes) + " bytes";
    if (holds(block.dynamic, address))
        return relative(address, block.dynamic) + "the dynamic shared memory of " +
               std::to_string(block.dynamic.bytes) + " bytes";
    for (const Fiber* fiber : block.fibers) {
        if (!fiber->overflowed(address)) continue;
        *kind = "stack_overflow";
        return "its local variables need more than " + std::to_string(Fiber::kStack >> 10) + " KB";
    }
    return "";
}

// ---- what kernels call ----

bool in_kernel() { return block.kernel != nullptr; }

unsigned linear_thread() { return block.current; }

unsigned living_lanes() { return living(block.current / kWarp); }

int barrier(int predicate, Vote vote, const char* file, int line) {
    Undisturbed here;
    block.tally.yes += predicate != 0;
    block.tally.all &= predicate != 0;
    block.tally.any |= predicate != 0;
    Thread& thread = block.threads[block.current];
    thread.state = State::at_barrier;
    thread.file = file;
    thread.line = line;
    block.at_barrier++;
    wait();
    block.threads[block.current].state = State::running;
    switch (vote) {
        case Vote::count: return block.last_tally.yes;
        case Vote::all: return block.last_tally.all;
        case Vote::any: return block.last_tally.any;
        default: return 0;
    }
}

void exchange(unsigned mask, const void* value, size_t bytes, Exchange& all) {
    Undisturbed here;
    const unsigned warp = block.current / kWarp, lane = block.current % kWarp;
    const void* caller = __builtin_return_address(0);
    if (!(mask >> lane & 1)) {
        report("lane_not_in_mask", "a lane takes part in a warp operation whose mask leaves it out",
               {.address = caller});
        mask |= 1u << lane;
    }
    auto& meetings = block.warps[warp];
    size_t m = 0;
    while (m < meetings.size() && meetings[m].mask != mask) m++;
    if (m == meetings.size()) meetings.emplace_back().mask = mask;
    const unsigned slot = meetings[m].generation % 2;
    std::memcpy(meetings[m].slots[slot].values[lane], value, bytes);
    meetings[m].arrived |= 1u << lane;
    if (!complete(warp, meetings[m])) {
        block.threads[block.current].state = State::in_exchange;
        block.threads[block.current].waits_at = caller;
        wait();
    }
    block.threads[block.current].state = State::running;
    all = block.warps[warp][m].slots[slot];
}

unsigned converged_lanes(const char* file, int line) {
    Undisturbed here;
    Thread& thread = block.threads[block.current];
    thread.state = State::converging;
    thread.file = file;
    thread.line = line;
    wait();
    Thread& resumed = block.threads[block.current];
    resumed.state = State::running;
    return resumed.converged;
}

void spinning() {
    if (!block.kernel || ++block.spins < kSpinsPerTurn) return;
    Undisturbed here;
    block.threads[block.current].state = State::ready;
    wait();
    block.threads[block.current].state = State::running;
}

void* dynamic_shared() {
    if (!block.dynamic.map) {  // nothing was asked for: whoever touches it hits the guard page
        Undisturbed here;
        block.dynamic = Guarded::make(0, kAlignment);
    }
    return block.dynamic.begin;
}

void* shared(int& site, const char* name, size_t bytes, size_t alignment) {
    if (site == 0) {
        Undisturbed here;
        block.shared.push_back({name, Guarded::make(bytes, alignment)});
        site = static_cast<int>(block.shared.size());
    }
    SharedVariable& variable = block.shared[site - 1];
    if (variable.block != block.number) {
        Undisturbed here;
        variable.block = block.number;
        variable.memory.poison();
        block.static_bytes += bytes;
        if (block.static_bytes > kMostStaticShared)
            trap("static_shared", "needs more than 48 KB of static shared memory", nullptr, 0);
    }
    return variable.memory.begin;
}

}  // namespace emulated
