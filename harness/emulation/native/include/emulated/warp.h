// What the threads of a warp or block do together: shuffles, votes, matches, reductions, barriers.
//
// Every warp operation is one exchange: each lane of the mask brings its value, waits for the
// others, and computes its own result. A lane that reads from a lane outside of the exchange gets
// its own value (undefined on a GPU).
//
// __activemask() finds the lanes that have come to the same line when no thread of the block can go
// on. A GPU promises less: any of them may be missing.
#pragma once

#include <cstring>
#include <type_traits>

#include "emulated/core.h"

// Inlined, so that the device sees the call in the kernel as the place where a thread waits.
#define KH_INLINE inline __attribute__((always_inline))

namespace emulated {

constexpr unsigned kFullWarp = 0xffffffffu;

template <class T>
struct Gathered {
    static_assert(sizeof(T) <= 16 && std::is_trivially_copyable_v<T>);
    Exchange all;

    KH_INLINE Gathered(unsigned mask, const T& mine) { exchange(mask, &mine, sizeof(T), all); }
    bool has(unsigned lane) const { return lane < 32 && (all.lanes >> lane & 1); }
    T operator[](unsigned lane) const {
        T value;
        std::memcpy(&value, all.values[lane], sizeof(T));
        return value;
    }
    T from(unsigned lane, const T& otherwise) const {
        return has(lane) ? (*this)[lane] : otherwise;
    }
};

// `source` maps the own lane, and the first and last lane of the own segment of `width` lanes, to
// the lane to read from. As in PTX only the lower five bits of an offset count.
template <class T, class Source>
KH_INLINE T shuffle(unsigned mask, T value, int width, Source source) {
    const unsigned me = lane(), first = me & ~static_cast<unsigned>(width - 1);
    [[gnu::uninitialized]] const Gathered<T> all(mask, value);
    return all.from(source(me, first, first + width - 1), value);
}
template <class T>
KH_INLINE T shuffle_from(unsigned mask, T value, int source, int width) {
    return shuffle(mask, value, width, [=](unsigned, unsigned first, unsigned) {
        return first + (static_cast<unsigned>(source) & (width - 1));
    });
}
template <class T>
KH_INLINE T shuffle_up(unsigned mask, T value, unsigned delta, int width) {
    return shuffle(mask, value, width, [=](unsigned me, unsigned first, unsigned) {
        return me - first >= (delta & 31) ? me - (delta & 31) : me;
    });
}
template <class T>
KH_INLINE T shuffle_down(unsigned mask, T value, unsigned delta, int width) {
    return shuffle(mask, value, width, [=](unsigned me, unsigned, unsigned last) {
        return me + (delta & 31) <= last ? me + (delta & 31) : me;
    });
}
// Lanes of earlier segments can be read, those of later ones cannot.
template <class T>
KH_INLINE T shuffle_xor(unsigned mask, T value, int bits, int width) {
    return shuffle(mask, value, width, [=](unsigned me, unsigned, unsigned last) {
        const unsigned other = me ^ (static_cast<unsigned>(bits) & 31);
        return other <= last ? other : me;
    });
}

template <class T, class Predicate>
unsigned lanes_where(const Gathered<T>& all, Predicate holds) {
    unsigned lanes = 0;
    for (unsigned i = 0; i < 32; i++) {
        if (all.has(i) && holds(all[i])) lanes |= 1u << i;
    }
    return lanes;
}

// The values of all lanes, from lane 0 on.
template <class T, class Operation>
T reduce_lanes(const Gathered<T>& all, Operation operation) {
    unsigned i = 0;
    while (i < 31 && !all.has(i)) i++;
    T result = all[i];
    while (++i < 32) {
        if (all.has(i)) result = operation(result, all[i]);
    }
    return result;
}

template <class T>
KH_INLINE unsigned match(unsigned mask, T value) {
    return lanes_where(Gathered<T>(mask, value),
                       [&](const T& other) { return !std::memcmp(&other, &value, sizeof(T)); });
}

}  // namespace emulated

// ---- shuffles ----

#define KH_SHUFFLES(T)                                                                             \
    KH_INLINE T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {            \
        return emulated::shuffle_from(mask, value, source, width);                                 \
    }                                                                                              \
    KH_INLINE T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {     \
        return emulated::shuffle_up(mask, value, delta, width);                                    \
    }                                                                                              \
    KH_INLINE T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {   \
        return emulated::shuffle_down(mask, value, delta, width);                                  \
    }                                                                                              \
    KH_INLINE T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize) {          \
        return emulated::shuffle_xor(mask, value, bits, width);                                    \
    }

#define KH_MATCHES(T)                                                                              \
    KH_INLINE unsigned int __match_any_sync(unsigned mask, T value) {                              \
        return emulated::match(mask, value);                                                       \
    }                                                                                              \
    KH_INLINE unsigned int __match_all_sync(unsigned mask, T value, int* all_equal) {              \
        const emulated::Gathered<T> all(mask, value);                                              \
        const unsigned same = emulated::lanes_where(                                               \
            all, [&](const T& other) { return !std::memcmp(&other, &value, sizeof(T)); });         \
        *all_equal = same == all.all.lanes;                                                        \
        return *all_equal ? same : 0;                                                              \
    }

#define KH_SHUFFLES_AND_MATCHES(T) KH_SHUFFLES(T) KH_MATCHES(T)
KH_SHUFFLES_AND_MATCHES(int)
KH_SHUFFLES_AND_MATCHES(unsigned int)
KH_SHUFFLES_AND_MATCHES(long)
KH_SHUFFLES_AND_MATCHES(unsigned long)
KH_SHUFFLES_AND_MATCHES(long long)
KH_SHUFFLES_AND_MATCHES(unsigned long long)
KH_SHUFFLES_AND_MATCHES(float)
KH_SHUFFLES_AND_MATCHES(double)
#undef KH_SHUFFLES_AND_MATCHES
#undef KH_MATCHES

// ---- votes ----

KH_INLINE unsigned int __ballot_sync(unsigned mask, int predicate) {
    return emulated::lanes_where(emulated::Gathered<bool>(mask, predicate != 0),
                                 [](bool holds) { return holds; });
}
KH_INLINE int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
KH_INLINE int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, !predicate) == 0;
}
KH_INLINE int __uni_sync(unsigned mask, int predicate) {
    const emulated::Gathered<bool> all(mask, predicate != 0);
    const unsigned set = emulated::lanes_where(all, [](bool holds) { return holds; });
    return set == 0 || set == all.all.lanes;
}
KH_INLINE unsigned int __activemask(const char* file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
    return emulated::converged_lanes(file, line);
}
KH_INLINE void __syncwarp(unsigned mask = emulated::kFullWarp) {
    emulated::Gathered<bool>(mask, true);
}

// ---- reductions ----

#define KH_REDUCTION(name, T, expression)                                                          \
    KH_INLINE T name(unsigned mask, T value) {                                                     \
        return emulated::reduce_lanes(emulated::Gathered<T>(mask, value),                          \
                                      [](T a, T b) -> T { return expression; });                   \
    }
KH_REDUCTION(__reduce_add_sync, unsigned int, a + b)
KH_REDUCTION(__reduce_add_sync, int,
             static_cast<int>(static_cast<unsigned int>(a) + static_cast<unsigned int>(b)))
KH_REDUCTION(__reduce_min_sync, unsigned int, a < b ? a : b)
KH_REDUCTION(__reduce_min_sync, int, a < b ? a : b)
KH_REDUCTION(__reduce_max_sync, unsigned int, a > b ? a : b)
KH_REDUCTION(__reduce_max_sync, int, a > b ? a : b)
KH_REDUCTION(__reduce_and_sync, unsigned int, a & b)
KH_REDUCTION(__reduce_or_sync, unsigned int, a | b)
KH_REDUCTION(__reduce_xor_sync, unsigned int, a ^ b)
#undef KH_REDUCTION

// ---- the block ----

// The last two arguments tell barriers apart; nobody passes them.
KH_INLINE void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    emulated::barrier(0, emulated::Vote::none, file, line);
}
KH_INLINE int __syncthreads_count(int predicate, const char* file = __builtin_FILE(),
                                  int line = __builtin_LINE()) {
    return emulated::barrier(predicate, emulated::Vote::count, file, line);
}
KH_INLINE int __syncthreads_and(int predicate, const char* file = __builtin_FILE(),
                                int line = __builtin_LINE()) {
    return emulated::barrier(predicate, emulated::Vote::all, file, line);
}
KH_INLINE int __syncthreads_or(int predicate, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
    return emulated::barrier(predicate, emulated::Vote::any, file, line);
}

// ---- memory order: accesses happen in the order of the source, but loops may wait with these ----

namespace emulated {
inline void fence() {
    asm volatile("" ::: "memory");
    spinning();
}
}  // namespace emulated
KH_INLINE void __threadfence() { emulated::fence(); }
KH_INLINE void __threadfence_block() { emulated::fence(); }
KH_INLINE void __threadfence_system() { emulated::fence(); }
KH_INLINE void __nanosleep(unsigned int) { emulated::fence(); }
