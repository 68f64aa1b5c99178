"""ReLU on a stream that Python makes once per device: it waits for the current stream, the current
stream waits for it, and the allocator is told who uses which tensor.

gallery: side_stream_joined
emulated: passed
h100: passed
"""

import functools

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
void rectify(const torch::Tensor& x, const torch::Tensor& y);
void gate(const torch::Tensor& grad, const torch::Tensor& y, const torch::Tensor& grad_x);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

__global__ void rectify_kernel(const float* x, float* y, int64_t elements) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < elements) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

__global__ void gate_kernel(const float* grad, const float* y, float* grad_x, int64_t elements) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < elements) grad_x[i] = y[i] <= 0.0f ? 0.0f : grad[i];
}

void rectify(const torch::Tensor& x, const torch::Tensor& y) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t elements = x.numel();
  rectify_kernel<<<(elements + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
      x.data_ptr<float>(), y.data_ptr<float>(), elements);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void gate(const torch::Tensor& grad, const torch::Tensor& y, const torch::Tensor& grad_x) {
  const c10::cuda::CUDAGuard guard(y.device());
  const int64_t elements = y.numel();
  gate_kernel<<<(elements + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad.data_ptr<float>(), y.data_ptr<float>(), grad_x.data_ptr<float>(), elements);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}
"""

extension = load_inline(
    name="relu_python_side_stream",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["rectify", "gate"],
)


@functools.cache
def stream_beside(device: torch.device) -> torch.cuda.Stream:
    """One further stream of a device."""
    return torch.cuda.Stream(device, priority=-1)


def run_beside(launch, *inputs: torch.Tensor) -> torch.Tensor:
    """Launch on the stream beside the current one, for an output like the first input."""
    output = torch.empty_like(inputs[0])
    if output.numel() == 0:
        return output
    current = torch.cuda.current_stream(output.device)
    beside = stream_beside(output.device)
    beside.wait_stream(current)
    with torch.cuda.stream(beside):
        launch(*inputs, output)
    for tensor in (*inputs, output):
        tensor.record_stream(beside)
    finished = torch.cuda.Event()
    finished.record(beside)
    current.wait_event(finished)
    return output


class ReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = run_beside(extension.rectify, x.contiguous())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad_output):
        return run_beside(extension.gate, grad_output.contiguous(), *ctx.saved_tensors)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReLUFunction.apply(x)
