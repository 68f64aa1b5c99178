// gpuAtomicAdd & co. of torch's ATen/cuda/Atomic.cuh, and the overloads of atomicAdd that it adds
// for types that CUDA has none for. To be included where a candidate includes that header, nowhere
// else: without it, atomicAdd on int64_t is an error.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "emulated/atomics.h"

namespace c10 {
struct Half;
struct BFloat16;
template <typename T> struct complex;
}  // namespace c10

namespace emulated {

template <class T>
concept SmallFloat = std::same_as<T, c10::Half> || std::same_as<T, c10::BFloat16>;
// What atomicAdd does not take by itself.
template <class T>
concept ForeignToAtomicAdd = SmallFloat<T> || std::same_as<T, bool> ||
                             std::same_as<T, std::uint8_t> || std::same_as<T, std::int8_t> ||
                             std::same_as<T, std::int16_t> || std::same_as<T, std::int64_t>;
template <class T>
concept TorchElement = ForeignToAtomicAdd<T> || std::same_as<T, int> || std::same_as<T, float> ||
                       std::same_as<T, double>;

template <class T>
using Given = std::type_identity_t<T>;  // converts from what the caller has

// Small floats are computed with in float, everything else in itself; a NaN wins.
template <class T>
auto to_compute(T x) {
    if constexpr (SmallFloat<T>) return static_cast<float>(x);
    else return x;
}
template <class T>
T torch_sum(T a, T b) {
    if constexpr (std::same_as<T, bool>) return a || b;
    else if constexpr (std::is_integral_v<T>) return wrapping_sum(a, b);
    else return static_cast<T>(to_compute(a) + to_compute(b));
}
template <class T>
T torch_product(T a, T b) {
    return static_cast<T>(to_compute(a) * to_compute(b));
}
template <class T>
T torch_max(T a, T b) {
    const auto x = to_compute(a), y = to_compute(b);
    return x != x || x > y ? a : b;
}
template <class T>
T torch_min(T a, T b) {
    const auto x = to_compute(a), y = to_compute(b);
    return x != x || x < y ? a : b;
}

// As `update`, of one byte too.
template <class T, class Change>
T torch_update(T* address, Change change) {
    if constexpr (sizeof(T) > 1) {
        return update(address, change);
    } else {
        const T old = *address;
        *address = change(old);
        return old;
    }
}

}  // namespace emulated

#define KH_TORCH_ATOMIC(name, function)                                                            \
    template <emulated::TorchElement T>                                                            \
    T name(T* address, emulated::Given<T> value) {                                                 \
        return emulated::torch_update(address,                                                     \
                                      [=](T old) { return emulated::function(old, value); });      \
    }
KH_TORCH_ATOMIC(gpuAtomicAdd, torch_sum)
KH_TORCH_ATOMIC(gpuAtomicAddNoReturn, torch_sum)
KH_TORCH_ATOMIC(gpuAtomicMul, torch_product)
KH_TORCH_ATOMIC(gpuAtomicMax, torch_max)
KH_TORCH_ATOMIC(gpuAtomicMin, torch_min)
#undef KH_TORCH_ATOMIC

template <emulated::ForeignToAtomicAdd T>
T atomicAdd(T* address, emulated::Given<T> value) {
    return gpuAtomicAdd(address, value);
}

template <class T>
void gpuAtomicAdd(c10::complex<T>* address, emulated::Given<c10::complex<T>> value) {
    gpuAtomicAdd(&address->real_, value.real_);
    gpuAtomicAdd(&address->imag_, value.imag_);
}
template <class T>
void gpuAtomicAddNoReturn(c10::complex<T>* address, emulated::Given<c10::complex<T>> value) {
    gpuAtomicAdd(address, value);
}
