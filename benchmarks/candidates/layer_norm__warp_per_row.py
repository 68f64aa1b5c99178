import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_forward(torch::Tensor x, torch::Tensor weight, torch::Tensor bias, double eps);
std::vector<torch::Tensor> layer_norm_backward(
    torch::Tensor grad_output, torch::Tensor x, torch::Tensor weight, torch::Tensor mean, torch::Tensor rstd);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#define THREADS 128

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffff, v, d);
    return v;
}

__global__ void layer_norm_forward_warp_kernel(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ b,
    float* __restrict__ y, float* __restrict__ mean, float* __restrict__ rstd, int64_t cols, float eps, int64_t rows) {
    const int64_t r = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (r >= rows) return;
    const float* row = x + r * cols;
    float sum = 0.0f;
    for (int64_t i = lane; i < cols; i += 32) sum += row[i];
    const float mu = warp_sum(sum) / cols;
    float squares = 0.0f;
    for (int64_t i = lane; i < cols; i += 32) squares += (row[i] - mu) * (row[i] - mu);
    const float inverse = rsqrtf(warp_sum(squares) / cols + eps);
    for (int64_t i = lane; i < cols; i += 32) y[r * cols + i] = (row[i] - mu) * inverse * w[i] + b[i];
    if (lane == 0) {
        mean[r] = mu;
        rstd[r] = inverse;
    }
}

__global__ void layer_norm_grad_input_warp_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ w,
    const float* __restrict__ mean, const float* __restrict__ rstd, float* __restrict__ dx, int64_t cols, int64_t rows) {
    const int64_t r = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (r >= rows) return;
    const int64_t start = r * cols;
    const float mu = mean[r], inverse = rstd[r];
    float sum = 0.0f, projection = 0.0f;
    for (int64_t i = lane; i < cols; i += 32) {
        const float h = dy[start + i] * w[i];
        sum += h;
        projection += h * (x[start + i] - mu) * inverse;
    }
    sum = warp_sum(sum) / cols;
    projection = warp_sum(projection) / cols;
    for (int64_t i = lane; i < cols; i += 32) {
        dx[start + i] = inverse * (dy[start + i] * w[i] - sum - (x[start + i] - mu) * inverse * projection);
    }
}

// A block takes 32 columns; eight threads share the rows of each.
__global__ void layer_norm_grad_parameters_kernel(
    const float* __restrict__ dy, const float* __restrict__ x, const float* __restrict__ mean,
    const float* __restrict__ rstd, float* __restrict__ dw, float* __restrict__ db, int64_t rows, int64_t cols) {
    __shared__ float dws[8][33], dbs[8][33];
    const int64_t col = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float a = 0.0f, s = 0.0f;
    if (col < cols) {
        for (int64_t r = threadIdx.y; r < rows; r += 8) {
            const float g = dy[r * cols + col];
            a += g * (x[r * cols + col] - mean[r]) * rstd[r];
            s += g;
        }
    }
    dws[threadIdx.y][threadIdx.x] = a;
    dbs[threadIdx.y][threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.y == 0 && col < cols) {
        for (int i = 1; i < 8; ++i) {
            a += dws[i][threadIdx.x];
            s += dbs[i][threadIdx.x];
        }
        dw[col] = a;
        db[col] = s;
    }
}

std::vector<torch::Tensor> layer_norm_forward(torch::Tensor x, torch::Tensor weight, torch::Tensor bias, double eps) {
    TORCH_CHECK(x.is_cuda(), "x must be a CUDA tensor");
    const c10::cuda::CUDAGuard guard(x.device());
    const int64_t cols = weight.numel(), rows = x.numel() / cols;
    auto y = torch::empty_like(x);
    auto mean = torch::empty({rows}, x.options()), rstd = torch::empty({rows}, x.options());
    auto stream = at::cuda::getCurrentCUDAStream();
    layer_norm_forward_warp_kernel<<<(rows + 3) / 4, THREADS, 0, stream>>>(x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(), mean.data_ptr<float>(), rstd.data_ptr<float>(), cols, (float)eps, rows);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return {y, mean, rstd};
}

std::vector<torch::Tensor> layer_norm_backward(
    torch::Tensor grad_output, torch::Tensor x, torch::Tensor weight, torch::Tensor mean, torch::Tensor rstd) {
    const c10::cuda::CUDAGuard guard(x.device());
    const int64_t cols = weight.numel(), rows = x.numel() / cols;
    auto grad_x = torch::empty_like(x);
    auto grad_weight = torch::empty_like(weight), grad_bias = torch::empty_like(weight);
    auto stream = at::cuda::getCurrentCUDAStream();
    layer_norm_grad_input_warp_kernel<<<(rows + 3) / 4, THREADS, 0, stream>>>(grad_output.data_ptr<float>(), x.data_ptr<float>(), weight.data_ptr<float>(), mean.data_ptr<float>(), rstd.data_ptr<float>(), grad_x.data_ptr<float>(), cols, rows);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    layer_norm_grad_parameters_kernel<<<(cols + 31) / 32, dim3(32, 8), 0, stream>>>(grad_output.data_ptr<float>(), x.data_ptr<float>(), mean.data_ptr<float>(), rstd.data_ptr<float>(), grad_weight.data_ptr<float>(), grad_bias.data_ptr<float>(), rows, cols);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return {grad_x, grad_weight, grad_bias};
}
"""

layer_norm_warp_per_row_module = load_inline(
    name="layer_norm_warp_per_row",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_forward", "layer_norm_backward"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        x = x.contiguous()
        y, mean, rstd = layer_norm_warp_per_row_module.layer_norm_forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        x, weight, mean, rstd = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = layer_norm_warp_per_row_module.layer_norm_backward(
            grad_output.contiguous(), x, weight, mean, rstd
        )
        return grad_x, grad_weight, grad_bias, None


class ModelNew(nn.Module):
    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
