// nvcuda::wmma: products of small matrices by a warp.
//
// Every element of a fragment's matrix, in row-major order of the matrix whatever its layout in
// memory, belongs to one lane: lane l owns the n elements from l * n on, as x[0 .. n-1]. (On a GPU
// the distribution is unspecified too, and element-wise work on x is all that is allowed.) Halves
// of matrix_a and matrix_b are kept twice or four times, so that num_elements is what it is on a
// GPU; the copies follow the originals.
//
// Loads and stores wait for the whole warp first, then each lane accesses its own elements. In
// mma_sync the lanes exchange their parts of a and b, and each computes its own elements of d.
// Products are exact. Sums are in float (in int or double for these) in the order of k, and rounded
// to half at the end where the accumulator is of halves; a GPU adds in another order.
//
// Not here: sub-byte types and single bits (wmma::experimental).
#pragma once

#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulated/rounding.h"
#include "emulated/warp.h"

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

namespace precision {
struct tf32 {};
}  // namespace precision

inline float __float_to_tf32(float x) { return emulated::round_to_tf32(x); }

namespace detail {

template <class T> struct Storage { using Type = T; };
template <> struct Storage<precision::tf32> { using Type = float; };

template <int m, int n, int k>
constexpr bool shape_is(int m_, int n_, int k_) {
    return m == m_ && n == n_ && k == k_;
}

// The shapes and types that CUDA documents; whatever else has no fragment class.
template <class Use, int m, int n, int k, class T>
constexpr bool exists() {
    constexpr bool of_16 = shape_is<m, n, k>(16, 16, 16) || shape_is<m, n, k>(32, 8, 16) ||
                           shape_is<m, n, k>(8, 32, 16);
    constexpr bool of_tf32 = shape_is<m, n, k>(16, 16, 8), of_double = shape_is<m, n, k>(8, 8, 4);
    if constexpr (std::is_same_v<Use, accumulator>) {
        return (of_16 && (std::is_same_v<T, __half> || std::is_same_v<T, float> ||
                          std::is_same_v<T, int>)) ||
               (of_tf32 && std::is_same_v<T, float>) || (of_double && std::is_same_v<T, double>);
    } else {
        return (of_16 && (std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16> ||
                          std::is_same_v<T, signed char> || std::is_same_v<T, unsigned char>)) ||
               (of_tf32 && std::is_same_v<T, precision::tf32>) ||
               (of_double && std::is_same_v<T, double>);
    }
}

// How an operand takes part in the sum.
inline float factor(__half x) { return emulated::widen(x); }
inline float factor(__nv_bfloat16 x) { return emulated::widen(x); }
inline float factor(float x) {  // tf32: the hardware does not look at the lower bits
    return std::bit_cast<float>(std::bit_cast<unsigned>(x) & ~0x1fffu);
}
inline double factor(double x) { return x; }
inline long long factor(signed char x) { return x; }
inline long long factor(unsigned char x) { return x; }

template <class Sum>
Sum start(Sum c) { return c; }
inline float start(__half c) { return emulated::widen(c); }
inline long long start(int c) { return c; }

inline void finish(float sum, bool, float& d) { d = sum; }
inline void finish(double sum, bool, double& d) { d = sum; }
inline void finish(float sum, bool saturate, __half& d) {
    constexpr float most = 65504;
    if (saturate) sum = sum != sum ? 0 : sum > most ? most : sum < -most ? -most : sum;
    d = __float2half(sum);
}
inline void finish(long long sum, bool saturate, int& d) {
    using Limits = std::numeric_limits<int>;
    if (saturate) sum = sum > Limits::max() ? Limits::max() : sum < Limits::min() ? Limits::min()
                                                                                  : sum;
    d = static_cast<int>(sum);
}

// A fragment's whole matrix, row by row, gathered from all lanes.
template <class Fragment>
struct Whole {
    using T = typename Fragment::storage_element_type;
    T elements[32 * Fragment::owned];

    KH_INLINE explicit Whole(const Fragment& mine) {
        constexpr int bytes = Fragment::owned * sizeof(T);
        for (int done = 0; done < bytes; done += 16) {
            const int piece = bytes - done < 16 ? bytes - done : 16;
            [[gnu::uninitialized]] emulated::Exchange all;
            emulated::exchange(emulated::kFullWarp,
                               reinterpret_cast<const unsigned char*>(mine.x) + done, piece, all);
            for (int lane = 0; lane < 32; lane++) {
                std::memcpy(reinterpret_cast<unsigned char*>(elements + lane * Fragment::owned) +
                                done, all.values[lane], piece);
            }
        }
    }
    const T* row(int i) const { return elements + i * Fragment::columns; }
};

}  // namespace detail

template <class Use, int m, int n, int k, class T, class Layout = void>
class fragment;  // only what CUDA has is defined

template <class Use, int m, int n, int k, class T, class Layout>
    requires(detail::exists<Use, m, n, k, T>() &&
             std::is_same_v<Use, accumulator> == std::is_void_v<Layout>)
class fragment<Use, m, n, k, T, Layout> {
  public:
    using element_type = T;
    using storage_element_type = typename detail::Storage<T>::Type;

    static constexpr int rows = std::is_same_v<Use, matrix_b> ? k : m;
    static constexpr int columns = std::is_same_v<Use, matrix_a> ? k : n;
    static constexpr int owned = rows * columns / 32;
    static constexpr int num_elements =
        std::is_same_v<T, __half> && !std::is_same_v<Use, accumulator> ? 16 : owned;
    static constexpr int num_storage_elements = num_elements;

    storage_element_type x[num_elements];
};

namespace detail {

// The place in memory of what the lane keeps in x[i].
template <class Fragment>
size_t offset(int i, unsigned ldm, bool rows_follow_each_other) {
    const size_t element = emulated::lane() * Fragment::owned + i % Fragment::owned;
    const size_t row = element / Fragment::columns, column = element % Fragment::columns;
    return rows_follow_each_other ? row * ldm + column : column * ldm + row;
}

template <class Fragment>
KH_INLINE void load(Fragment& f, const typename Fragment::storage_element_type* p, unsigned ldm,
                    bool row_major_memory) {
    __syncwarp();
    for (int i = 0; i < Fragment::num_elements; i++) {
        f.x[i] = p[offset<Fragment>(i, ldm, row_major_memory)];
    }
}

}  // namespace detail

template <class Use, int m, int n, int k, class T, class Layout>
void fill_fragment(
    fragment<Use, m, n, k, T, Layout>& f,
    const typename fragment<Use, m, n, k, T, Layout>::storage_element_type& value) {
    const auto copy = value;
    for (auto& element : f.x) element = copy;
}

template <class Use, int m, int n, int k, class T, class Layout>
    requires(!std::is_void_v<Layout>)
KH_INLINE void load_matrix_sync(
    fragment<Use, m, n, k, T, Layout>& f,
    const typename fragment<Use, m, n, k, T, Layout>::storage_element_type* p, unsigned ldm) {
    detail::load(f, p, ldm, std::is_same_v<Layout, row_major>);
}
template <int m, int n, int k, class T>
KH_INLINE void load_matrix_sync(
    fragment<accumulator, m, n, k, T>& f,
    const typename fragment<accumulator, m, n, k, T>::storage_element_type* p, unsigned ldm,
    layout_t layout) {
    detail::load(f, p, ldm, layout == mem_row_major);
}

template <int m, int n, int k, class T>
KH_INLINE void store_matrix_sync(
    typename fragment<accumulator, m, n, k, T>::storage_element_type* p,
    const fragment<accumulator, m, n, k, T>& f, unsigned ldm, layout_t layout) {
    using Fragment = fragment<accumulator, m, n, k, T>;
    __syncwarp();
    for (int i = 0; i < Fragment::num_elements; i++) {
        p[detail::offset<Fragment>(i, ldm, layout == mem_row_major)] = f.x[i];
    }
}

// d = a * b + c. The types that go together are CUDA's: halves with halves or floats, and so on.
template <int m, int n, int k, class T, class LayoutA, class LayoutB, class D, class C>
KH_INLINE void mma_sync(fragment<accumulator, m, n, k, D>& d,
                        const fragment<matrix_a, m, n, k, T, LayoutA>& a,
                        const fragment<matrix_b, m, n, k, T, LayoutB>& b,
                        const fragment<accumulator, m, n, k, C>& c, bool satf = false) {
    static_assert(std::is_same_v<C, D> || std::is_same_v<T, __half>);
    static_assert(std::is_integral_v<T> == std::is_same_v<D, int>);
    static_assert(std::is_same_v<T, __half> || !std::is_same_v<D, __half>);
    using Fragment = fragment<accumulator, m, n, k, D>;
    constexpr int owned = Fragment::owned;
    static_assert(n % owned == 0);  // so that a lane owns a piece of one row

    [[gnu::uninitialized]] const detail::Whole whole_a(a);
    [[gnu::uninitialized]] const detail::Whole whole_b(b);
    const int first = static_cast<int>(emulated::lane()) * owned;
    const int row = first / n, column = first % n;
    decltype(detail::start(c.x[0])) sums[owned];
    for (int i = 0; i < owned; i++) sums[i] = detail::start(c.x[i]);
    for (int j = 0; j < k; j++) {
        const auto left = detail::factor(whole_a.row(row)[j]);
        const auto* right = whole_b.row(j) + column;
        for (int i = 0; i < owned; i++) sums[i] += left * detail::factor(right[i]);
    }
    for (int i = 0; i < owned; i++) detail::finish(sums[i], satf, d.x[i]);
}

}  // namespace wmma
}  // namespace nvcuda
