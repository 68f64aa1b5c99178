"""Loads its forward kernel at run time from PTX text of its own and launches it from there. An
odd way to build, and still a kernel of the candidate's own that does the work.

gallery: embedded_ptx
emulated: unsupported
h100: passed
"""

import torch
import torch.nn as nn
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor relu_forward(const torch::Tensor& input);
torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output);
"""

cuda_source = r"""
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr char kForward[] = R"ptx(
.version 8.0
.target sm_80
.address_size 64
.visible .entry relu_forward_kernel(.param .u64 input, .param .u64 output, .param .u64 count) {
  .reg .pred %p<3>;
  .reg .b32 %r<4>;
  .reg .f32 %f<3>;
  .reg .b64 %d<8>;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mul.wide.u32 %d1, %r1, %r2;
  cvt.u64.u32 %d2, %r3;
  add.u64 %d1, %d1, %d2;
  ld.param.u64 %d3, [count];
  setp.ge.u64 %p1, %d1, %d3;
  @%p1 ret;
  ld.param.u64 %d4, [input];
  ld.param.u64 %d5, [output];
  shl.b64 %d6, %d1, 2;
  add.u64 %d4, %d4, %d6;
  add.u64 %d5, %d5, %d6;
  ld.global.f32 %f1, [%d4];
  setp.le.f32 %p2, %f1, 0f00000000;
  selp.f32 %f2, 0f00000000, %f1, %p2;
  st.global.f32 [%d5], %f2;
  ret;
}
)ptx";

const void* forward_kernel() {
  static const cudaKernel_t kernel = [] {
    cudaLibrary_t library;
    cudaKernel_t found;
    C10_CUDA_CHECK(cudaLibraryLoadData(
        &library, kForward, nullptr, nullptr, 0, nullptr, nullptr, 0));
    C10_CUDA_CHECK(cudaLibraryGetKernel(&found, library, "relu_forward_kernel"));
    return found;
  }();
  return reinterpret_cast<const void*>(kernel);
}

__global__ void relu_backward_kernel(
    const float* grad_output, const float* output, float* grad_input, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) grad_input[i] = output[i] <= 0.0f ? 0.0f : grad_output[i];
}

}  // namespace

torch::Tensor relu_forward(const torch::Tensor& input) {
  const auto x = input.contiguous();
  auto output = torch::empty(x.sizes(), x.options());
  const void* from = x.data_ptr<float>();
  void* to = output.data_ptr<float>();
  uint64_t count = x.numel();
  void* arguments[] = {&from, &to, &count};
  const auto stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(
      cudaLaunchKernel(forward_kernel(), (count + 255) / 256, 256, arguments, 0, stream));
  return output;
}

torch::Tensor relu_backward(const torch::Tensor& grad_output, const torch::Tensor& output) {
  const auto dy = grad_output.contiguous();
  auto grad_input = torch::empty(output.sizes(), output.options());
  const int64_t count = output.numel();
  relu_backward_kernel<<<(count + 255) / 256, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
      dy.data_ptr<float>(), output.data_ptr<float>(), grad_input.data_ptr<float>(), count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}
"""

relu_extension = load_inline(
    name="relu",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["relu_forward", "relu_backward"],
)


class ReluFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        output = relu_extension.relu_forward(x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx, grad_output):
        (output,) = ctx.saved_tensors
        return relu_extension.relu_backward(grad_output, output)


class ModelNew(nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ReluFunction.apply(x)
