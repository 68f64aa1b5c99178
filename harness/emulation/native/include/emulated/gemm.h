// Products of column-major matrices and vectors on the host, as cuBLAS defines them.
//
// Sums are kept in the type of the scalars and rounded once, at the end. The order in which a GPU
// adds, TF32, and half-precision sums are not modelled.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace emulated {

// How an element becomes a number to calculate with, and back. The small floats are in cublas_v2.h.
template <class T>
struct Element {
    static T wide(T x) { return x; }
    static T narrow(T x) { return x; }
};

// A matrix as one operand of a product sees it: element (i, j) of op(M).
template <class T>
struct Operand {
    const T* data;
    size_t leading;
    bool transposed;

    const T& at(size_t i, size_t j) const {
        return transposed ? data[i * leading + j] : data[j * leading + i];
    }
};

// C = alpha * A * B + beta * C, where A is m x k and B is k x n.
// Goes through strips of kRows rows and kDepth of the sum, with the strip of A in a dense copy.
template <class Sum, class A, class B, class C>
void gemm(size_t m, size_t n, size_t k, Sum alpha, Operand<A> a, Operand<B> b, Sum beta, C* c,
          size_t ldc) {
    constexpr size_t kRows = 64, kDepth = 256;  // constants, so that the loops become vector code
    if (alpha == Sum(0)) k = 0;                 // then A and B are not read
    std::vector<Sum> strip(kRows * std::min(k, kDepth)), sums(kRows * n);
    for (size_t first = 0; first < m; first += kRows) {
        const size_t rows = std::min(kRows, m - first);
        std::fill(sums.begin(), sums.end(), Sum(0));
        for (size_t from = 0; from < k; from += kDepth) {
            const size_t depth = std::min(kDepth, k - from);
            std::fill(strip.begin(), strip.end(), Sum(0));
            for (size_t p = 0; p < depth; p++)
                for (size_t i = 0; i < rows; i++)
                    strip[p * kRows + i] = Element<A>::wide(a.at(first + i, from + p));
            for (size_t j = 0; j < n; j++) {
                Sum sum[kRows] = {};
                for (size_t p = 0; p < depth; p++) {
                    const Sum factor = Element<B>::wide(b.at(from + p, j));
                    const Sum* column = &strip[p * kRows];
                    for (size_t i = 0; i < kRows; i++) sum[i] += column[i] * factor;
                }
                for (size_t i = 0; i < kRows; i++) sums[j * kRows + i] += sum[i];
            }
        }
        for (size_t j = 0; j < n; j++) {
            for (size_t i = 0; i < rows; i++) {
                C& out = c[j * ldc + first + i];
                Sum value = alpha * sums[j * kRows + i];
                if (beta != Sum(0)) value += beta * Element<C>::wide(out);
                out = Element<C>::narrow(value);
            }
        }
    }
}

// A vector with a step; a negative one goes through it from its end.
template <class T>
struct Strided {
    T* data;
    long long step;

    Strided(T* data, size_t n, long long step)
        : data(step < 0 ? data - static_cast<long long>(n - 1) * step : data), step(step) {}
    T& operator[](size_t i) const { return data[static_cast<long long>(i) * step]; }
};

// y = alpha * A * x + beta * y, where A is m x n.
template <class T>
void gemv(size_t m, size_t n, T alpha, Operand<T> a, Strided<const T> x, T beta, Strided<T> y) {
    for (size_t i = 0; i < m; i++) {
        T sum = 0;
        for (size_t j = 0; j < n && alpha != T(0); j++) sum += a.at(i, j) * x[j];
        y[i] = alpha * sum + (beta != T(0) ? beta * y[i] : T(0));
    }
}

}  // namespace emulated
