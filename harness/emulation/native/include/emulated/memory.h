// Loads and stores with a cache hint (a plain access here: there are no caches), questions about
// address spaces (unsupported: pointers have none here), hints to the compiler, clocks and traps.
#pragma once

#include "emulated/core.h"
#include "vector_types.h"

namespace emulated {

// The types that CUDA has __ldg & co. for. cuda_fp16.h and cuda_bf16.h add theirs.
template <class T> inline constexpr bool cacheable = false;
#define KH_CACHEABLE(T) template <> inline constexpr bool cacheable<T> = true;
#define KH_CACHEABLE_2_4(name) KH_CACHEABLE(name##2) KH_CACHEABLE(name##4)
KH_CACHEABLE(char)
KH_CACHEABLE(signed char)
KH_CACHEABLE(unsigned char)
KH_CACHEABLE(short)
KH_CACHEABLE(unsigned short)
KH_CACHEABLE(int)
KH_CACHEABLE(unsigned int)
KH_CACHEABLE(long)
KH_CACHEABLE(unsigned long)
KH_CACHEABLE(long long)
KH_CACHEABLE(unsigned long long)
KH_CACHEABLE(float)
KH_CACHEABLE(double)
KH_CACHEABLE_2_4(char)
KH_CACHEABLE_2_4(uchar)
KH_CACHEABLE_2_4(short)
KH_CACHEABLE_2_4(ushort)
KH_CACHEABLE_2_4(int)
KH_CACHEABLE_2_4(uint)
KH_CACHEABLE_2_4(float)
KH_CACHEABLE(longlong2)
KH_CACHEABLE(ulonglong2)
KH_CACHEABLE(double2)
#undef KH_CACHEABLE_2_4

template <class T>
concept Cacheable = cacheable<T>;

template <class T>
struct Plain {  // keeps the stored value out of template deduction, so that it converts
    using Type = T;
};

}  // namespace emulated

#define KH_LOAD(name)                                                                              \
    template <emulated::Cacheable T>                                                               \
    T name(const T* address) {                                                                     \
        return *address;                                                                           \
    }
KH_LOAD(__ldg)
KH_LOAD(__ldca)
KH_LOAD(__ldcg)
KH_LOAD(__ldcs)
KH_LOAD(__ldlu)
#undef KH_LOAD

// "Don't cache and fetch again" is what one waits with.
template <emulated::Cacheable T>
T __ldcv(const T* address) {
    emulated::spinning();
    return *address;
}

#define KH_STORE(name)                                                                             \
    template <emulated::Cacheable T>                                                               \
    void name(T* address, typename emulated::Plain<T>::Type value) {                               \
        *address = value;                                                                          \
    }
KH_STORE(__stwb)
KH_STORE(__stcg)
KH_STORE(__stcs)
KH_STORE(__stwt)
#undef KH_STORE

// ---- address spaces ----

#define KH_NO_ADDRESS_SPACES(Result, name, Argument)                                               \
    inline Result name(Argument) {                                                                 \
        emulated::unsupported(#name);                                                              \
        return 0;                                                                                  \
    }
KH_NO_ADDRESS_SPACES(unsigned int, __isGlobal, const void*)
KH_NO_ADDRESS_SPACES(unsigned int, __isShared, const void*)
KH_NO_ADDRESS_SPACES(unsigned int, __isConstant, const void*)
KH_NO_ADDRESS_SPACES(unsigned int, __isLocal, const void*)
KH_NO_ADDRESS_SPACES(unsigned int, __isGridConstant, const void*)
KH_NO_ADDRESS_SPACES(size_t, __cvta_generic_to_global, const void*)
KH_NO_ADDRESS_SPACES(size_t, __cvta_generic_to_shared, const void*)
KH_NO_ADDRESS_SPACES(size_t, __cvta_generic_to_constant, const void*)
KH_NO_ADDRESS_SPACES(size_t, __cvta_generic_to_local, const void*)
KH_NO_ADDRESS_SPACES(void*, __cvta_global_to_generic, size_t)
KH_NO_ADDRESS_SPACES(void*, __cvta_shared_to_generic, size_t)
KH_NO_ADDRESS_SPACES(void*, __cvta_constant_to_generic, size_t)
KH_NO_ADDRESS_SPACES(void*, __cvta_local_to_generic, size_t)
#undef KH_NO_ADDRESS_SPACES

// ---- hints, clocks, traps ----

#define __builtin_assume(condition) static_cast<void>(0)
#define __assume(condition) static_cast<void>(0)

// A clock that every look at it sets forward, so that every run of a schedule is the same. clock()
// is the C library's.
inline long long clock64() {
    static long long ticks = 0;
    return ticks += 32;
}

[[noreturn]] inline void __trap() { emulated::trap("trap", "__trap()", nullptr, 0); }
[[noreturn]] inline void __brkpt() { emulated::trap("trap", "__brkpt()", nullptr, 0); }
inline void __prof_trigger(int) {}
