// The parts of the emulated runtime API and of cuBLAS that need no kernel: errors, occupancy,
// copies, streams and events, and products of matrices. Stands alone: the few functions of the
// device that they call are replaced below. Prints what fails, and how much was checked.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "cublas_v2.h"
#include "cuda_runtime.h"

// ---- a device that remembers what it was asked ----

namespace {
int current_error = 0;
int sticky_error = 0;
size_t allowed_shared = 0;
std::set<std::pair<const char*, size_t>> memory;
std::vector<std::string> asked;
std::set<void*> streams;
int checks = 0, failures = 0;

std::string taken() {
    std::string all;
    for (const auto& line : asked) all += line + ";";
    asked.clear();
    return all;
}
}  // namespace

namespace emulated {
int last_error(bool clear) {
    if (sticky_error) return sticky_error;
    const int error = current_error;
    if (clear) current_error = 0;
    return error;
}
void set_error(int code) { current_error = code; }
void unsupported(const char* what) { asked.push_back(std::string("unsupported ") + what); }
void* allocate(size_t bytes) {
    char* made = new char[bytes];
    memory.insert({made, bytes});
    return made;
}
bool is_device_memory(const void* pointer) {
    const auto* p = static_cast<const char*>(pointer);
    return std::any_of(memory.begin(), memory.end(), [&](auto& range) {
        return p >= range.first && p < range.first + range.second;
    });
}
bool release(void* pointer) {
    return std::erase_if(memory, [&](auto& range) { return range.first == pointer; });
}
void declare_device_memory(const void* pointer, size_t bytes) {
    memory.insert({static_cast<const char*>(pointer), bytes});
}
bool check_pointer(const char* kernel, const void* pointer, int position) {
    if (is_device_memory(pointer)) return true;
    asked.push_back(std::string(kernel) + " argument " + std::to_string(position));
    return false;
}
bool allow_shared(const char* kernel, size_t bytes) {
    asked.push_back(std::string("allow ") + (kernel ? kernel : "any"));
    if (bytes > limits::shared_optin) return false;
    allowed_shared = bytes;
    return true;
}
void run(const char* kernel, dim3 grid, dim3 block, size_t shared_bytes, void*, Body body,
         void* context) {
    asked.push_back(std::string("run ") + kernel);
    if (block.x > 1024) return set_error(cudaErrorInvalidConfiguration);
    if (shared_bytes > std::max(limits::shared_static, allowed_shared))
        return set_error(cudaErrorInvalidValue);
    for (unsigned i = 0; i < grid.x * block.x; i++) body(context);
}
void* new_stream(bool blocking) {
    void* made = new char;
    streams.insert(made);
    asked.push_back(blocking ? "blocking" : "free");
    return made;
}
bool is_stream(void* stream) { return !stream || streams.count(stream); }
void reached(void* stream) { asked.push_back(stream ? "reached other" : "reached default"); }
void reached_all() { asked.push_back("reached all"); }
void begin_work(void* stream) { asked.push_back(stream ? "work on other" : "work on default"); }
void end_work(void*) {}
}  // namespace emulated

// ---- checks ----

#define CHECK(condition)                                             \
    do {                                                             \
        checks++;                                                    \
        if (!(condition)) {                                          \
            failures++;                                              \
            std::printf("line %d: %s\n", __LINE__, #condition);      \
        }                                                            \
    } while (0)

static void errors() {
    const auto says = [](int code, const char* name, const char* text) {
        const auto error = static_cast<cudaError_t>(code);
        return !std::strcmp(cudaGetErrorName(error), name) &&
               !std::strcmp(cudaGetErrorString(error), text);
    };
    CHECK(says(0, "cudaSuccess", "no error"));
    CHECK(says(2, "cudaErrorMemoryAllocation", "out of memory"));
    CHECK(says(9, "cudaErrorInvalidConfiguration", "invalid configuration argument"));
    CHECK(says(700, "cudaErrorIllegalAddress", "an illegal memory access was encountered"));
    CHECK(says(701, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"));
    CHECK(says(716, "cudaErrorMisalignedAddress", "misaligned address"));
    CHECK(says(719, "cudaErrorLaunchFailure", "unspecified launch failure"));
    CHECK(says(4711, "unrecognized error code", "unrecognized error code"));

    CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
    CHECK(cudaPeekAtLastError() == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
    CHECK(cudaGetLastError() == cudaSuccess);

    sticky_error = cudaErrorIllegalAddress;
    int device = 0;
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    CHECK(cudaGetDevice(&device) == cudaErrorIllegalAddress);
    CHECK(cudaMemset(nullptr, 0, 0) == cudaErrorIllegalAddress);
    sticky_error = 0;
    CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

static void device() {
    cudaDeviceProp p;
    CHECK(cudaGetDeviceProperties(&p, 0) == cudaSuccess);
    CHECK(p.major == 9 && p.minor == 0 && p.multiProcessorCount == 132 && p.warpSize == 32);
    CHECK(p.sharedMemPerBlock == 49152 && p.sharedMemPerBlockOptin == 232448);
    CHECK(p.totalGlobalMem == size_t{1} << 34);
    int value = 0;
    CHECK(!cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    CHECK(value == 232448);
    CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrWarpSize, 3) == cudaErrorInvalidDevice);
    cudaGetLastError();
}

__global__ void kernel(float* out, int n) { out[0] += static_cast<float>(n); }
template <class T>
__global__ void generic(T* out) {
    out[0] = T(7);
}

static void occupancy() {
    const auto blocks = [](int threads, size_t shared) {
        int n = -1;
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, kernel, threads, shared);
        return n;
    };
    CHECK(blocks(1024, 0) == 2);
    CHECK(blocks(256, 0) == 8);
    CHECK(blocks(32, 0) == 32);          // no more blocks than 32
    CHECK(blocks(96, 0) == 21);          // 64 warps, three in a block
    CHECK(blocks(128, 48 * 1024) == 4);  // 49 KB each, of 228
    CHECK(blocks(128, 227 * 1024) == 1);
    CHECK(blocks(128, 227 * 1024 + 1) == 0);
    CHECK(blocks(1025, 0) == 0);

    int grid = 0, block = 0;
    CHECK(!cudaOccupancyMaxPotentialBlockSize(&grid, &block, kernel, 0, 0));
    CHECK(grid == 264 && block == 1024);
    CHECK(!cudaOccupancyMaxPotentialBlockSize(&grid, &block, kernel, 0, 500));
    CHECK(block == 256 && grid == 8 * 132);  // 2048 threads; four blocks of 500 are 2000
    CHECK(!cudaOccupancyMaxPotentialBlockSizeVariableSMem(&grid, &block, generic<float>,
                                                          [](int t) { return t * 256; }));
    CHECK(block == 896 && grid == 132);  // 224 KB of shared memory: the most threads in all
}

static void copies() {
    float host[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8] = {};
    float* out = nullptr;
    CHECK(!cudaMalloc(&out, sizeof host));
    taken();
    CHECK(!cudaMemcpy(out, host, sizeof host, cudaMemcpyHostToDevice));
    CHECK(taken() == "reached all;");
    CHECK(!cudaMemcpyAsync(back, out, sizeof host, cudaMemcpyDeviceToHost));
    CHECK(taken() == "work on default;");
    CHECK(!std::memcmp(host, back, sizeof host));

    CHECK(cudaMemcpy(host, out, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(out, host, 4, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(out, host, 64, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(out, nullptr, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
    CHECK(cudaMemcpy(out, host, 4, static_cast<cudaMemcpyKind>(9)) ==
          cudaErrorInvalidMemcpyDirection);
    CHECK(cudaMemset(host, 0, 4) == cudaErrorInvalidValue);
    CHECK(!cudaMemcpy(out, host, 4, cudaMemcpyDefault) && !cudaMemset(out, 0, 4));
    CHECK(out[0] == 0 && out[1] == 2);

    CHECK(!cudaMemcpy2D(back, 8, out, 16, 8, 2, cudaMemcpyDeviceToHost));
    CHECK(back[0] == 0 && back[1] == 2 && back[2] == 5 && back[3] == 6);
    CHECK(cudaMemcpy2D(back, 4, out, 16, 8, 2, cudaMemcpyDeviceToHost) ==
          cudaErrorInvalidPitchValue);

    static float symbol[4];
    CHECK(!cudaMemcpyToSymbol(symbol, host, 8, 8));
    CHECK(symbol[1] == 0 && symbol[2] == host[0] && symbol[3] == host[1]);
    CHECK(cudaMemcpyToSymbol(symbol, host, 12, 8) == cudaErrorInvalidValue);
    CHECK(!cudaMemcpyFromSymbol(back, symbol, 16) && back[3] == host[1]);

    float* pinned = nullptr;
    CHECK(!cudaMallocHost(&pinned, 16));
    CHECK(!cudaMemcpy(pinned, out, 16, cudaMemcpyDeviceToHost) && pinned[1] == 2);
    CHECK(!cudaMemcpy(out, pinned, 16, cudaMemcpyHostToDevice));
    cudaPointerAttributes attributes;
    CHECK(!cudaPointerGetAttributes(&attributes, pinned));
    CHECK(attributes.type == cudaMemoryTypeHost);
    CHECK(cudaFree(pinned) == cudaErrorInvalidValue);
    CHECK(!cudaFreeHost(pinned) && cudaFreeHost(pinned) == cudaErrorInvalidValue);
    CHECK(!cudaFree(out) && cudaFree(out) == cudaErrorInvalidValue && !cudaFree(nullptr));

    void* huge = host;
    CHECK(cudaMalloc(&huge, size_t{1} << 40) == cudaErrorMemoryAllocation && !huge);
    CHECK(!cudaMalloc(&huge, 0) && !huge);
    cudaGetLastError();
}

static void streams_and_events() {
    cudaStream_t one, two;
    taken();
    CHECK(!cudaStreamCreate(&one) && !cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking));
    CHECK(one && two && one != two && taken() == "blocking;free;");
    CHECK(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(&one)) ==
          cudaErrorInvalidResourceHandle);
    cudaGetLastError();

    cudaEvent_t start, end;
    float milliseconds = -1;
    CHECK(!cudaEventCreate(&start) && !cudaEventCreate(&end));
    CHECK(cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorInvalidResourceHandle);
    CHECK(!cudaEventRecord(start) && taken().empty());
    CHECK(!cudaStreamWaitEvent(one, start) && taken() == "reached default;");
    CHECK(!cudaEventRecord(end, one) && !cudaEventSynchronize(end));
    CHECK(taken() == "reached other;");
    CHECK(!cudaEventElapsedTime(&milliseconds, start, end) && milliseconds >= 0);
    cudaEventDestroy(start), cudaEventDestroy(end);
    cudaGetLastError();
}

static void launches() {
    float* out = nullptr;
    cudaMalloc(&out, 4);
    cudaMemset(out, 0, 4);
    int n = 3;
    void* args[] = {&out, &n};
    taken();
    CHECK(!emulated::cuda_launch_kernel(kernel, "kernel", 2, 2, args) && *out == 12);
    CHECK(taken() == "run kernel;");
    CHECK(emulated::cuda_launch_kernel(kernel, "kernel", 1, 2048, args) ==
          cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);

    constexpr auto kShared = cudaFuncAttributeMaxDynamicSharedMemorySize;
    taken();
    CHECK(emulated::func_set_attribute("generic", generic<float>, kShared, 1 << 18) ==
          cudaErrorInvalidValue);
    CHECK(!emulated::func_set_attribute("generic", generic<float>, kShared, 1 << 17));
    cudaLaunchConfig_t config = {};
    config.gridDim = config.blockDim = 1;
    config.dynamicSmemBytes = 1 << 17;
    CHECK(!cudaLaunchKernelEx(&config, generic<float>, out) && *out == 7);
    CHECK(taken() == "allow generic;allow generic;run generic;");
    CHECK(cudaLaunchKernel(reinterpret_cast<const void*>(&n), 1, 1, args) ==
          cudaErrorNotSupported);
    CHECK(taken().starts_with("unsupported"));
    cudaGetLastError();
}

// ---- cuBLAS ----

template <class T>
struct Matrix {
    int rows, columns, leading;
    T* data;

    Matrix(int rows, int columns, int extra, int seed)
        : rows(rows), columns(columns), leading(rows + extra) {
        data = static_cast<T*>(emulated::allocate(sizeof(T) * leading * std::max(columns, 1)));
        for (int i = 0; i < leading * columns; i++)
            data[i] = emulated::Element<T>::narrow(static_cast<float>((i * 7 + seed) % 11 - 5));
    }
    double at(int i, int j) const {
        return emulated::Element<T>::wide(data[j * leading + i]);
    }
};

template <class T, class Multiply>
static bool product_is_right(int m, int n, int k, int ta, int tb, double alpha, double beta,
                             Multiply multiply) {
    const Matrix<T> a(ta ? k : m, ta ? m : k, 3, 1), b(tb ? n : k, tb ? k : n, 2, 5);
    Matrix<T> c(m, n, 1, 9);
    const Matrix<T> old = [&] {
        Matrix<T> copy(m, n, 1, 9);
        return copy;
    }();
    const auto op = [](int t) { return t ? CUBLAS_OP_T : CUBLAS_OP_N; };
    if (multiply(op(ta), op(tb), a, b, c)) return false;
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < m; i++) {
            double sum = 0;
            for (int p = 0; p < k; p++)
                sum += (ta ? a.at(p, i) : a.at(i, p)) * (tb ? b.at(j, p) : b.at(p, j));
            const double want = alpha * sum + (beta ? beta * old.at(i, j) : 0);
            const auto rounded =
                emulated::Element<T>::wide(emulated::Element<T>::narrow(static_cast<float>(want)));
            if (c.at(i, j) != rounded) return false;
        }
        for (int i = m; i < c.leading && j < n; i++)  // what lies between columns is not touched
            if (c.at(i, j) != old.at(i, j)) return false;
    }
    return true;
}

static void products() {
    cublasHandle_t handle;
    CHECK(!cublasCreate(&handle));
    for (int ta : {0, 1}) {
        for (int tb : {0, 1}) {
            for (auto [m, n, k] : {std::tuple{1, 1, 1}, {5, 3, 4}, {70, 9, 300}, {64, 64, 256}}) {
                const float alpha = 2, beta = ta ? 0.f : 3.f;
                CHECK(product_is_right<float>(
                    m, n, k, ta, tb, alpha, beta, [&](auto oa, auto ob, auto& a, auto& b, auto& c) {
                        return cublasSgemm(handle, oa, ob, m, n, k, &alpha, a.data, a.leading,
                                           b.data, b.leading, &beta, c.data, c.leading);
                    }));
                CHECK(product_is_right<double>(
                    m, n, k, ta, tb, 2, 3, [&](auto oa, auto ob, auto& a, auto& b, auto& c) {
                        const double two = 2, three = 3;
                        return cublasDgemm(handle, oa, ob, m, n, k, &two, a.data, a.leading, b.data,
                                           b.leading, &three, c.data, c.leading);
                    }));
                CHECK(product_is_right<__half>(
                    m, n, k, ta, tb, alpha, beta, [&](auto oa, auto ob, auto& a, auto& b, auto& c) {
                        return cublasGemmEx(handle, oa, ob, m, n, k, &alpha, a.data, CUDA_R_16F,
                                            a.leading, b.data, CUDA_R_16F, b.leading, &beta, c.data,
                                            CUDA_R_16F, c.leading, CUBLAS_COMPUTE_32F,
                                            CUBLAS_GEMM_DEFAULT);
                    }));
                CHECK(product_is_right<__nv_bfloat16>(
                    m, n, k, ta, tb, alpha, beta, [&](auto oa, auto ob, auto& a, auto& b, auto& c) {
                        return cublasGemmEx(handle, oa, ob, m, n, k, &alpha, a.data, CUDA_R_16BF,
                                            a.leading, b.data, CUDA_R_16BF, b.leading, &beta,
                                            c.data, CUDA_R_16BF, c.leading, CUDA_R_32F,
                                            CUBLAS_GEMM_DEFAULT_TENSOR_OP);
                    }));
            }
        }
    }

    const float one = 1, zero = 0;
    const Matrix<float> a(4, 6, 0, 1), b(6, 10, 0, 2);
    Matrix<float> apart(4, 10, 0, 3), listed(4, 10, 0, 4);
    CHECK(!cublasSgemmStridedBatched(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 6, &one, a.data, 4, 0,
                                     b.data, 6, 30, &zero, apart.data, 4, 20, 2));
    auto** lists = static_cast<float**>(emulated::allocate(6 * sizeof(float*)));
    for (int i : {0, 1}) {
        lists[i] = a.data;
        lists[2 + i] = b.data + 30 * i;
        lists[4 + i] = listed.data + 20 * i;
    }
    CHECK(!cublasSgemmBatched(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 6, &one, lists, 4, lists + 2,
                              6, &zero, lists + 4, 4, 2));
    bool same = true;
    for (int j = 0; j < 10; j++) {
        for (int i = 0; i < 4; i++) {
            double sum = 0;
            for (int p = 0; p < 6; p++) sum += a.at(i, p) * b.at(p, j);
            same = same && apart.at(i, j) == sum && listed.at(i, j) == sum;
        }
    }
    CHECK(same);

    Matrix<float> x(6, 1, 0, 1), y(4, 1, 0, 2);
    const auto first_y = y.at(3, 0);
    CHECK(!cublasSgemv(handle, CUBLAS_OP_N, 4, 6, &one, a.data, 4, x.data, 1, &one, y.data, -1));
    double sum = first_y;  // y is gone through from its end
    for (int p = 0; p < 6; p++) sum += a.at(0, p) * x.at(p, 0);
    CHECK(y.at(3, 0) == sum);
    float dot = 0;
    CHECK(!cublasSdot(handle, 3, x.data, 2, x.data, 2, &dot));
    CHECK(dot == x.at(0, 0) * x.at(0, 0) + x.at(2, 0) * x.at(2, 0) + x.at(4, 0) * x.at(4, 0));

    CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 6, &one, a.data, 3, b.data, 6, &zero,
                      apart.data, 4) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(cublasSgemm(nullptr, CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 6, &one, a.data, 4, b.data, 6, &zero,
                      apart.data, 4) == CUBLAS_STATUS_NOT_INITIALIZED);
    taken();
    float host[24] = {};
    CHECK(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 6, &one, host, 4, b.data, 6, &zero,
                      apart.data, 4) == CUBLAS_STATUS_EXECUTION_FAILED);
    CHECK(taken() == "reached default;cublasSgemm argument 1;");
    CHECK(!std::strcmp(cublasGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED),
                       "CUBLAS_STATUS_NOT_SUPPORTED"));
    cublasDestroy(handle);
}

int main() {
    errors();
    device();
    occupancy();
    copies();
    streams_and_events();
    launches();
    products();
    std::printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}
