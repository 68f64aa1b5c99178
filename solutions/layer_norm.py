"""Layer normalisation: one block per row, and a two-pass sum over rows for weight and bias.

With x^ = (x - mean) / sqrt(variance + eps) over the `features` elements of a row:

Forward     y = x^ * weight + bias.
            Three walks over a row, the later ones served by the caches: sum; then sums of
            (x - centre) and its square, centre being the mean as far as one float can hold it;
            then the output. The second walk tells what the rounding of the centre left over, so
            rows far from zero lose nothing: no difference of large squares is ever taken.
            The mean is kept as the pair (centre, residual).
Backward    dx = rstd * (h - mean(h) - x^ * mean(h * x^)) with h = dy * weight; two walks.
Parameters  dweight = sum over rows of dy * x^, dbias = sum over rows of dy.

                32 features
              +-------------+     pass 1: a block of 32 x 8 threads adds up a slab of rows for
         slab | block       |             32 neighbouring features (coalesced), one partial
              +-------------+             sum per slab and feature
         slab | block       |     pass 2: a block of 32 x 8 threads adds up the slabs
              +-------------+

            The order of additions is fixed, so results are reproducible, and partial sums stay
            short, so float32 stays accurate.

Does not: spread a row over several blocks (a few very long rows leave the device idle), keep a
row on chip between walks, work without weight and bias, or take half precision.
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const torch::Tensor& bias,
    double eps);
torch::Tensor layer_norm_grad_input(
    const torch::Tensor& grad_output,
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const torch::Tensor& statistics);
std::vector<torch::Tensor> layer_norm_grad_parameters(
    const torch::Tensor& grad_output,
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const torch::Tensor& statistics);
"""

cuda_source = r"""
#include <torch/types.h>

#include <algorithm>
#include <vector>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr int kWarp = 32;
constexpr int kMaxRowThreads = 1024;
constexpr int kColumns = 32;             // Features that a block of the parameter sums takes,
constexpr int kLanes = 8;                // and threads that share the rows of each of them.
constexpr int64_t kRowsPerSlab = 128;
constexpr int64_t kMaxSlabs = 1024;
constexpr int64_t kMaxBlocks = 1 << 16;  // Beyond this the grid-stride loops take over.

// What the backward needs of a row. The mean is centre + residual.
template <typename scalar_t>
struct RowStatistics {
  scalar_t centre, residual, rstd;

  __device__ scalar_t normalise(scalar_t x) const {
    return ((x - centre) - residual) * rstd;
  }
};

template <typename scalar_t>
struct Pair {
  scalar_t first, second;
};

// The sum of a pair of values over all threads of a block, given to all of them.
template <typename scalar_t>
__device__ Pair<scalar_t> block_sum(Pair<scalar_t> value) {
  __shared__ scalar_t firsts[kMaxRowThreads / kWarp];
  __shared__ scalar_t seconds[kMaxRowThreads / kWarp];
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value.first += __shfl_xor_sync(0xffffffffu, value.first, distance);
    value.second += __shfl_xor_sync(0xffffffffu, value.second, distance);
  }
  __syncthreads();  // The previous call's results have been read.
  if (threadIdx.x % kWarp == 0) {
    firsts[threadIdx.x / kWarp] = value.first;
    seconds[threadIdx.x / kWarp] = value.second;
  }
  __syncthreads();
  value = {scalar_t(0), scalar_t(0)};
  for (int warp = 0; warp < blockDim.x / kWarp; ++warp) {
    value.first += firsts[warp];
    value.second += seconds[warp];
  }
  return value;
}

template <typename scalar_t>
__global__ void layer_norm_forward_kernel(
    const scalar_t* __restrict__ input,
    const scalar_t* __restrict__ weight,
    const scalar_t* __restrict__ bias,
    scalar_t* __restrict__ output,
    RowStatistics<scalar_t>* __restrict__ statistics,
    int64_t rows,
    int64_t features,
    scalar_t eps) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const scalar_t* x = input + row * features;
    scalar_t* y = output + row * features;

    Pair<scalar_t> sum{0, 0};
    for (int64_t i = threadIdx.x; i < features; i += blockDim.x) {
      sum.first += x[i];
    }
    const scalar_t centre = block_sum(sum).first / features;

    Pair<scalar_t> deviations{0, 0};
    for (int64_t i = threadIdx.x; i < features; i += blockDim.x) {
      const scalar_t deviation = x[i] - centre;
      deviations.first += deviation;
      deviations.second += deviation * deviation;
    }
    deviations = block_sum(deviations);
    const scalar_t residual = deviations.first / features;
    const scalar_t variance = deviations.second / features - residual * residual;
    const RowStatistics<scalar_t> row_statistics{
        centre, residual, scalar_t(1) / sqrt(variance + eps)};

    for (int64_t i = threadIdx.x; i < features; i += blockDim.x) {
      y[i] = row_statistics.normalise(x[i]) * weight[i] + bias[i];
    }
    if (threadIdx.x == 0) {
      statistics[row] = row_statistics;
    }
  }
}

template <typename scalar_t>
__global__ void layer_norm_grad_input_kernel(
    const scalar_t* __restrict__ grad_output,
    const scalar_t* __restrict__ input,
    const scalar_t* __restrict__ weight,
    const RowStatistics<scalar_t>* __restrict__ statistics,
    scalar_t* __restrict__ grad_input,
    int64_t rows,
    int64_t features) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const scalar_t* dy = grad_output + row * features;
    const scalar_t* x = input + row * features;
    scalar_t* dx = grad_input + row * features;
    const RowStatistics<scalar_t> row_statistics = statistics[row];

    Pair<scalar_t> sums{0, 0};
    for (int64_t i = threadIdx.x; i < features; i += blockDim.x) {
      const scalar_t h = dy[i] * weight[i];
      sums.first += h;
      sums.second += h * row_statistics.normalise(x[i]);
    }
    sums = block_sum(sums);
    const scalar_t mean_h = sums.first / features;
    const scalar_t mean_h_normalised = sums.second / features;

    for (int64_t i = threadIdx.x; i < features; i += blockDim.x) {
      const scalar_t h = dy[i] * weight[i];
      const scalar_t projection = row_statistics.normalise(x[i]) * mean_h_normalised;
      dx[i] = row_statistics.rstd * (h - mean_h - projection);
    }
  }
}

// The sum of a pair of values over the lanes (threadIdx.y) of each column, given to lane 0.
template <typename scalar_t>
__device__ Pair<scalar_t> lane_sum(Pair<scalar_t> value) {
  __shared__ Pair<scalar_t> values[kLanes][kColumns];
  const int lane = threadIdx.y, column = threadIdx.x;
  values[lane][column] = value;
  __syncthreads();
  for (int half = kLanes / 2; half > 0; half /= 2) {
    if (lane < half) {
      values[lane][column].first += values[lane + half][column].first;
      values[lane][column].second += values[lane + half][column].second;
    }
    __syncthreads();
  }
  value = values[0][column];
  __syncthreads();  // The next call writes to values.
  return value;
}

// Pass 1: partial sums [slab][feature] of (dy * x^, dy). A slab is every slabs-th run of rows.
template <typename scalar_t>
__global__ void layer_norm_parameter_slabs_kernel(
    const scalar_t* __restrict__ grad_output,
    const scalar_t* __restrict__ input,
    const RowStatistics<scalar_t>* __restrict__ statistics,
    Pair<scalar_t>* __restrict__ partial_sums,
    int64_t rows,
    int64_t features,
    int64_t slabs) {
  const int64_t tiles_across = (features + kColumns - 1) / kColumns;
  for (int64_t tile = blockIdx.x; tile < slabs * tiles_across; tile += gridDim.x) {
    const int64_t slab = tile / tiles_across;
    const int64_t feature = tile % tiles_across * kColumns + threadIdx.x;
    Pair<scalar_t> sums{0, 0};
    if (feature < features) {
      for (int64_t row = slab * kLanes + threadIdx.y; row < rows; row += slabs * kLanes) {
        const scalar_t dy = grad_output[row * features + feature];
        sums.first += dy * statistics[row].normalise(input[row * features + feature]);
        sums.second += dy;
      }
    }
    sums = lane_sum(sums);
    if (threadIdx.y == 0 && feature < features) {
      partial_sums[slab * features + feature] = sums;
    }
  }
}

// Pass 2: the sum of the partial sums of each feature.
template <typename scalar_t>
__global__ void layer_norm_parameter_sums_kernel(
    const Pair<scalar_t>* __restrict__ partial_sums,
    scalar_t* __restrict__ grad_weight,
    scalar_t* __restrict__ grad_bias,
    int64_t slabs,
    int64_t features) {
  const int64_t tiles_across = (features + kColumns - 1) / kColumns;
  for (int64_t tile = blockIdx.x; tile < tiles_across; tile += gridDim.x) {
    const int64_t feature = tile * kColumns + threadIdx.x;
    Pair<scalar_t> sums{0, 0};
    if (feature < features) {
      for (int64_t slab = threadIdx.y; slab < slabs; slab += kLanes) {
        sums.first += partial_sums[slab * features + feature].first;
        sums.second += partial_sums[slab * features + feature].second;
      }
    }
    sums = lane_sum(sums);
    if (threadIdx.y == 0 && feature < features) {
      grad_weight[feature] = sums.first;
      grad_bias[feature] = sums.second;
    }
  }
}

int block_count(int64_t blocks) {
  return static_cast<int>(std::min(blocks, kMaxBlocks));
}

// Whole warps, no more than the row can occupy with a few elements a thread.
int row_threads(int64_t features) {
  int threads = kWarp;
  while (threads < kMaxRowThreads && threads * 4 < features) {
    threads *= 2;
  }
  return threads;
}

template <typename scalar_t>
RowStatistics<scalar_t>* statistics_of(const torch::Tensor& statistics) {
  return reinterpret_cast<RowStatistics<scalar_t>*>(statistics.data_ptr<scalar_t>());
}

void check_parameter(const torch::Tensor& input, const torch::Tensor& parameter) {
  TORCH_CHECK(parameter.device() == input.device(), "layer_norm: tensors are on different devices");
  TORCH_CHECK(parameter.scalar_type() == input.scalar_type(), "layer_norm: dtypes differ");
  TORCH_CHECK(
      parameter.dim() >= 1 && parameter.dim() <= input.dim() &&
          input.sizes().slice(input.dim() - parameter.dim()) == parameter.sizes(),
      "layer_norm: input of shape ", input.sizes(), " does not end in ", parameter.sizes());
}

void check_grad_output(const torch::Tensor& grad_output, const torch::Tensor& input) {
  TORCH_CHECK(
      grad_output.device() == input.device(), "layer_norm: tensors are on different devices");
  TORCH_CHECK(grad_output.scalar_type() == input.scalar_type(), "layer_norm: dtypes differ");
  TORCH_CHECK(grad_output.sizes() == input.sizes(), "layer_norm: shapes differ");
}

}  // namespace

// Returns the output and the statistics [row][centre, residual, rstd].
std::vector<torch::Tensor> layer_norm_forward(
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const torch::Tensor& bias,
    double eps) {
  TORCH_CHECK(input.is_cuda(), "layer_norm: input must be a CUDA tensor");
  check_parameter(input, weight);
  check_parameter(input, bias);
  TORCH_CHECK(weight.sizes() == bias.sizes(), "layer_norm: weight and bias differ in shape");
  const c10::cuda::CUDAGuard guard(input.device());
  const auto x = input.contiguous(), w = weight.contiguous(), b = bias.contiguous();
  const int64_t features = w.numel();
  const int64_t rows = features == 0 ? 0 : x.numel() / features;
  auto output = torch::empty(x.sizes(), x.options());
  auto statistics = torch::empty({rows, 3}, x.options());
  if (x.numel() == 0) {
    return {output, statistics};
  }
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "layer_norm_forward", [&] {
    layer_norm_forward_kernel<scalar_t><<<
        block_count(rows), row_threads(features), 0, c10::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<scalar_t>(),
        w.data_ptr<scalar_t>(),
        b.data_ptr<scalar_t>(),
        output.data_ptr<scalar_t>(),
        statistics_of<scalar_t>(statistics),
        rows,
        features,
        static_cast<scalar_t>(eps));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {output, statistics};
}

torch::Tensor layer_norm_grad_input(
    const torch::Tensor& grad_output,
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  TORCH_CHECK(input.is_cuda(), "layer_norm: input must be a CUDA tensor");
  check_parameter(input, weight);
  check_grad_output(grad_output, input);
  const c10::cuda::CUDAGuard guard(input.device());
  const auto dy = grad_output.contiguous(), x = input.contiguous(), w = weight.contiguous();
  auto grad_input = torch::empty(x.sizes(), x.options());
  if (x.numel() == 0) {
    return grad_input;
  }
  const int64_t features = w.numel(), rows = x.numel() / features;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "layer_norm_grad_input", [&] {
    layer_norm_grad_input_kernel<scalar_t><<<
        block_count(rows), row_threads(features), 0, c10::cuda::getCurrentCUDAStream()>>>(
        dy.data_ptr<scalar_t>(),
        x.data_ptr<scalar_t>(),
        w.data_ptr<scalar_t>(),
        statistics_of<scalar_t>(statistics),
        grad_input.data_ptr<scalar_t>(),
        rows,
        features);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return grad_input;
}

// Returns the gradients of weight and bias.
std::vector<torch::Tensor> layer_norm_grad_parameters(
    const torch::Tensor& grad_output,
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const torch::Tensor& statistics) {
  TORCH_CHECK(input.is_cuda(), "layer_norm: input must be a CUDA tensor");
  check_parameter(input, weight);
  check_grad_output(grad_output, input);
  const c10::cuda::CUDAGuard guard(input.device());
  if (input.numel() == 0) {
    return {torch::zeros(weight.sizes(), weight.options()),
            torch::zeros(weight.sizes(), weight.options())};
  }
  const auto dy = grad_output.contiguous(), x = input.contiguous();
  auto grad_weight = torch::empty(weight.sizes(), weight.options());
  auto grad_bias = torch::empty(weight.sizes(), weight.options());
  const int64_t features = weight.numel(), rows = x.numel() / features;
  const int64_t slabs = std::min((rows + kRowsPerSlab - 1) / kRowsPerSlab, kMaxSlabs);
  const int64_t tiles_across = (features + kColumns - 1) / kColumns;
  auto partial_sums = torch::empty({slabs, features, 2}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "layer_norm_grad_parameters", [&] {
    const auto stream = c10::cuda::getCurrentCUDAStream();
    auto* pairs = reinterpret_cast<Pair<scalar_t>*>(partial_sums.data_ptr<scalar_t>());
    const dim3 block(kColumns, kLanes);
    layer_norm_parameter_slabs_kernel<scalar_t>
        <<<block_count(slabs * tiles_across), block, 0, stream>>>(
            dy.data_ptr<scalar_t>(),
            x.data_ptr<scalar_t>(),
            statistics_of<scalar_t>(statistics),
            pairs,
            rows,
            features,
            slabs);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    layer_norm_parameter_sums_kernel<scalar_t><<<block_count(tiles_across), block, 0, stream>>>(
        pairs,
        grad_weight.data_ptr<scalar_t>(),
        grad_bias.data_ptr<scalar_t>(),
        slabs,
        features);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {grad_weight, grad_bias};
}
"""

layer_norm_extension = load_inline(
    name="layer_norm_solution",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["layer_norm_forward", "layer_norm_grad_input", "layer_norm_grad_parameters"],
)


class LayerNormFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        output, statistics = layer_norm_extension.layer_norm_forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, statistics)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = (grad_output, *ctx.saved_tensors)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = layer_norm_extension.layer_norm_grad_input(*saved)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = layer_norm_extension.layer_norm_grad_parameters(*saved)
        return (
            grad_x,
            grad_weight if ctx.needs_input_grad[1] else None,
            grad_bias if ctx.needs_input_grad[2] else None,
            None,
        )


class ModelNew(nn.Module):
    """
    Gives every row mean 0 and variance 1, then scales and shifts each of its elements.

    Args:
        normalized_shape: The trailing dimensions that make up a row.
    """

    def __init__(self, normalized_shape: tuple):
        super().__init__()
        self.ln = nn.LayerNorm(normalized_shape=normalized_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: Tensor of shape (*, normalized_shape).

        Returns:
            Tensor of the same shape.
        """
        return LayerNormFunction.apply(x, self.ln.weight, self.ln.bias, self.ln.eps)
