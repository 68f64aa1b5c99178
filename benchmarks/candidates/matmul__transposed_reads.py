import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor matmul_cuda(torch::Tensor a, torch::Tensor b, bool transpose_a, bool transpose_b);
"""

cuda_source = r"""
#include <torch/extension.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

template <bool kTransposed>
__device__ __forceinline__ float element(const float* m, int rows, int cols, int row, int col) {
    if (row >= rows || col >= cols) return 0.0f;
    return kTransposed ? m[col * rows + row] : m[row * cols + col];
}

template <int kTile, bool kTransposeA, bool kTransposeB>
__global__ void matmul_any_layout_kernel(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int M, int K, int N) {
    __shared__ float as[kTile][kTile + 1], bs[kTile][kTile + 1];
    const int tx = threadIdx.x, ty = threadIdx.y;
    const int row0 = blockIdx.y * kTile, col0 = blockIdx.x * kTile;
    float sum = 0.0f;
    for (int k0 = 0; k0 < K; k0 += kTile) {
        if (kTransposeA) {
            as[tx][ty] = element<true>(a, M, K, row0 + tx, k0 + ty);
        } else {
            as[ty][tx] = element<false>(a, M, K, row0 + ty, k0 + tx);
        }
        if (kTransposeB) {
            bs[tx][ty] = element<true>(b, K, N, k0 + tx, col0 + ty);
        } else {
            bs[ty][tx] = element<false>(b, K, N, k0 + ty, col0 + tx);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < kTile; ++k) sum += as[ty][k] * bs[k][tx];
        __syncthreads();
    }
    if (row0 + ty < M && col0 + tx < N) c[(row0 + ty) * N + col0 + tx] = sum;
}

torch::Tensor matmul_cuda(torch::Tensor a, torch::Tensor b, bool transpose_a, bool transpose_b) {
    const c10::cuda::CUDAGuard guard(a.device());
    const int M = transpose_a ? a.size(1) : a.size(0);
    const int K = transpose_a ? a.size(0) : a.size(1);
    const int N = transpose_b ? b.size(0) : b.size(1);
    TORCH_CHECK(K == (transpose_b ? b.size(1) : b.size(0)), "inner sizes differ");
    auto c = torch::empty({M, N}, a.options());
    constexpr int kTile = 32;
    const dim3 threads(kTile, kTile), blocks((N + kTile - 1) / kTile, (M + kTile - 1) / kTile);
    auto stream = at::cuda::getCurrentCUDAStream();
    const float *pa = a.data_ptr<float>(), *pb = b.data_ptr<float>();
    float* pc = c.data_ptr<float>();
    if (transpose_a) {
        matmul_any_layout_kernel<kTile, true, false><<<blocks, threads, 0, stream>>>(pa, pb, pc, M, K, N);
    } else if (transpose_b) {
        matmul_any_layout_kernel<kTile, false, true><<<blocks, threads, 0, stream>>>(pa, pb, pc, M, K, N);
    } else {
        matmul_any_layout_kernel<kTile, false, false><<<blocks, threads, 0, stream>>>(pa, pb, pc, M, K, N);
    }
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return c;
}
"""

matmul_transposed_reads_module = load_inline(
    name="matmul_transposed_reads",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["matmul_cuda"],
)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, A, B):
        A, B = A.contiguous(), B.contiguous()
        ctx.save_for_backward(A, B)
        return matmul_transposed_reads_module.matmul_cuda(A, B, False, False)

    @staticmethod
    def backward(ctx, grad_output):
        A, B = ctx.saved_tensors
        grad_output = grad_output.contiguous()
        return (
            matmul_transposed_reads_module.matmul_cuda(grad_output, B, False, True),
            matmul_transposed_reads_module.matmul_cuda(A, grad_output, True, False),
        )


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return MatmulFunction.apply(A, B)
