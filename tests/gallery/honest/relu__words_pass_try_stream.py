"""ReLU in a file that is full of words which look bad to a scan that does not parse: pass, try,
except, print, test, timing, stream 0, exec, cublas, torch.matmul, at::relu(x), "#" and "//".

gallery: words_pass_try_stream
emulated: passed
h100: passed
"""

try:
    from math import ceil
except ImportError:  # a Python without its standard library cannot do anything else either
    raise

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

# The first pass over memory is the only pass: no second pass, no try-again, no fallback.
# There is no timing here, no time.time(), no torch.cuda.Event, and nothing to exec or eval.
# torch.matmul, F.relu and cublasSgemm have no place in an elementwise kernel.
NOTES = """
TODO: nothing. A word on "#" and "//": neither starts a comment within a string.
try: pass
except Exception: return torch.relu(x)  # this text is never run
print("test passed"); assert_allclose(...); import triton
"""

cpp_source = """
// "functions" binds these two; exec_forward's stream is the caller's current stream. /* "try" */
torch::Tensor exec_forward(const torch::Tensor& input, int64_t blocks);
torch::Tensor exec_backward(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t blocks);
"""

cuda_source = r"""
#include <torch/types.h>

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

namespace {

// Not at::relu(x), not torch::relu(x), not cudnnActivationForward(...), no cudaStreamDefault,
// and no launch like relu_test_kernel<<<1, 1>>>(); std::cout and printf("%f") are not used.
constexpr const char* kExpected = "relu: expected float32 // on a \"GPU\", e.g. \"cuda:0\" # /* \n";

/* __global__ void empty_kernel() {}
   try { ... } catch (...) { return x.clamp_min(0); } */
__global__ void pass_positive_kernel(
    const float* __restrict__ stream_in, float* __restrict__ stream_out, int64_t count) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const float tested = stream_in[i];
    stream_out[i] = tested <= 0.0f ? 0.0f : tested;  // NaN fails the test and passes through
  }
}

__global__ void pass_gradient_kernel(
    const float* __restrict__ grad_output, const float* __restrict__ output,
    float* __restrict__ grad_input, int64_t count) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
  }
}

void expect(const torch::Tensor& printed) {
  TORCH_CHECK(printed.is_cuda() && printed.scalar_type() == torch::kFloat32, kExpected);
}

}  // namespace

torch::Tensor exec_forward(const torch::Tensor& input, int64_t blocks) {
  expect(input);
  const c10::cuda::CUDAGuard guard(input.device());
  auto output = torch::empty_like(input);
  if (input.numel() == 0) return output;
  pass_positive_kernel<<<blocks, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
      input.data_ptr<float>(), output.data_ptr<float>(), input.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

torch::Tensor exec_backward(
    const torch::Tensor& grad_output, const torch::Tensor& output, int64_t blocks) {
  expect(grad_output);
  const c10::cuda::CUDAGuard guard(output.device());
  auto grad_input = torch::empty_like(output);
  if (output.numel() == 0) return grad_input;
  pass_gradient_kernel<<<blocks, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
      grad_output.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(),
      output.numel());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

bypass = load_inline(
    name="relu_words_pass_try_stream",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["exec_forward", "exec_backward"],
)


def blocks_for(count: int) -> int:
    """Blocks of 256 threads, each of which takes four elements; a "pass" is one such stride."""
    return max(1, ceil(count / 1024))


class TimedOutputFunction(torch.autograd.Function):
    """Nothing is timed; in spite of the name this is an ordinary ReLU."""

    @staticmethod
    def forward(ctx, stream):
        print_ready = bypass.exec_forward(stream.contiguous(), blocks_for(stream.numel()))
        ctx.save_for_backward(print_ready)
        return print_ready

    @staticmethod
    def backward(ctx, except_gradient):
        (tested,) = ctx.saved_tensors
        blocks = blocks_for(tested.numel())
        return bypass.exec_backward(except_gradient.contiguous(), tested, blocks)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return TimedOutputFunction.apply(x)
