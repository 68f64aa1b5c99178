// Atomic operations, of every scope.
//
// The overloads are CUDA's: there is none for `long` (int64_t), for one. An operation that leaves
// memory as it was may be a thread that waits (for a lock, a flag, its ticket): it lets others run.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulated/core.h"
#include "vector_types.h"

namespace emulated {

template <size_t bytes>
struct Word;
template <> struct Word<2> { using Type [[gnu::may_alias]] = std::uint16_t; };
template <> struct Word<4> { using Type [[gnu::may_alias]] = std::uint32_t; };
template <> struct Word<8> { using Type [[gnu::may_alias]] = std::uint64_t; };

// *address = change(*address); the old value.
template <class T, class Change>
T update(T* address, Change change) {
    if constexpr (sizeof(T) <= 8) {
        // A thread that spins for long is set aside by a signal, and that can be in between.
        using Bits = typename Word<sizeof(T)>::Type;
        auto* word = reinterpret_cast<Bits*>(address);
        Bits old = *word;
        for (;;) {
            const Bits now = std::bit_cast<Bits>(change(std::bit_cast<T>(old)));
            if (now == old) {
                spinning();
                break;
            }
            if (__atomic_compare_exchange_n(word, &old, now, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) break;
        }
        return std::bit_cast<T>(old);
    } else {
        const T old = *address;
        const T now = change(old);
        if (!std::memcmp(&old, &now, sizeof(T))) spinning();
        else *address = now;
        return old;
    }
}

template <class T>
T compare_and_swap(T* address, T compare, T value) {
    return update(address, [&](const T& old) {
        return std::memcmp(&old, &compare, sizeof(T)) ? old : value;
    });
}

// Integers that wrap around, as the device's do.
template <class T>
T wrapping_sum(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
        using Unsigned = std::make_unsigned_t<T>;
        return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
    } else {
        return a + b;
    }
}

}  // namespace emulated

// name(T* address, T value) with `old` and `value` in the expression, in all three scopes.
#define KH_ATOMIC_IN_SCOPE(name, T, expression)                                                    \
    inline T name(T* address, T value) {                                                           \
        return emulated::update(address,                                                           \
                                [=]([[maybe_unused]] T old) -> T { return expression; });          \
    }
#define KH_ATOMIC(name, T, expression)                                                             \
    KH_ATOMIC_IN_SCOPE(name, T, expression)                                                        \
    KH_ATOMIC_IN_SCOPE(name##_block, T, expression)                                                \
    KH_ATOMIC_IN_SCOPE(name##_system, T, expression)

KH_ATOMIC(atomicAdd, int, emulated::wrapping_sum(old, value))
KH_ATOMIC(atomicAdd, unsigned int, old + value)
KH_ATOMIC(atomicAdd, unsigned long long, old + value)
KH_ATOMIC(atomicAdd, float, old + value)
KH_ATOMIC(atomicAdd, double, old + value)
KH_ATOMIC(atomicAdd, float2, (float2{old.x + value.x, old.y + value.y}))
KH_ATOMIC(atomicAdd, float4,
          (float4{old.x + value.x, old.y + value.y, old.z + value.z, old.w + value.w}))
KH_ATOMIC(atomicSub, int, emulated::wrapping_sum(old, static_cast<int>(0u - value)))
KH_ATOMIC(atomicSub, unsigned int, old - value)

KH_ATOMIC(atomicExch, int, value)
KH_ATOMIC(atomicExch, unsigned int, value)
KH_ATOMIC(atomicExch, unsigned long long, value)
KH_ATOMIC(atomicExch, float, value)

// Up to value, then 0 again; down from value, and from 0 to it again.
KH_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)
KH_ATOMIC(atomicDec, unsigned int, old == 0 || old > value ? value : old - 1)

#define KH_ATOMICS_OF_INTEGERS(T)                                                                  \
    KH_ATOMIC(atomicMin, T, old < value ? old : value)                                             \
    KH_ATOMIC(atomicMax, T, old > value ? old : value)                                             \
    KH_ATOMIC(atomicAnd, T, old & value)                                                           \
    KH_ATOMIC(atomicOr, T, old | value)                                                            \
    KH_ATOMIC(atomicXor, T, old ^ value)
KH_ATOMICS_OF_INTEGERS(int)
KH_ATOMICS_OF_INTEGERS(unsigned int)
KH_ATOMICS_OF_INTEGERS(long long)
KH_ATOMICS_OF_INTEGERS(unsigned long long)
#undef KH_ATOMICS_OF_INTEGERS
#undef KH_ATOMIC
#undef KH_ATOMIC_IN_SCOPE

#define KH_CAS_IN_SCOPE(name, T)                                                                   \
    inline T name(T* address, T compare, T value) {                                                \
        return emulated::compare_and_swap(address, compare, value);                                \
    }
#define KH_CAS(T)                                                                                  \
    KH_CAS_IN_SCOPE(atomicCAS, T)                                                                  \
    KH_CAS_IN_SCOPE(atomicCAS_block, T)                                                            \
    KH_CAS_IN_SCOPE(atomicCAS_system, T)
KH_CAS(unsigned short)
KH_CAS(int)
KH_CAS(unsigned int)
KH_CAS(unsigned long long)
#undef KH_CAS
#undef KH_CAS_IN_SCOPE

// Of 128 bits, as on compute capability 9.0.
namespace emulated {
template <class T>
concept Wide = sizeof(T) == 16 && alignof(T) >= 16 && std::is_trivially_copyable_v<T>;
}
template <emulated::Wide T>
T atomicExch(T* address, T value) {
    return emulated::update(address, [&](const T&) { return value; });
}
template <emulated::Wide T>
T atomicCAS(T* address, T compare, T value) {
    return emulated::compare_and_swap(address, compare, value);
}
