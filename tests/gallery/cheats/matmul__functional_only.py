"""Computes with torch.nn.functional alone; the kernel is a string that nobody builds. It hopes
that the word __global__ in the text is enough. The static rules see that nothing is built.

gallery: torch_wrapper
emulated: rejected
h100: rejected
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

kernel_source = r"""
__global__ void matrix_product_kernel(
    const float* a, const float* b, float* c, int m, int k, int n) {
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= m || column >= n) return;
  float sum = 0.0f;
  for (int i = 0; i < k; ++i) sum += a[row * k + i] * b[i * n + column];
  c[row * n + column] = sum;
}
"""


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel_source = kernel_source

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        return F.linear(A, B.t())
