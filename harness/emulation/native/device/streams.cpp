// Streams: work is done at once, except for producers that are late.
#include "emulated/streams.h"

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "memory.h"
#include "streams.h"

namespace emulated {
namespace {

struct Late {
    void* to;
    const void* from;
    size_t bytes;
    void* stream;
};

std::mutex mutex;
std::map<void*, bool> streams;  // whether each is a blocking one
uintptr_t last_stream = 0;
thread_local void* current = nullptr;
std::vector<Late> late;

// The default stream and the blocking ones wait for each other.
bool waits_for(void* stream, void* other) {
    const auto blocking = [](void* s) { return !s || (streams.count(s) && streams[s]); };
    return stream == other || ((!stream || !other) && blocking(stream) && blocking(other));
}

// What has been made stays made.
template <class Reached>
void produce(Reached is_reached) {
    std::lock_guard lock(mutex);
    std::erase_if(late, [&](const Late& producer) {
        if (!is_reached(producer)) return false;
        std::memcpy(producer.to, producer.from, producer.bytes);
        return true;
    });
}

}  // namespace

void produce_late(void* to, const void* from, size_t bytes) {
    std::lock_guard lock(mutex);
    late.push_back({to, from, bytes, current});
}

void reached(void* stream) {
    produce([&](const Late& producer) { return waits_for(stream, producer.stream); });
}

void reached_all() {
    produce([](const Late&) { return true; });
}

void begin_work(void* stream) {
    std::lock_guard lock(mutex);
    for (const Late& producer : late)
        if (waits_for(stream, producer.stream))
            std::memcpy(producer.to, producer.from, producer.bytes);
}

// Nobody has waited for this work, so others find the memory as it was; unless it was written to.
void end_work(void* stream) {
    std::lock_guard lock(mutex);
    std::erase_if(late, [&](const Late& producer) {
        if (!waits_for(stream, producer.stream)) return false;
        if (std::memcmp(producer.to, producer.from, producer.bytes)) return true;
        std::memset(producer.to, kPoison, producer.bytes);
        return false;
    });
}

void* current_stream() { return current; }

void set_current_stream(void* stream) { current = stream; }

void* new_stream(bool blocking) {
    std::lock_guard lock(mutex);
    void* made = reinterpret_cast<void*>(last_stream += 0x100);  // a name, never dereferenced
    streams[made] = blocking;
    return made;
}

bool is_stream(void* stream) {
    std::lock_guard lock(mutex);
    return !stream || streams.count(stream);
}

}  // namespace emulated
