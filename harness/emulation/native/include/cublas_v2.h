// cuBLAS on the host: handles, products of matrices (in float, double, half and bfloat16, single,
// strided and in batches) and the few vector functions that candidates use.
//
// Math modes, algorithms and workspaces are taken and have no effect; see emulated/gemm.h for what
// the arithmetic leaves out. Not declared, so `unsupported`: complex and integer types, everything
// else of levels 1 to 3, and cublasLt.
#pragma once

#include <initializer_list>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emulated/cublas_types.h"
#include "emulated/gemm.h"
#include "emulated/runtime_errors.h"
#include "emulated/streams.h"

namespace emulated {
template <>
struct Element<__half> {
    static float wide(__half x) { return __half2float(x); }
    static __half narrow(float x) { return __float2half(x); }
};
template <>
struct Element<__nv_bfloat16> {
    static float wide(__nv_bfloat16 x) { return __bfloat162float(x); }
    static __nv_bfloat16 narrow(float x) { return __float2bfloat16(x); }
};
}  // namespace emulated

namespace emulated::blas {

// What every function checks before it begins.
inline cublasStatus_t begin(cublasHandle_t handle) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (broken() || !is_stream(handle->stream)) return CUBLAS_STATUS_EXECUTION_FAILED;
    reached(handle->stream);
    return CUBLAS_STATUS_SUCCESS;
}

// Device pointers; one that is not makes a GPU fail with an illegal access.
inline cublasStatus_t check(const char* function, std::initializer_list<const void*> pointers) {
    int position = 0;
    for (const void* pointer : pointers) {
        if (!pointer) return CUBLAS_STATUS_INVALID_VALUE;
        if (!check_pointer(function, pointer, ++position)) return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

inline bool transposes(cublasOperation_t op) { return op != CUBLAS_OP_N; }

struct Shape {
    cublasOperation_t op_a, op_b;
    int m, n, k, lda, ldb, ldc;

    bool valid() const {
        return m >= 0 && n >= 0 && k >= 0 && lda >= std::max(1, transposes(op_a) ? k : m) &&
               ldb >= std::max(1, transposes(op_b) ? n : k) && ldc >= std::max(1, m);
    }
    bool empty() const { return m == 0 || n == 0; }
};

// A batch of matrices: at a distance from one another, or through an array of pointers.
template <class T>
struct Apart {
    T* first;
    long long distance;
    T* operator[](int i) const { return first + i * distance; }
    const void* pointer() const { return first; }
};
template <class T>
struct Pointers {
    T* const* array;
    T* operator[](int i) const { return array[i]; }
    const void* pointer() const { return array; }
};
template <class T>
Apart<T> one(T* matrix) {
    return {matrix, 0};
}

template <class Sum, class Scalar, class As, class Bs, class Cs>
cublasStatus_t gemm(const char* function, cublasHandle_t handle, const Shape& s,
                    const Scalar* alpha, As as, Bs bs, const Scalar* beta, Cs cs, int count) {
    if (const cublasStatus_t status = begin(handle)) return status;
    if (!s.valid() || count < 0 || !alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    if (s.empty() || count == 0) return CUBLAS_STATUS_SUCCESS;
    const auto pointers = {as.pointer(), bs.pointer(), cs.pointer()};
    if (const cublasStatus_t status = check(function, pointers)) return status;
    if (handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE) {
        if (const cublasStatus_t status = check(function, {alpha, beta})) return status;
    }
    for (int i = 0; i < count; i++) {
        if (const cublasStatus_t status = check(function, {as[i], bs[i], cs[i]})) return status;
        emulated::gemm<Sum>(s.m, s.n, s.k, Element<Scalar>::wide(*alpha),
                            Operand{as[i], static_cast<size_t>(s.lda), transposes(s.op_a)},
                            Operand{bs[i], static_cast<size_t>(s.ldb), transposes(s.op_b)},
                            Element<Scalar>::wide(*beta), cs[i], s.ldc);
    }
    return CUBLAS_STATUS_SUCCESS;
}

// One call of GemmEx or of its strided batch, the types still in words.
struct Call {
    const char* function;
    cublasHandle_t handle;
    Shape shape;
    const void *alpha, *a, *b, *beta;
    void* c;
    cudaDataType type_a, type_b, type_c;
    long long stride_a, stride_b, stride_c;
    int count;

    bool types(cudaDataType ab, cudaDataType c) const {
        return type_a == ab && type_b == ab && type_c == c;
    }
    template <class Sum, class Scalar, class In, class Out>
    cublasStatus_t run() const {
        return gemm<Sum>(function, handle, shape, static_cast<const Scalar*>(alpha),
                         Apart<const In>{static_cast<const In*>(a), stride_a},
                         Apart<const In>{static_cast<const In*>(b), stride_b},
                         static_cast<const Scalar*>(beta),
                         Apart<Out>{static_cast<Out*>(c), stride_c}, count);
    }
};

inline cublasStatus_t gemm_ex(const Call& call, cublasComputeType_t compute) {
    using half = __half;
    using bf16 = __nv_bfloat16;
    switch (compute) {
        case CUBLAS_COMPUTE_16F:
        case CUBLAS_COMPUTE_16F_PEDANTIC:
            if (call.types(CUDA_R_16F, CUDA_R_16F)) return call.run<float, half, half, half>();
            return CUBLAS_STATUS_NOT_SUPPORTED;
        case CUBLAS_COMPUTE_32F_FAST_16F:
        case CUBLAS_COMPUTE_32F_FAST_16BF:
        case CUBLAS_COMPUTE_32F_FAST_TF32:
            if (call.types(CUDA_R_32F, CUDA_R_32F)) return call.run<float, float, float, float>();
            return CUBLAS_STATUS_NOT_SUPPORTED;
        case CUBLAS_COMPUTE_32F:
        case CUBLAS_COMPUTE_32F_PEDANTIC:
            if (call.types(CUDA_R_32F, CUDA_R_32F)) return call.run<float, float, float, float>();
            if (call.types(CUDA_R_16F, CUDA_R_16F)) return call.run<float, float, half, half>();
            if (call.types(CUDA_R_16F, CUDA_R_32F)) return call.run<float, float, half, float>();
            if (call.types(CUDA_R_16BF, CUDA_R_16BF)) return call.run<float, float, bf16, bf16>();
            if (call.types(CUDA_R_16BF, CUDA_R_32F)) return call.run<float, float, bf16, float>();
            break;
        case CUBLAS_COMPUTE_64F:
        case CUBLAS_COMPUTE_64F_PEDANTIC:
            if (call.types(CUDA_R_64F, CUDA_R_64F))
                return call.run<double, double, double, double>();
            return CUBLAS_STATUS_NOT_SUPPORTED;
        default: break;
    }
    unsupported("a cuBLAS product of these types");
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

// Before compute types, GemmEx was told the type of the scalars.
inline cublasComputeType_t compute_type(cudaDataType type) {
    switch (type) {
        case CUDA_R_16F: return CUBLAS_COMPUTE_16F;
        case CUDA_R_64F: return CUBLAS_COMPUTE_64F;
        case CUDA_R_32I: return CUBLAS_COMPUTE_32I;
        default: return CUBLAS_COMPUTE_32F;
    }
}

}  // namespace emulated::blas

inline const char* cublasGetStatusName(cublasStatus_t status) {
    switch (status) {
#define KH_CUBLAS_STATUS(name, code, text) \
    case name:                             \
        return #name;
        KH_CUBLAS_STATUSES(KH_CUBLAS_STATUS)
#undef KH_CUBLAS_STATUS
    }
    return "unknown error";
}

inline const char* cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
#define KH_CUBLAS_STATUS(name, code, text) \
    case name:                             \
        return text;
        KH_CUBLAS_STATUSES(KH_CUBLAS_STATUS)
#undef KH_CUBLAS_STATUS
    }
    return "unknown error";
}

// ---- handles ----

inline cublasStatus_t cublasCreate(cublasHandle_t* handle) {
    if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
    *handle = new cublasContext;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    *stream = handle->stream;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->pointer_mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasGetPointerMode(cublasHandle_t handle, cublasPointerMode_t* mode) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    *mode = handle->pointer_mode;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->math_mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    *mode = handle->math_mode;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->atomics_mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void*, size_t) {
    return handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

inline cublasStatus_t cublasGetVersion(cublasHandle_t, int* version) {
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

// ---- products of matrices ----

#define KH_CUBLAS_GEMM(name, T, Sum)                                                               \
    inline cublasStatus_t name(cublasHandle_t handle, cublasOperation_t op_a,                      \
                               cublasOperation_t op_b, int m, int n, int k, const T* alpha,        \
                               const T* a, int lda, const T* b, int ldb, const T* beta, T* c,      \
                               int ldc) {                                                          \
        using namespace emulated::blas;                                                            \
        return gemm<Sum>(#name, handle, {op_a, op_b, m, n, k, lda, ldb, ldc}, alpha, one(a),       \
                         one(b), beta, one(c), 1);                                                 \
    }                                                                                              \
    inline cublasStatus_t name##StridedBatched(                                                    \
        cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,       \
        int k, const T* alpha, const T* a, int lda, long long stride_a, const T* b, int ldb,       \
        long long stride_b, const T* beta, T* c, int ldc, long long stride_c, int count) {         \
        using namespace emulated::blas;                                                            \
        return gemm<Sum>(#name "StridedBatched", handle, {op_a, op_b, m, n, k, lda, ldb, ldc},     \
                         alpha, Apart<const T>{a, stride_a}, Apart<const T>{b, stride_b}, beta,    \
                         Apart<T>{c, stride_c}, count);                                            \
    }                                                                                              \
    inline cublasStatus_t name##Batched(                                                           \
        cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,       \
        int k, const T* alpha, const T* const a[], int lda, const T* const b[], int ldb,           \
        const T* beta, T* const c[], int ldc, int count) {                                         \
        using namespace emulated::blas;                                                            \
        return gemm<Sum>(#name "Batched", handle, {op_a, op_b, m, n, k, lda, ldb, ldc}, alpha,     \
                         Pointers<const T>{a}, Pointers<const T>{b}, beta, Pointers<T>{c}, count); \
    }

KH_CUBLAS_GEMM(cublasSgemm, float, float)
KH_CUBLAS_GEMM(cublasDgemm, double, double)
KH_CUBLAS_GEMM(cublasHgemm, __half, float)
#undef KH_CUBLAS_GEMM

inline cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType type_a, int lda, long long stride_a,
    const void* b, cudaDataType type_b, int ldb, long long stride_b, const void* beta, void* c,
    cudaDataType type_c, int ldc, long long stride_c, int count, cublasComputeType_t compute,
    cublasGemmAlgo_t) {
    return emulated::blas::gemm_ex(
        {"cublasGemmStridedBatchedEx", handle, {op_a, op_b, m, n, k, lda, ldb, ldc}, alpha, a, b,
         beta, c, type_a, type_b, type_c, stride_a, stride_b, stride_c, count},
        compute);
}

inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a,
                                   cublasOperation_t op_b, int m, int n, int k, const void* alpha,
                                   const void* a, cudaDataType type_a, int lda, const void* b,
                                   cudaDataType type_b, int ldb, const void* beta, void* c,
                                   cudaDataType type_c, int ldc, cublasComputeType_t compute,
                                   cublasGemmAlgo_t) {
    return emulated::blas::gemm_ex({"cublasGemmEx", handle, {op_a, op_b, m, n, k, lda, ldb, ldc},
                                    alpha, a, b, beta, c, type_a, type_b, type_c, 0, 0, 0, 1},
                                   compute);
}

inline cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType type_a, int lda, long long stride_a,
    const void* b, cudaDataType type_b, int ldb, long long stride_b, const void* beta, void* c,
    cudaDataType type_c, int ldc, long long stride_c, int count, cudaDataType compute,
    cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, stride_a,
                                      b, type_b, ldb, stride_b, beta, c, type_c, ldc, stride_c,
                                      count, emulated::blas::compute_type(compute), algorithm);
}

inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a,
                                   cublasOperation_t op_b, int m, int n, int k, const void* alpha,
                                   const void* a, cudaDataType type_a, int lda, const void* b,
                                   cudaDataType type_b, int ldb, const void* beta, void* c,
                                   cudaDataType type_c, int ldc, cudaDataType compute,
                                   cublasGemmAlgo_t algorithm) {
    return cublasGemmEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c,
                        type_c, ldc, emulated::blas::compute_type(compute), algorithm);
}

// ---- vectors ----

inline cublasStatus_t cublasSgemv(cublasHandle_t handle, cublasOperation_t op, int m, int n,
                                  const float* alpha, const float* a, int lda, const float* x,
                                  int step_x, const float* beta, float* y, int step_y) {
    using namespace emulated;
    if (const cublasStatus_t status = blas::begin(handle)) return status;
    if (m < 0 || n < 0 || lda < std::max(1, m) || !step_x || !step_y || !alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
    if (const cublasStatus_t status = blas::check("cublasSgemv", {a, x, y})) return status;
    const bool transposed = blas::transposes(op);
    const size_t rows = transposed ? n : m, columns = transposed ? m : n;
    gemv<float>(rows, columns, *alpha, {a, static_cast<size_t>(lda), transposed},
                {x, columns, step_x}, *beta, {y, rows, step_y});
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSaxpy(cublasHandle_t handle, int n, const float* alpha, const float* x,
                                  int step_x, float* y, int step_y) {
    using namespace emulated;
    if (const cublasStatus_t status = blas::begin(handle)) return status;
    if (n <= 0) return CUBLAS_STATUS_SUCCESS;
    if (const cublasStatus_t status = blas::check("cublasSaxpy", {x, y})) return status;
    const Strided<const float> from(x, n, step_x);
    const Strided<float> to(y, n, step_y);
    for (int i = 0; i < n; i++) to[i] += *alpha * from[i];
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSscal(cublasHandle_t handle, int n, const float* alpha, float* x,
                                  int step) {
    using namespace emulated;
    if (const cublasStatus_t status = blas::begin(handle)) return status;
    if (n <= 0 || step <= 0) return CUBLAS_STATUS_SUCCESS;
    if (const cublasStatus_t status = blas::check("cublasSscal", {x})) return status;
    const Strided<float> to(x, n, step);
    for (int i = 0; i < n; i++) to[i] *= *alpha;
    return CUBLAS_STATUS_SUCCESS;
}

inline cublasStatus_t cublasSdot(cublasHandle_t handle, int n, const float* x, int step_x,
                                 const float* y, int step_y, float* result) {
    using namespace emulated;
    if (const cublasStatus_t status = blas::begin(handle)) return status;
    if (!result) return CUBLAS_STATUS_INVALID_VALUE;
    const bool on_device = handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
    if (on_device) {
        if (const cublasStatus_t status = blas::check("cublasSdot", {result})) return status;
    }
    float sum = 0;
    if (n > 0) {
        if (const cublasStatus_t status = blas::check("cublasSdot", {x, y})) return status;
        const Strided<const float> a(x, n, step_x), b(y, n, step_y);
        for (int i = 0; i < n; i++) sum += a[i] * b[i];
    }
    *result = sum;
    return CUBLAS_STATUS_SUCCESS;
}
