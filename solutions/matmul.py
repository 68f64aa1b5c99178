"""Matrix product: one tiled kernel, read plainly for the forward and transposed for the backward.

    C = A B        dA = dC B^T        dB = A^T dC

A block of 16 x 16 threads computes a tile of 128 x 128 elements of C, 8 x 8 per thread in
registers, walking along the inner dimension in steps of 8 through shared memory:

               8              128                    a thread's 8 columns: two runs of four,
            +----+         +-------+                 so that a warp reads shared memory
        128 | A  |  x    8 |   B   |                 in 16-byte pieces without conflicts
            |    |         +-------+
            +----+

While a step is multiplied, the next one is already on its way from global memory to registers.
Both tiles lie in shared memory with the inner index outermost, whichever way the operand lies in
global memory: a transposed operand only changes which index runs fastest over the threads that
load it, so that all reads are coalesced.

A float32 sum is kept short: after every 512 terms the registers are added to C and start again
at zero, which holds the rounding error of long sums down.

Does not: use tensor cores (TF32 is forbidden here), split the inner dimension over blocks (small
outputs with a long inner dimension are slow), batch, or take half precision.
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
torch::Tensor tiled_matmul(
    const torch::Tensor& a, const torch::Tensor& b, bool transpose_a, bool transpose_b);
"""

cuda_source = r"""
#include <torch/types.h>

#include <algorithm>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr int kSide = 16;                // A block is kSide x kSide threads.
constexpr int kThreads = kSide * kSide;
constexpr int kPerThread = 8;            // Rows, and columns, of a thread's share of the tile.
constexpr int kTile = kSide * kPerThread;
constexpr int kStep = 8;                 // Inner indices per step.
constexpr int kRun = 512;                // Inner indices until the registers are added to C.
constexpr int kVector = 4;               // A thread's rows (columns) lie in runs of four.
constexpr int kPadding = 4;              // Spreads a tile's columns over the memory banks.
constexpr int kLoads = kTile * kStep / kThreads;
constexpr int64_t kMaxBlocks = 1 << 20;  // Beyond this the loop over tiles takes over.

// The position within the tile of a thread's i-th row (column).
__device__ __forceinline__ int tile_position(int thread, int i) {
  return i / kVector * (kSide * kVector) + thread * kVector + i % kVector;
}

// One operand: element (line, inner), where a line is a row of A or a column of B.
// kInnerFastest says which of the two indices is contiguous in memory.
template <typename scalar_t, bool kInnerFastest>
struct Operand {
  const scalar_t* data;
  int64_t lines, inner_size;

  // The i-th element that thread `thread` carries from global to shared memory.
  static __device__ int load_line(int thread, int i) {
    return kInnerFastest ? thread / kStep + i * (kThreads / kStep) : thread % kTile;
  }
  static __device__ int load_inner(int thread, int i) {
    return kInnerFastest ? thread % kStep : thread / kTile + i * (kThreads / kTile);
  }

  __device__ void fetch(
      scalar_t (&staged)[kLoads],
      int thread,
      int64_t first_line,
      int64_t first_inner,
      int64_t last_inner) const {
    const int lines_left = static_cast<int>(min(lines - first_line, int64_t(kTile)));
    const int inner_left = static_cast<int>(min(last_inner - first_inner, int64_t(kStep)));
    const scalar_t* corner = data +
        (kInnerFastest ? first_line * inner_size + first_inner : first_inner * lines + first_line);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int line = load_line(thread, i), inner = load_inner(thread, i);
      const int64_t at = kInnerFastest ? line * inner_size + inner : inner * lines + line;
      staged[i] = line < lines_left && inner < inner_left ? corner[at] : scalar_t(0);
    }
  }

  static __device__ void store(
      const scalar_t (&staged)[kLoads], scalar_t (&tile)[kStep][kTile + kPadding], int thread) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      tile[load_inner(thread, i)][load_line(thread, i)] = staged[i];
    }
  }
};

template <typename scalar_t, bool kAInnerFastest, bool kBInnerFastest>
__global__ void __launch_bounds__(kThreads, sizeof(scalar_t) == sizeof(float) ? 2 : 1)
tiled_matmul_kernel(
    const Operand<scalar_t, kAInnerFastest> a,
    const Operand<scalar_t, kBInnerFastest> b,
    scalar_t* __restrict__ c) {
  alignas(16) __shared__ scalar_t a_tile[kStep][kTile + kPadding];
  alignas(16) __shared__ scalar_t b_tile[kStep][kTile + kPadding];
  const int thread = threadIdx.x;
  const int thread_row = thread / kSide, thread_column = thread % kSide;
  const int64_t rows = a.lines, columns = b.lines;
  const int64_t tiles_across = (columns + kTile - 1) / kTile;
  const int64_t tiles = (rows + kTile - 1) / kTile * tiles_across;

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t first_row = tile / tiles_across * kTile;
    const int64_t first_column = tile % tiles_across * kTile;
    const int rows_left = static_cast<int>(min(rows - first_row, int64_t(kTile)));
    const int columns_left = static_cast<int>(min(columns - first_column, int64_t(kTile)));
    scalar_t* c_tile = c + first_row * columns + first_column;

    for (int64_t run = 0; run < a.inner_size; run += kRun) {
      const int64_t run_end = min(run + kRun, a.inner_size);
      scalar_t sums[kPerThread][kPerThread] = {};
      scalar_t a_staged[kLoads], b_staged[kLoads];
      a.fetch(a_staged, thread, first_row, run, run_end);
      b.fetch(b_staged, thread, first_column, run, run_end);

      for (int64_t step = run; step < run_end; step += kStep) {
        a.store(a_staged, a_tile, thread);
        b.store(b_staged, b_tile, thread);
        __syncthreads();
        a.fetch(a_staged, thread, first_row, step + kStep, run_end);
        b.fetch(b_staged, thread, first_column, step + kStep, run_end);

#pragma unroll
        for (int inner = 0; inner < kStep; ++inner) {
          scalar_t a_part[kPerThread], b_part[kPerThread];
#pragma unroll
          for (int i = 0; i < kPerThread; ++i) {
            a_part[i] = a_tile[inner][tile_position(thread_row, i)];
            b_part[i] = b_tile[inner][tile_position(thread_column, i)];
          }
#pragma unroll
          for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
            for (int j = 0; j < kPerThread; ++j) {
              sums[i][j] += a_part[i] * b_part[j];
            }
          }
        }
        __syncthreads();
      }

#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int row = tile_position(thread_row, i);
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) {
          const int column = tile_position(thread_column, j);
          if (row < rows_left && column < columns_left) {
            scalar_t& element = c_tile[row * columns + column];
            element = run == 0 ? sums[i][j] : element + sums[i][j];
          }
        }
      }
    }
  }
}

template <typename scalar_t, bool kAInnerFastest, bool kBInnerFastest>
void launch_tiled_matmul(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& c) {
  const int64_t inner_size = kAInnerFastest ? a.size(1) : a.size(0);
  const int64_t tiles = (c.size(0) + kTile - 1) / kTile * ((c.size(1) + kTile - 1) / kTile);
  const int blocks = static_cast<int>(std::min(tiles, kMaxBlocks));
  const Operand<scalar_t, kAInnerFastest> rows_of_a{
      a.data_ptr<scalar_t>(), c.size(0), inner_size};
  const Operand<scalar_t, kBInnerFastest> columns_of_b{
      b.data_ptr<scalar_t>(), c.size(1), inner_size};
  tiled_matmul_kernel<scalar_t, kAInnerFastest, kBInnerFastest>
      <<<blocks, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
          rows_of_a, columns_of_b, c.data_ptr<scalar_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace

// The product of two matrices, either of which may be given as its transpose.
torch::Tensor tiled_matmul(
    const torch::Tensor& a, const torch::Tensor& b, bool transpose_a, bool transpose_b) {
  TORCH_CHECK(a.is_cuda() && b.is_cuda(), "matmul: inputs must be CUDA tensors");
  TORCH_CHECK(a.device() == b.device(), "matmul: inputs are on different devices");
  TORCH_CHECK(a.scalar_type() == b.scalar_type(), "matmul: dtypes differ");
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2, "matmul: inputs must be matrices");
  const int64_t rows = a.size(transpose_a ? 1 : 0), columns = b.size(transpose_b ? 0 : 1);
  const int64_t inner_size = a.size(transpose_a ? 0 : 1);
  TORCH_CHECK(
      inner_size == b.size(transpose_b ? 1 : 0), "matmul: inner dimensions differ: ",
      inner_size, " and ", b.size(transpose_b ? 1 : 0));
  const c10::cuda::CUDAGuard guard(a.device());
  if (rows == 0 || columns == 0 || inner_size == 0) {
    return torch::zeros({rows, columns}, a.options());
  }
  const auto a_dense = a.contiguous();
  const auto b_dense = b.contiguous();
  auto c = torch::empty({rows, columns}, a.options());
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "tiled_matmul", [&] {
    if (transpose_a && transpose_b) {
      launch_tiled_matmul<scalar_t, false, true>(a_dense, b_dense, c);
    } else if (transpose_a) {
      launch_tiled_matmul<scalar_t, false, false>(a_dense, b_dense, c);
    } else if (transpose_b) {
      launch_tiled_matmul<scalar_t, true, true>(a_dense, b_dense, c);
    } else {
      launch_tiled_matmul<scalar_t, true, false>(a_dense, b_dense, c);
    }
  });
  return c;
}
"""

matmul_extension = load_inline(
    name="matmul_solution",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["tiled_matmul"],
)


class MatmulFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(A, B)
        return matmul_extension.tiled_matmul(A, B, False, False)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        A, B = ctx.saved_tensors
        grad_A = grad_B = None
        if ctx.needs_input_grad[0]:
            grad_A = matmul_extension.tiled_matmul(grad_output, B, False, True)
        if ctx.needs_input_grad[1]:
            grad_B = matmul_extension.tiled_matmul(A, grad_output, True, False)
        return grad_A, grad_B


class ModelNew(nn.Module):
    """Multiplies two matrices."""

    def __init__(self):
        super().__init__()

    def forward(self, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        """
        Args:
            A: Matrix of shape (M, K).
            B: Matrix of shape (K, N).

        Returns:
            Matrix of shape (M, N).
        """
        return MatmulFunction.apply(A, B)
