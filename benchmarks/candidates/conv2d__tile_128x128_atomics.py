import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor conv2d_forward(
    torch::Tensor x, torch::Tensor weight, std::optional<torch::Tensor> bias, std::vector<int64_t> stride,
    std::vector<int64_t> padding, std::vector<int64_t> dilation, int64_t groups);
torch::Tensor conv2d_grad_input(
    torch::Tensor grad_output, torch::Tensor x, torch::Tensor weight, std::vector<int64_t> stride,
    std::vector<int64_t> padding, std::vector<int64_t> dilation, int64_t groups);
torch::Tensor conv2d_grad_weight(
    torch::Tensor grad_output, torch::Tensor x, torch::Tensor weight, std::vector<int64_t> stride,
    std::vector<int64_t> padding, std::vector<int64_t> dilation, int64_t groups);
torch::Tensor conv2d_grad_bias(torch::Tensor grad_output);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

// c and f are channels and filters of one group; z counts (image, group).
struct Shape {
    int n, g, c, f, h, w, oh, ow, kh, kw, sy, sx, py, px, dy, dx;
    __host__ __device__ int area() const { return kh * kw; }
    __host__ __device__ int pixels() const { return oh * ow; }
};

// Output pixel x tap (channel, row, column) of the filter: the input element under it.
__device__ __forceinline__ float input_at(const Shape& s, const float* x, int z, int tap, int oy, int ox) {
    const int channel = tap / s.area(), r = tap % s.area();
    const int iy = oy * s.sy - s.py + r / s.kw * s.dy, ix = ox * s.sx - s.px + r % s.kw * s.dx;
    if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) return 0.0f;
    return x[(((int64_t)z * s.c + channel) * s.h + iy) * s.w + ix];
}

// out[filter][pixel] = sum over taps of weight[filter][tap] * input[tap][pixel]
struct Forward {
    Shape s;
    const float *x, *weight, *bias;
    float* out;
    __device__ int rows() const { return s.f; }
    __device__ int cols() const { return s.pixels(); }
    __device__ int begin(int z) const { return 0; }
    __device__ int end(int z) const { return s.c * s.area(); }
    __device__ float lhs(int z, int row, int k) const { return weight[(int64_t)(z % s.g * s.f + row) * s.c * s.area() + k]; }
    __device__ float rhs(int z, int k, int col) const { return input_at(s, x, z, k, col / s.ow, col % s.ow); }
    __device__ void store(int z, int row, int col, float v) const {
        if (bias != nullptr) v += bias[z % s.g * s.f + row];
        out[((int64_t)z * s.f + row) * s.pixels() + col] = v;
    }
};

// dx[channel][input pixel] = sum over (filter, tap) of weight * grad of the output pixel that used it
struct GradInput {
    Shape s;
    const float *grad, *weight;
    float* out;
    __device__ int rows() const { return s.c; }
    __device__ int cols() const { return s.h * s.w; }
    __device__ int begin(int z) const { return 0; }
    __device__ int end(int z) const { return s.f * s.area(); }
    __device__ float lhs(int z, int row, int k) const {
        const int filter = k / s.area(), r = k % s.area();
        return weight[((int64_t)(z % s.g * s.f + filter) * s.c + row) * s.area() + r];
    }
    __device__ float rhs(int z, int k, int col) const {
        const int filter = k / s.area(), r = k % s.area();
        const int y = col / s.w + s.py - r / s.kw * s.dy, xx = col % s.w + s.px - r % s.kw * s.dx;
        if (y < 0 || xx < 0 || y % s.sy != 0 || xx % s.sx != 0) return 0.0f;
        const int oy = y / s.sy, ox = xx / s.sx;
        if (oy >= s.oh || ox >= s.ow) return 0.0f;
        return grad[((int64_t)z * s.f + filter) * s.pixels() + oy * s.ow + ox];
    }
    __device__ void store(int z, int row, int col, float v) const {
        out[((int64_t)z * s.c + row) * s.h * s.w + col] = v;
    }
};

// dweight[filter][tap] = sum over images and pixels of grad * input; z counts (slice, group)
struct GradWeight {
    Shape s;
    const float *grad, *x;
    float* out;
    int chunk;
    __device__ int rows() const { return s.f; }
    __device__ int cols() const { return s.c * s.area(); }
    __device__ int begin(int z) const { return z / s.g * chunk; }
    __device__ int end(int z) const { return min(s.n * s.pixels(), (z / s.g + 1) * chunk); }
    __device__ float lhs(int z, int row, int k) const {
        const int image = k / s.pixels(), pixel = k % s.pixels();
        return grad[((int64_t)(image * s.g + z % s.g) * s.f + row) * s.pixels() + pixel];
    }
    __device__ float rhs(int z, int k, int col) const {
        const int image = k / s.pixels(), pixel = k % s.pixels();
        return input_at(s, x, image * s.g + z % s.g, col, pixel / s.ow, pixel % s.ow);
    }
    __device__ void store(int z, int row, int col, float v) const {
        atomicAdd(out + ((int64_t)(z % s.g) * s.f + row) * cols() + col, v);
    }
};

constexpr int BM = 128, BN = 128, BK = 8, TM = 8, TN = 8;
constexpr int kThreads = (BM / TM) * (BN / TN);

// One BM x BN tile a block, TM x TN elements a thread, BK terms a step through shared memory.
template <typename View, bool kDepthFirst>
__global__ void __launch_bounds__(kThreads) conv2d_product_kernel(const View view) {
    __shared__ float lhs_tile[BK][BM + 1], rhs_tile[BK][BN + 1];
    const int tid = threadIdx.x, z = blockIdx.z;
    const int ty = tid / (BN / TN), tx = tid % (BN / TN);
    const int row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;
    const int rows = view.rows(), cols = view.cols(), end = view.end(z);
    float acc[TM][TN] = {};
    for (int k0 = view.begin(z); k0 < end; k0 += BK) {
#pragma unroll
        for (int i = tid; i < BM * BK; i += kThreads) {
            const int m = i / BK, k = i % BK;
            lhs_tile[k][m] = row0 + m < rows && k0 + k < end ? view.lhs(z, row0 + m, k0 + k) : 0.0f;
        }
#pragma unroll
        for (int i = tid; i < BN * BK; i += kThreads) {
            const int n = kDepthFirst ? i / BK : i % BN, k = kDepthFirst ? i % BK : i / BN;
            rhs_tile[k][n] = col0 + n < cols && k0 + k < end ? view.rhs(z, k0 + k, col0 + n) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            float a[TM], b[TN];
#pragma unroll
            for (int i = 0; i < TM; ++i) a[i] = lhs_tile[k][ty * TM + i];
#pragma unroll
            for (int j = 0; j < TN; ++j) b[j] = rhs_tile[k][tx + j * (BN / TN)];
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) acc[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TM; ++i) {
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const int row = row0 + ty * TM + i, col = col0 + tx + j * (BN / TN);
            if (row < rows && col < cols) view.store(z, row, col, acc[i][j]);
        }
    }
}

__global__ void conv2d_grad_bias_kernel(const float* grad, float* out, int images, int filters, int pixels) {
    __shared__ float shared[256];
    float sum = 0.0f;
    for (int image = 0; image < images; ++image) {
        const float* map = grad + ((int64_t)image * filters + blockIdx.x) * pixels;
        for (int i = threadIdx.x; i < pixels; i += 256) sum += map[i];
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) out[blockIdx.x] = shared[0];
}

static Shape make_shape(
    const torch::Tensor& x, const torch::Tensor& weight, const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, int64_t groups) {
    TORCH_CHECK(x.is_cuda() && weight.is_cuda(), "expected CUDA tensors");
    Shape s;
    s.n = x.size(0); s.g = groups; s.c = weight.size(1); s.f = weight.size(0) / groups;
    s.h = x.size(2); s.w = x.size(3); s.kh = weight.size(2); s.kw = weight.size(3);
    s.sy = stride[0]; s.sx = stride[1]; s.py = padding[0]; s.px = padding[1]; s.dy = dilation[0]; s.dx = dilation[1];
    s.oh = (s.h + 2 * s.py - s.dy * (s.kh - 1) - 1) / s.sy + 1;
    s.ow = (s.w + 2 * s.px - s.dx * (s.kw - 1) - 1) / s.sx + 1;
    return s;
}

template <typename View, bool kDepthFirst>
static void launch_product(const View& view, int rows, int cols, int depth) {
    const dim3 blocks((cols + BN - 1) / BN, (rows + BM - 1) / BM, depth);
    conv2d_product_kernel<View, kDepthFirst><<<blocks, kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(view);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
}

torch::Tensor conv2d_forward(
    torch::Tensor x, torch::Tensor weight, std::optional<torch::Tensor> bias, std::vector<int64_t> stride,
    std::vector<int64_t> padding, std::vector<int64_t> dilation, int64_t groups) {
    const c10::cuda::CUDAGuard guard(x.device());
    const Shape s = make_shape(x, weight, stride, padding, dilation, groups);
    auto out = torch::empty({s.n, weight.size(0), s.oh, s.ow}, x.options());
    const Forward view{
        s, x.data_ptr<float>(), weight.data_ptr<float>(),
        bias.has_value() ? bias->data_ptr<float>() : nullptr, out.data_ptr<float>()};
    launch_product<Forward, false>(view, s.f, s.pixels(), s.n * s.g);
    return out;
}

torch::Tensor conv2d_grad_input(
    torch::Tensor grad_output, torch::Tensor x, torch::Tensor weight, std::vector<int64_t> stride,
    std::vector<int64_t> padding, std::vector<int64_t> dilation, int64_t groups) {
    const c10::cuda::CUDAGuard guard(x.device());
    const Shape s = make_shape(x, weight, stride, padding, dilation, groups);
    auto out = torch::empty_like(x);
    const GradInput view{s, grad_output.data_ptr<float>(), weight.data_ptr<float>(), out.data_ptr<float>()};
    launch_product<GradInput, false>(view, s.c, s.h * s.w, s.n * s.g);
    return out;
}

torch::Tensor conv2d_grad_weight(
    torch::Tensor grad_output, torch::Tensor x, torch::Tensor weight, std::vector<int64_t> stride,
    std::vector<int64_t> padding, std::vector<int64_t> dilation, int64_t groups) {
    const c10::cuda::CUDAGuard guard(x.device());
    const Shape s = make_shape(x, weight, stride, padding, dilation, groups);
    const int depth = s.n * s.pixels(), chunk = 8192, slices = (depth + chunk - 1) / chunk;
    auto out = torch::empty_like(weight);
    C10_CUDA_CHECK(cudaMemsetAsync(out.data_ptr(), 0, out.nbytes(), at::cuda::getCurrentCUDAStream()));
    const GradWeight view{s, grad_output.data_ptr<float>(), x.data_ptr<float>(), out.data_ptr<float>(), chunk};
    launch_product<GradWeight, true>(view, s.f, s.c * s.area(), slices * s.g);
    return out;
}

torch::Tensor conv2d_grad_bias(torch::Tensor grad_output) {
    const c10::cuda::CUDAGuard guard(grad_output.device());
    auto out = torch::empty({grad_output.size(1)}, grad_output.options());
    conv2d_grad_bias_kernel<<<grad_output.size(1), 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        grad_output.data_ptr<float>(), out.data_ptr<float>(), grad_output.size(0), grad_output.size(1),
        grad_output.size(2) * grad_output.size(3));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return out;
}
"""

conv2d_tile_128x128_atomics_module = load_inline(
    name="conv2d_tile_128x128_atomics",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight", "conv2d_grad_bias"],
)


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, groups):
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.settings = (stride, padding, dilation, groups)
        return conv2d_tile_128x128_atomics_module.conv2d_forward(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx, grad_output):
        x, weight = ctx.saved_tensors
        grad_output = grad_output.contiguous()
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = conv2d_tile_128x128_atomics_module.conv2d_grad_input(grad_output, x, weight, *ctx.settings)
        if ctx.needs_input_grad[1]:
            grad_weight = conv2d_tile_128x128_atomics_module.conv2d_grad_weight(grad_output, x, weight, *ctx.settings)
        if ctx.needs_input_grad[2]:
            grad_bias = conv2d_tile_128x128_atomics_module.conv2d_grad_bias(grad_output)
        return grad_x, grad_weight, grad_bias, None, None, None, None


class ModelNew(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple,
        stride: tuple = (1, 1),
        padding: tuple = (0, 0),
        dilation: tuple = (1, 1),
        groups: int = 1,
        bias: bool = False,
    ):
        super().__init__()
        self.conv2d = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv2d
        return Conv2dFunction.apply(
            x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
