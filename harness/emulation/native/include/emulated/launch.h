// What kernel launches and __shared__ declarations are rewritten to (see ../../../dialect.py).
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulated/core.h"

typedef struct CUstream_st* cudaStream_t;

namespace emulated {

// Pointers, and what wraps one (a packed accessor), must point into device memory.
template <class T>
bool fits(const char*, const T&, int) {
    return true;
}
template <class T>
bool fits(const char* kernel, T* const& pointer, int position) {
    if constexpr (std::is_function_v<T>) return true;
    else return check_pointer(kernel, static_cast<const void*>(pointer), position);
}
template <class T>
    requires requires(const T& t) { t.data(); t.stride(0); }
bool fits(const char* kernel, const T& accessor, int position) {
    return check_pointer(kernel, static_cast<const void*>(accessor.data()), position);
}

template <class Kernel>
struct Launch {
    Kernel kernel;
    const char* name;
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;

    template <class... Args>
    void operator()(Args... args) const {
        int position = 0;
        if (!(fits(name, args, ++position) && ...)) return;
        auto body = [&] { kernel(args...); };
        run(name, grid, block, shared_bytes, stream,
            [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
    }
};

// kernel<<<grid, block, shared_bytes, stream>>>(args...) becomes
// ::emulated::launch([&](auto&... a) { kernel(a...); }, "kernel", grid, block, …)(args...)
template <class Kernel>
Launch<Kernel> launch(Kernel kernel, const char* name, dim3 grid, dim3 block,
                      size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
    return {kernel, name, grid, block, shared_bytes, stream};
}

// cudaLaunchKernel(kernel, grid, block, args, shared_bytes, stream), the casts to void* taken off.
template <class... Args>
void launch_by_pointer(void (*kernel)(Args...), const char* name, dim3 grid, dim3 block,
                       void** args, size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
    [&]<size_t... i>(std::index_sequence<i...>) {
        launch(kernel, name, grid, block, shared_bytes,
               stream)(*static_cast<std::remove_cv_t<Args>*>(args[i])...);
    }(std::index_sequence_for<Args...>{});
}

// __shared__ T name[n] becomes auto& name = ::emulated::shared_variable<T[n], decltype([] {})>("name")
// The alignment is what the declaration asks for; its type may need more.
template <class T, class Site, size_t alignment = 1>
T& shared_variable(const char* name) {
    static int site = 0;
    constexpr size_t needed = alignment > alignof(T) ? alignment : alignof(T);
    return *static_cast<T*>(shared(site, name, sizeof(T), needed));
}

// extern __shared__ T name[] within a kernel becomes T* name = ::emulated::dynamic<T>(), and
// ::emulated::Dynamic<T> name where it stands outside of all functions.
template <class T>
T* dynamic() {
    return static_cast<T*>(dynamic_shared());
}
template <class T>
struct Dynamic {
    operator T*() const { return dynamic<T>(); }
    template <class Index>
    T& operator[](Index i) const { return dynamic<T>()[i]; }
};

}  // namespace emulated
