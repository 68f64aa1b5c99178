r"""2D convolution: Hopper's tensor cores where they pay, a general kernel for all the rest.

    x, dy, w  --largest-->  range  --scale, round-->  packed  --wgmma-->  y, dx, dw
       \________________________________ the general kernel, if a range is too wide ____/

**Halves that are as good as TF32.** TF32 keeps 11 bits of a number, and so does a half; what a half
lacks is range. So every operand is scaled by a power of two that brings its largest element just
below 2^15, and is rounded to nearest: the tensor cores do halves twice as fast as TF32, and any 8
of them that lie side by side are an operand (of TF32, only those that lie along the depth). Where
PyTorch wants float32, an operand is the sum of two halves, and a product is three:

    x = x1 + x2,  w = w1 + w2,   x w = x1 w2 + x2 w1 + x1 w1      (x2 w2 is below float32's bits)

Elements that are 2^28 times smaller than the largest lose bits; what is lost is 2^-40 of the
largest. That is nothing to a sum in which both take part, but outputs need not see the largest. So
the range is looked at in runs of 1024 neighbours: if the largest of some run is 2^26 times smaller
than the largest of all (2^16 for pairs), or anything is infinite or NaN, the kernels for tensor
cores return at once and the general kernel, launched behind them as a stand-in, computes; else the
stand-in returns at once. No number travels to the host.

**A tap is an offset.** Packed images consist of units: 8 maps of one pixel, 16 bytes.

    maps 0-7     |p0|p1|p2|p3|p4|p5|p6|p7|p8|p9|...     8 units in a row are a core matrix of wgmma
    maps 8-15    |p0|p1|p2|p3|p4|p5|p6|p7|p8|p9|...     without swizzle; any unit may be the first:
                     [-- 8 pixels, tap 1 --]            a tap is an address and nothing else

Zeros are packed around images, so that nobody asks about edges, and a box of rows goes to shared
memory as it lies, by one instruction (cp.async.bulk.tensor). A stride is folded into the maps (see
Fold). Pixels of 1 x 1 kernels are packed as one long row. Groups are images.

**Forward and dinput** are one kernel, dinput with mirrored taps. Each of two warpgroups walks over
tiles of 64 maps x (32 rows x 8 pixels), chunks of 32 channels, and taps; two warps serve it:

    weights    --> | tap 0 | tap 1 | tap 2 | ...        a ring, filled and emptied tap by tap
                       \  wgmma m64n256k16, both operands from shared memory
    image      --> [ this chunk's patch ] [ the next ]  (32 + taps) x (8 + taps) x 32 channels

They run half a tile apart, so that one has the tensor cores while the other writes its tile.

**dweight** sums over pixels, of which a unit holds one: wgmma takes it transposed. dy comes by
ldmatrix, x straight from the same packed image: a group of 8 columns is a tap (7 or 9 taps of a row
one unit apart, up to 5 rows) or a block of channels, whichever fills the tensor cores better.
Slices of the pixels go to different blocks and are added up in double, in a fixed order.

**Ampere and Ada** (and whatever else is not Hopper) do the same with mma.sync: a core matrix is
what ldmatrix reads. Eight warps of a block copy by themselves and multiply.

All sums have a fixed order, there are no atomics on them, so results are reproducible. wgmma cuts
its sums off instead of rounding them: for float32 they are moved to registers every 128 deep.

**The general kernel** computes the same three as implicit matrix products:

              rows            columns                 depth (summed over)
  forward     filters         output pixels           taps: (channel, tap row, tap column)
  dinput      channels        input pixels            taps: (filter, tap row, tap column)
  dweight     filters         taps of one filter      output pixels of all images

"Implicit", because neither unfolded matrix exists: a product is described by two functions that
read the elements lhs(row, depth) and rhs(depth, column) from where they lie, with a zero in the
padding or between the strides. A block of 16 x 16 threads computes a tile in registers, 8 x 8
elements a thread, and walks along the depth in steps of 16 through shared memory. The depth is cut
into runs of 1024, after which the registers are added to the destination and start again at zero.
It takes float64, small groups and problems, GPUs before Ampere, and what is too wide for halves.
Where groups have up to four maps, as in a depthwise convolution, nothing is multiplied as
matrices: a thread adds up elements of its own.

Memory: forward keeps x packed for dweight, half as large as x (as large for float32), and backward
packs dy. Does not: use tensor cores before Ampere, take half precision, padding modes other than
zeros, or unbatched images.
"""

import torch
import torch.nn as nn
from torch.autograd.function import once_differentiable
from torch.utils.cpp_extension import load_inline

cpp_source = """
int64_t conv2d_prepare();
std::tuple<torch::Tensor, std::vector<torch::Tensor>> conv2d_forward(
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const std::optional<torch::Tensor>& bias,
    const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding,
    const std::vector<int64_t>& dilation,
    int64_t groups,
    bool tf32);
std::tuple<std::optional<torch::Tensor>, std::optional<torch::Tensor>> conv2d_backward(
    const torch::Tensor& grad_output,
    const torch::Tensor& input,
    const torch::Tensor& weight,
    const std::vector<torch::Tensor>& packed,
    const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding,
    const std::vector<int64_t>& dilation,
    int64_t groups,
    bool tf32,
    bool input_needed,
    bool weight_needed);
torch::Tensor conv2d_grad_bias(const torch::Tensor& grad_output);
"""

cuda_source = r"""
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include <cuda_fp16.h>

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace {

constexpr int kSide = 16;  // A block is kSide x kSide threads.
constexpr int kThreads = kSide * kSide;
constexpr int kColumnsPerThread = 8;
constexpr int kTileColumns = kSide * kColumnsPerThread;
constexpr int kStep = 16;                // Depth indices per step,
constexpr int kRun = 1024;               // and per run, after which the registers are emptied.
constexpr int kPadding = 4;              // Spreads a tile's columns over the memory banks.
constexpr int64_t kWantedBlocks = 1024;  // dweight is cut into slices until it has this many.
constexpr int kSumThreads = 256;
constexpr int64_t kPixelsPerSum = 8192;    // Pixels that a block of dbias adds up.
constexpr int64_t kMaxBlocks = 1 << 20;    // Beyond this the loops over tiles take over.
constexpr int kStandInBlocks = 1024;       // The same for a kernel that is hardly ever needed.
constexpr int kThinMaps = 4;               // Maps of a thin group, at most;
constexpr int kThinThreads = 64;           // threads of a block that computes them,
constexpr int kStrip = 8;                  // and what a thread adds up at once.
constexpr int kThinRows = 16;              // Pixels of a column that a lane of dweight walks down.
constexpr int64_t kWantedWarps = 1 << 15;  // dweight is cut into slices until it has this many.

constexpr int kWarp = 32;

// Division by a number known only at launch, as a multiplication and a shift. Exact for
// 0 <= n < 2^31.
struct Divider {
  uint32_t divisor, magic, shift = 0;

  explicit Divider(int64_t value) : divisor(static_cast<uint32_t>(value)) {
    while ((uint64_t(1) << shift) < divisor) {
      ++shift;
    }
    magic = static_cast<uint32_t>(
        (uint64_t(1) << 32) * ((uint64_t(1) << shift) - divisor) / divisor + 1);
  }

  __device__ __forceinline__ int quotient(int n) const {
    return static_cast<int>((__umulhi(static_cast<uint32_t>(n), magic) + n) >> shift);
  }

  // Replaces n by the remainder and returns the quotient.
  __device__ __forceinline__ int divide(int& n) const {
    const int result = quotient(n);
    n -= result * static_cast<int>(divisor);
    return result;
  }
};

struct Geometry {
  int64_t images, groups;
  int channels, filters;  // Of one group.
  int height, width, out_height, out_width, kernel_height, kernel_width;
  int stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x;
  Divider by_kernel_area, by_kernel_width, by_width, by_out_width, by_stride_y, by_stride_x;

  __host__ __device__ int taps(int maps) const { return maps * kernel_height * kernel_width; }
  __host__ __device__ int pixels() const { return height * width; }
  __host__ __device__ int out_pixels() const { return out_height * out_width; }
};

// The input element under tap `tap` (channel, row, column) of the window of output pixel `pixel`.
template <typename scalar_t>
__device__ __forceinline__ scalar_t input_under_tap(
    const Geometry& g, const scalar_t* input, int64_t image, int64_t group, int pixel, int tap) {
  const int channel = g.by_kernel_area.divide(tap);
  const int tap_y = g.by_kernel_width.divide(tap), tap_x = tap;
  const int out_y = g.by_out_width.divide(pixel), out_x = pixel;
  const int y = out_y * g.stride_y - g.padding_y + tap_y * g.dilation_y;
  const int x = out_x * g.stride_x - g.padding_x + tap_x * g.dilation_x;
  if (y < 0 || y >= g.height || x < 0 || x >= g.width) {
    return scalar_t(0);
  }
  const scalar_t* maps = input + (image * g.groups + group) * g.channels * g.pixels();
  return maps[int64_t(channel) * g.pixels() + y * g.width + x];
}

// The output gradient that meets input pixel `pixel` through tap `tap` (filter, row, column).
template <typename scalar_t>
__device__ __forceinline__ scalar_t gradient_through_tap(
    const Geometry& g, const scalar_t* gradient, int64_t image, int64_t group, int pixel, int tap) {
  const int filter = g.by_kernel_area.divide(tap);
  const int tap_y = g.by_kernel_width.divide(tap), tap_x = tap;
  int y = g.by_width.divide(pixel), x = pixel;
  y += g.padding_y - tap_y * g.dilation_y;
  x += g.padding_x - tap_x * g.dilation_x;
  if (y < 0 || x < 0) {
    return scalar_t(0);
  }
  const int out_y = g.by_stride_y.divide(y), out_x = g.by_stride_x.divide(x);
  if (y != 0 || x != 0 || out_y >= g.out_height || out_x >= g.out_width) {
    return scalar_t(0);
  }
  const scalar_t* maps = gradient + (image * g.groups + group) * g.filters * g.out_pixels();
  return maps[int64_t(filter) * g.out_pixels() + out_y * g.out_width + out_x];
}

// ---- Numbers for the tensor cores ---------------------------------------------------------------

// What is known of a tensor's magnitudes, as the bits of floats: the largest, and the complement of
// the smallest that is the largest of some run of kRangeRun neighbouring elements (not all zero).
struct Range {
  uint32_t largest, smallest_complement;
};
constexpr int kRangeRun = 1024;

// Operands are scaled by a power of two that brings the largest between 2^14 and 2^15. Elements
// lose precision where they are more than 2^28 times smaller; what is lost is 2^-40 of the largest.
// So runs may be smaller by 2^kHalfOctaves if halves of 11 bits are wanted, and by
// 2^kSplitOctaves if it is pairs of them.
constexpr int kTopExponent = 14;
constexpr int kHalfOctaves = 26;
constexpr int kSplitOctaves = 16;
constexpr int kMaxExponent = 60;

// Whether a tensor's magnitudes do not fit the halves that it would be rounded to.
__device__ __forceinline__ bool too_wide(const Range& range, int octaves) {
  if (range.largest == 0) {
    return false;
  }
  const int top = int(range.largest >> 23) - 127;  // 128 for an infinity or NaN
  const int bottom = int(~range.smallest_complement >> 23) - 127;
  return abs(top) > kMaxExponent || top - bottom > octaves;
}

// 2^exponent.
__device__ __forceinline__ float power_of_two(int exponent) {
  return __uint_as_float(uint32_t(exponent + 127) << 23);
}
__device__ __forceinline__ int scale_exponent(const Range& range) {
  return range.largest == 0 ? 0 : kTopExponent - (int(range.largest >> 23) - 127);
}

// A kernel that stands in for another runs only where that one could not.
struct Guard {
  const Range *first = nullptr, *second = nullptr;
  int octaves = 0;

  __device__ __forceinline__ bool fits() const {
    return !too_wide(*first, octaves) && !too_wide(*second, octaves);
  }
  __device__ __forceinline__ bool not_needed() const { return first != nullptr && fits(); }
};

__global__ void range_kernel(const float* __restrict__ values, int64_t count, Range* range) {
  constexpr int vectors = kRangeRun / (kWarp * 4);
  const bool aligned = reinterpret_cast<uintptr_t>(values) % sizeof(float4) == 0;
  const int lane = threadIdx.x % kWarp;
  const int64_t warps = int64_t(gridDim.x) * blockDim.x / kWarp;
  uint32_t largest = 0, smallest_complement = 0;
  for (int64_t run = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
       run * kRangeRun < count; run += warps) {
    const float* from = values + run * kRangeRun;
    const int64_t left = count - run * kRangeRun;
    uint32_t bits = 0;
    if (aligned && left >= kRangeRun) {
      float4 loaded[vectors];
#pragma unroll
      for (int i = 0; i < vectors; ++i) {
        loaded[i] = reinterpret_cast<const float4*>(from)[i * kWarp + lane];
      }
#pragma unroll
      for (int i = 0; i < vectors; ++i) {
        const float four[] = {loaded[i].x, loaded[i].y, loaded[i].z, loaded[i].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          bits = max(bits, __float_as_uint(four[j]) << 1);
        }
      }
    } else {
      for (int i = lane; i < kRangeRun && i < left; i += kWarp) {
        bits = max(bits, __float_as_uint(from[i]) << 1);
      }
    }
#pragma unroll
    for (int other = kWarp / 2; other > 0; other /= 2) {
      bits = max(bits, __shfl_xor_sync(0xffffffff, bits, other));
    }
    bits >>= 1;
    largest = max(largest, bits);
    smallest_complement = max(smallest_complement, bits == 0 ? 0 : ~bits);
  }
  if (lane == 0) {
    atomicMax(&range->largest, largest);
    atomicMax(&range->smallest_complement, smallest_complement);
  }
}

// ---- The general kernel -------------------------------------------------------------------------

// What a product looks like. Its destination is laid out as [image, or slice][group][row][column]:
// forward and dinput have one slice and keep the images apart, dweight sums over them.
struct ProductShape {
  int64_t kept_images, summed_images, slices, groups;
  int rows, columns, depth;
};

// The three products. kDepthFastest says along which index of rhs neighbouring threads should
// read; along lhs it is the depth in all three.

template <typename scalar_t>
struct ForwardProduct {
  static constexpr bool kDepthFastest = false;
  Geometry g;
  const scalar_t *input, *weight, *bias;

  ProductShape shape() const {
    return {g.images, 1, 1, g.groups, g.filters, g.out_pixels(), g.taps(g.channels)};
  }
  __device__ scalar_t initial(int64_t group, int filter) const {
    return bias == nullptr ? scalar_t(0) : bias[group * g.filters + filter];
  }
  __device__ scalar_t lhs(int64_t image, int64_t group, int filter, int tap) const {
    return weight[(group * g.filters + filter) * g.taps(g.channels) + tap];
  }
  __device__ scalar_t rhs(int64_t image, int64_t group, int tap, int pixel) const {
    return input_under_tap(g, input, image, group, pixel, tap);
  }
};

template <typename scalar_t>
struct GradInputProduct {
  static constexpr bool kDepthFastest = false;
  Geometry g;
  const scalar_t *grad_output, *weight;

  ProductShape shape() const {
    return {g.images, 1, 1, g.groups, g.channels, g.pixels(), g.taps(g.filters)};
  }
  __device__ scalar_t initial(int64_t group, int channel) const { return scalar_t(0); }
  __device__ scalar_t lhs(int64_t image, int64_t group, int channel, int tap) const {
    const int filter = g.by_kernel_area.divide(tap);
    return weight[(group * g.filters + filter) * g.taps(g.channels) + g.taps(channel) + tap];
  }
  __device__ scalar_t rhs(int64_t image, int64_t group, int tap, int pixel) const {
    return gradient_through_tap(g, grad_output, image, group, pixel, tap);
  }
};

template <typename scalar_t>
struct GradWeightProduct {
  static constexpr bool kDepthFastest = true;
  Geometry g;
  const scalar_t *grad_output, *input;
  int64_t slices;

  ProductShape shape() const {
    return {1, g.images, slices, g.groups, g.filters, g.taps(g.channels), g.out_pixels()};
  }
  __device__ scalar_t initial(int64_t group, int filter) const { return scalar_t(0); }
  __device__ scalar_t lhs(int64_t image, int64_t group, int filter, int pixel) const {
    return grad_output[((image * g.groups + group) * g.filters + filter) * g.out_pixels() + pixel];
  }
  __device__ scalar_t rhs(int64_t image, int64_t group, int pixel, int tap) const {
    return input_under_tap(g, input, image, group, pixel, tap);
  }
};

// The position within the tile of a thread's i-th of `count` rows (columns). They lie in runs of
// four, which a thread can read from shared memory at once.
template <int count>
__device__ __forceinline__ int tile_position(int thread, int i) {
  constexpr int vector = count < 4 ? count : 4;
  return i / vector * (kSide * vector) + thread * vector + i % vector;
}

// The place in the tile of the i-th element of rhs that a thread carries to shared memory.
template <typename Product>
__device__ __forceinline__ int rhs_depth(int thread, int i) {
  return Product::kDepthFastest ? thread % kStep
                                : thread / kTileColumns + i * (kThreads / kTileColumns);
}
template <typename Product>
__device__ __forceinline__ int rhs_column(int thread, int i) {
  return Product::kDepthFastest ? thread / kStep + i * (kThreads / kStep) : thread % kTileColumns;
}

template <typename scalar_t, int rows_per_thread, typename Product>
__global__ void __launch_bounds__(kThreads, sizeof(scalar_t) == sizeof(float) ? 2 : 1)
    implicit_product_kernel(
        const Product product, const ProductShape shape, scalar_t* __restrict__ destination,
        const Guard guard) {
  if (guard.not_needed()) {
    return;
  }
  constexpr int tile_rows = kSide * rows_per_thread;
  constexpr int lhs_loads = tile_rows * kStep / kThreads;
  constexpr int rhs_loads = kTileColumns * kStep / kThreads;
  alignas(16) __shared__ scalar_t lhs_tile[kStep][tile_rows + kPadding];
  alignas(16) __shared__ scalar_t rhs_tile[kStep][kTileColumns + kPadding];
  const int thread = threadIdx.x;
  const int thread_row = thread / kSide, thread_column = thread % kSide;

  const int64_t runs_per_image = (shape.depth + kRun - 1) / kRun;
  const int64_t runs = shape.summed_images * runs_per_image;
  const int64_t row_tiles = (shape.rows + tile_rows - 1) / tile_rows;
  const int64_t column_tiles = (shape.columns + kTileColumns - 1) / kTileColumns;
  const int64_t tiles = shape.kept_images * shape.slices * shape.groups * column_tiles * row_tiles;

  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int first_row = static_cast<int>(tile % row_tiles) * tile_rows;
    const int first_column = static_cast<int>(tile / row_tiles % column_tiles) * kTileColumns;
    const int64_t group = tile / (row_tiles * column_tiles) % shape.groups;
    const int64_t outer = tile / (row_tiles * column_tiles * shape.groups);
    const int64_t slice = outer % shape.slices;
    scalar_t* block = destination + (outer * shape.groups + group) * shape.rows * shape.columns;

    for (int64_t run = slice; run < runs; run += shape.slices) {
      const int64_t image = outer / shape.slices + run / runs_per_image;
      const int depth_begin = static_cast<int>(run % runs_per_image) * kRun;
      const int depth_end = min(shape.depth - depth_begin, kRun) + depth_begin;
      scalar_t sums[rows_per_thread][kColumnsPerThread] = {};
      scalar_t lhs_staged[lhs_loads], rhs_staged[rhs_loads];

      const auto fetch = [&](int first_depth) {
#pragma unroll
        for (int i = 0; i < lhs_loads; ++i) {
          const int depth = first_depth + thread % kStep;
          const int row = first_row + thread / kStep + i * (kThreads / kStep);
          lhs_staged[i] = depth < depth_end && row < shape.rows
                              ? product.lhs(image, group, row, depth)
                              : scalar_t(0);
        }
#pragma unroll
        for (int i = 0; i < rhs_loads; ++i) {
          const int depth = first_depth + rhs_depth<Product>(thread, i);
          const int column = first_column + rhs_column<Product>(thread, i);
          rhs_staged[i] = depth < depth_end && column < shape.columns
                              ? product.rhs(image, group, depth, column)
                              : scalar_t(0);
        }
      };

      fetch(depth_begin);
      for (int depth = depth_begin; depth < depth_end; depth += kStep) {
#pragma unroll
        for (int i = 0; i < lhs_loads; ++i) {
          lhs_tile[thread % kStep][thread / kStep + i * (kThreads / kStep)] = lhs_staged[i];
        }
#pragma unroll
        for (int i = 0; i < rhs_loads; ++i) {
          rhs_tile[rhs_depth<Product>(thread, i)][rhs_column<Product>(thread, i)] = rhs_staged[i];
        }
        __syncthreads();
        fetch(depth + kStep);

#pragma unroll
        for (int k = 0; k < kStep; ++k) {
          scalar_t lhs[rows_per_thread], rhs[kColumnsPerThread];
#pragma unroll
          for (int i = 0; i < rows_per_thread; ++i) {
            lhs[i] = lhs_tile[k][tile_position<rows_per_thread>(thread_row, i)];
          }
#pragma unroll
          for (int j = 0; j < kColumnsPerThread; ++j) {
            rhs[j] = rhs_tile[k][tile_position<kColumnsPerThread>(thread_column, j)];
          }
#pragma unroll
          for (int i = 0; i < rows_per_thread; ++i) {
#pragma unroll
            for (int j = 0; j < kColumnsPerThread; ++j) {
              sums[i][j] += lhs[i] * rhs[j];
            }
          }
        }
        __syncthreads();
      }

#pragma unroll
      for (int i = 0; i < rows_per_thread; ++i) {
        const int row = first_row + tile_position<rows_per_thread>(thread_row, i);
#pragma unroll
        for (int j = 0; j < kColumnsPerThread; ++j) {
          const int column = first_column + tile_position<kColumnsPerThread>(thread_column, j);
          if (row < shape.rows && column < shape.columns) {
            scalar_t& element = block[int64_t(row) * shape.columns + column];
            element = (run == slice ? product.initial(group, row) : element) + sums[i][j];
          }
        }
      }
    }
  }
}

// Adds up the slices [slice][element]. There may be many of them and they are few numbers compared
// with what went into them, so double costs nothing here.
template <typename scalar_t>
__global__ void sum_slices_kernel(
    const scalar_t* __restrict__ partial_sums, scalar_t* __restrict__ sums, int64_t slices,
    int64_t elements, const Guard guard) {
  if (guard.not_needed()) {
    return;
  }
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < elements; i += stride) {
    double sum = 0;
    for (int64_t slice = 0; slice < slices; ++slice) {
      sum += partial_sums[slice * elements + i];
    }
    sums[i] = static_cast<scalar_t>(sum);
  }
}

// Adds up chunks of the map of every image and filter: partial_sums[image][chunk][filter].
template <typename scalar_t>
__global__ void grad_bias_chunks_kernel(
    const scalar_t* __restrict__ grad_output, scalar_t* __restrict__ partial_sums, int64_t images,
    int64_t filters, int64_t pixels, int64_t chunks) {
  __shared__ scalar_t sums[kSumThreads];
  for (int64_t job = blockIdx.x; job < images * chunks * filters; job += gridDim.x) {
    const int64_t filter = job % filters;
    const int64_t chunk = job / filters % chunks;
    const int64_t image = job / (filters * chunks);
    const scalar_t* map = grad_output + (image * filters + filter) * pixels;
    scalar_t sum = 0;
    for (int64_t i = chunk * kSumThreads + threadIdx.x; i < pixels; i += chunks * kSumThreads) {
      sum += map[i];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = kSumThreads / 2; half > 0; half /= 2) {
      if (threadIdx.x < half) {
        sums[threadIdx.x] += sums[threadIdx.x + half];
      }
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      partial_sums[job] = sums[0];
    }
  }
}

// ---- Thin groups --------------------------------------------------------------------------------

// Where groups are thin, as in a depthwise convolution, there is no matrix to multiply: each thread
// adds up elements of its own. Neighbouring threads have neighbouring columns, so that what they
// read and write lies together, and walk down: of kStrip rows under each other the next tap (the
// next pixel) sees all but one again, if the rows slide, that is without stride and dilation.
//
//   tap 0   [r0 r1 r2 r3]             forward, dinput: a thread's sums are pixels,
//   tap 1      [r1 r2 r3 r4]          and the window slides from tap to tap;
//   tap 2         [r2 r3 r4 r5]       dweight: they are taps, and it slides from pixel to pixel

// Rows of a column as a thread walks down: row r lies in `values` at r % kStrip.
template <typename scalar_t, bool slides>
struct Window {
  scalar_t values[kStrip];
  const scalar_t* column;
  int rows, pitch;

  __device__ __forceinline__ scalar_t row(int y) const {
    return y >= 0 && y < rows ? column[y * pitch] : scalar_t(0);
  }
  // All but the last row, before the first step.
  __device__ __forceinline__ void begin(int first) {
#pragma unroll
    for (int i = 0; slides && i < kStrip - 1; ++i) {
      values[i] = row(first + i);
    }
  }
  // `step` counts from a multiple of kStrip; `first` is the row seen by element 0 in this step.
  __device__ __forceinline__ void advance(int step, int first, int pitch_of_elements) {
#pragma unroll
    for (int i = slides ? kStrip - 1 : 0; i < kStrip; ++i) {
      values[(i + step) % kStrip] = row(first + i * pitch_of_elements);
    }
  }
  __device__ __forceinline__ scalar_t at(int i, int step) const {
    return values[(i + step) % kStrip];
  }
};

// Forward, and dinput of convolutions with stride 1, whose weights are mirrored.
template <typename scalar_t>
struct ThinCorrelation {
  const scalar_t *image, *weight, *bias;  // There may be no bias.
  scalar_t* output;
  int maps, depth;  // Of a group: what is computed, and what is summed over.
  int height, width, out_height, out_width, padding_y, padding_x;
  int64_t map_step, depth_step;  // Between their weights.
  bool mirrored;
  Divider by_out_width;
};

template <typename scalar_t, bool slides>
__global__ void thin_correlation_kernel(const Geometry g, const ThinCorrelation<scalar_t> c) {
  const int strips = (c.out_height + kStrip - 1) / kStrip, last_tap = g.taps(1) - 1;
  for (int64_t plane = blockIdx.y; plane < g.images * g.groups * c.maps; plane += gridDim.y) {
    const int64_t image_and_group = plane / c.maps, group = image_and_group % g.groups;
    const int map = static_cast<int>(plane % c.maps);
    const scalar_t* image = c.image + image_and_group * c.depth * c.height * c.width;
    const scalar_t* weights = c.weight + group * g.filters * g.taps(g.channels) + map * c.map_step;
    const scalar_t bias = c.bias == nullptr ? scalar_t(0) : c.bias[group * c.maps + map];
    for (int item = blockIdx.x * blockDim.x + threadIdx.x; item < strips * c.out_width;
         item += gridDim.x * blockDim.x) {
      int out_x = item;
      const int out_y = c.by_out_width.divide(out_x) * kStrip;
      const int first_y = out_y * g.stride_y - c.padding_y;
      scalar_t sums[kStrip] = {};
      for (int other = 0; other < c.depth; ++other) {
        for (int tap_x = 0; tap_x < g.kernel_width; ++tap_x) {
          const int x = out_x * g.stride_x - c.padding_x + tap_x * g.dilation_x;
          if (x < 0 || x >= c.width) {
            continue;
          }
          Window<scalar_t, slides> window;
          window.column = image + int64_t(other) * c.height * c.width + x;
          window.rows = c.height, window.pitch = c.width;
          window.begin(first_y);
          for (int first_tap = 0; first_tap < g.kernel_height; first_tap += kStrip) {
#pragma unroll
            for (int step = 0; step < kStrip; ++step) {
              const int tap_y = first_tap + step, tap = tap_y * g.kernel_width + tap_x;
              if (tap_y >= g.kernel_height) {
                break;
              }
              const scalar_t weight =
                  weights[other * c.depth_step + (c.mirrored ? last_tap - tap : tap)];
              window.advance(step, first_y + tap_y * g.dilation_y, g.stride_y);
#pragma unroll
              for (int i = 0; i < kStrip; ++i) {
                sums[i] += weight * window.at(i, step);
              }
            }
          }
        }
      }
      scalar_t* to = c.output + (plane * c.out_height + out_y) * c.out_width + out_x;
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        if (out_y + i < c.out_height) {
          to[i * c.out_width] = sums[i] + bias;
        }
      }
    }
  }
}

// The output, of all that a stride leaves out, that meets an input through a tap; -1 if none does.
__device__ __forceinline__ int output_through_tap(
    const Divider& by_stride, int distance, int outputs) {
  if (distance < 0) {
    return -1;
  }
  const int output = by_stride.divide(distance);
  return distance == 0 && output < outputs ? output : -1;
}

// dinput of convolutions with a stride: a thread adds up one pixel.
template <typename scalar_t>
__global__ void thin_strided_grad_input_kernel(
    const Geometry g, const scalar_t* __restrict__ grad_output, const scalar_t* __restrict__ weight,
    scalar_t* __restrict__ grad_input) {
  const int64_t channels = g.groups * g.channels;
  for (int64_t map = blockIdx.y; map < g.images * channels; map += gridDim.y) {
    const int64_t group = map % channels / g.channels;
    const int channel = static_cast<int>(map % g.channels);
    const scalar_t* gradient =
        grad_output + (map / channels * g.groups + group) * g.filters * g.out_pixels();
    for (int pixel = blockIdx.x * blockDim.x + threadIdx.x; pixel < g.pixels();
         pixel += gridDim.x * blockDim.x) {
      int x = pixel;
      const int y = g.by_width.divide(x);
      scalar_t sum = 0;
      for (int filter = 0; filter < g.filters; ++filter) {
        const scalar_t* taps =
            weight + (group * g.filters + filter) * g.taps(g.channels) + channel * g.taps(1);
        for (int tap_y = 0; tap_y < g.kernel_height; ++tap_y) {
          const int out_y = output_through_tap(
              g.by_stride_y, y + g.padding_y - tap_y * g.dilation_y, g.out_height);
          if (out_y < 0) {
            continue;
          }
          const scalar_t* row = gradient + int64_t(filter) * g.out_pixels() + out_y * g.out_width;
          for (int tap_x = 0; tap_x < g.kernel_width; ++tap_x) {
            const int out_x = output_through_tap(
                g.by_stride_x, x + g.padding_x - tap_x * g.dilation_x, g.out_width);
            if (out_x >= 0) {
              sum += taps[tap_y * g.kernel_width + tap_x] * row[out_x];
            }
          }
        }
      }
      grad_input[map * g.pixels() + pixel] = sum;
    }
  }
}

// A warp adds up kStrip weights of a column of taps over the pixels of a slice's images, its lanes
// strips of kThinRows pixels: partial_sums[slice][filter][channel][row][column].
template <typename scalar_t, bool slides>
__global__ void thin_grad_weight_kernel(
    const Geometry g, const scalar_t* __restrict__ grad_output, const scalar_t* __restrict__ input,
    scalar_t* __restrict__ partial_sums, int64_t slices) {
  const int64_t filters = g.groups * g.filters;
  const int lane = threadIdx.x % kWarp;
  const int parts = (g.kernel_height + kStrip - 1) / kStrip;
  const int strips = (g.out_height + kThinRows - 1) / kThinRows;
  const int64_t warps = int64_t(gridDim.x) * blockDim.x / kWarp;
  for (int64_t job = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
       job < slices * filters * g.channels * parts * g.kernel_width; job += warps) {
    const int tap_x = static_cast<int>(job % g.kernel_width);
    const int first_tap = static_cast<int>(job / g.kernel_width % parts) * kStrip;
    const int64_t filter_and_channel = job / g.kernel_width / parts % (filters * g.channels);
    const int64_t slice = job / g.kernel_width / parts / (filters * g.channels);
    const int64_t filter = filter_and_channel / g.channels,
                  channel = filter_and_channel % g.channels;
    scalar_t sums[kStrip] = {};
    for (int64_t image = slice; image < g.images; image += slices) {
      const scalar_t* map =
          input + ((image * g.groups + filter / g.filters) * g.channels + channel) * g.pixels();
      for (int item = lane; item < strips * g.out_width; item += kWarp) {
        int out_x = item;
        const int first_row = g.by_out_width.divide(out_x) * kThinRows;
        const int x = out_x * g.stride_x - g.padding_x + tap_x * g.dilation_x;
        if (x < 0 || x >= g.width) {
          continue;
        }
        const scalar_t* gradient =
            grad_output + (image * filters + filter) * g.out_pixels() + out_x;
        const int tap_offset = first_tap * g.dilation_y - g.padding_y;
        Window<scalar_t, slides> window;
        window.column = map + x;
        window.rows = g.height, window.pitch = g.width;
        window.begin(first_row + tap_offset);
        const int end_row = min(first_row + kThinRows, g.out_height);
        for (int row = first_row; row < end_row; row += kStrip) {
#pragma unroll
          for (int step = 0; step < kStrip; ++step) {
            const int out_y = row + step;
            if (out_y >= end_row) {
              break;
            }
            const scalar_t value = gradient[out_y * g.out_width];
            window.advance(step, out_y * g.stride_y + tap_offset, g.dilation_y);
#pragma unroll
            for (int i = 0; i < kStrip; ++i) {
              sums[i] += value * window.at(i, step);  // Taps beyond the last in vain.
            }
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      for (int other = kWarp / 2; other > 0; other /= 2) {
        sums[i] += __shfl_xor_sync(0xffffffff, sums[i], other);
      }
      if (lane == 0 && first_tap + i < g.kernel_height) {
        partial_sums
            [((slice * filters * g.channels + filter_and_channel) * g.kernel_height + first_tap +
              i) *
                 g.kernel_width +
             tap_x] = sums[i];
      }
    }
  }
}

// ---- Packed operands ----------------------------------------------------------------------------

constexpr int kUnit = 8;   // Neighbours along the depth that lie together, as halves:
struct alignas(16) Unit {  // 16 bytes, what wgmma and the bulk copies count in.
  __half values[kUnit];
};
constexpr int kChunkUnits = 4;  // The depth is walked in chunks of 32 maps.
constexpr int kChunk = kChunkUnits * kUnit;
constexpr int kStepDepth = 16;  // Depth of one wgmma.
constexpr int kTileMaps = 64;   // A warpgroup computes 64 maps of rows of 8 pixels at a time.
constexpr int kTilePixels = 8, kTallestTile = 32;

// A stride is folded into the channels: every step_y-th row and step_x-th column of an image make
// an image of their own, a phase, and the kernel falls apart in the same way. What is left is a
// convolution with stride 1, of more channels and fewer taps; those that no phase has are zero.
//
//   stride 2, 3 taps    x0 x1 x2 x3 x4 ..    w0 w1 w2
//   phase 0             x0    x2    x4       w0    w2
//   phase 1                x1    x3             w1    0
struct Fold {
  int step_y, step_x, phases_y, phases_x;
  int channels, padded_channels;    // Of a phase; whole units of them.
  int kernel_height, kernel_width;  // Before, and
  int taps_y, taps_x;               // after folding.

  __host__ __device__ int maps() const { return phases_y * phases_x * padded_channels; }
  // The weight of a filter's folded tap, as an index into the filter; -1 if there is none.
  __device__ __forceinline__ int weight(int map, int tap_y, int tap_x) const {
    const int phase = map / padded_channels, channel = map % padded_channels;
    const int y = tap_y * step_y + phase / phases_x, x = tap_x * step_x + phase % phases_x;
    return channel < channels && phase < phases_y * phases_x && y < kernel_height &&
                   x < kernel_width
               ? (channel * kernel_height + y) * kernel_width + x
               : -1;
  }
};

// Images in units: [part][image][block of 8 maps][row][column], with zeros around them. Groups are
// images too. The second part, if there is one, holds what rounding to the first left over.
struct Packed {
  const Unit* units;
  const Range* range;
  int64_t part;  // Units from one part to the next.
  int blocks, rows, pitch;
  int before_y, before_x;  // Rows and columns of zeros, in steps of the unfolded image.
};

// What the tensor memory accelerator has to know of packed images: the driver's CUtensorMap.
struct alignas(64) TensorMap {
  uint64_t words[16];
};

__device__ __forceinline__ void round_to_halves(float value, __half& first, __half& rest) {
  first = __float2half_rn(value);
  rest = __float2half_rn(value - __half2float(first));
}

template <bool split>
__global__ void pack_image_kernel(
    const float* __restrict__ image, const Packed to, Unit* __restrict__ units, const Fold fold,
    int64_t images, int height, int width, Divider by_pitch) {
  const int plane = to.rows * to.pitch, blocks_of_phase = fold.padded_channels / kUnit;
  const float scale = power_of_two(scale_exponent(*to.range));
  for (int64_t outer = blockIdx.y; outer < images * to.blocks; outer += gridDim.y) {
    const int block = static_cast<int>(outer % to.blocks);
    const int phase = block / blocks_of_phase, channel = block % blocks_of_phase * kUnit;
    const int channels_left = phase < fold.phases_y * fold.phases_x ? fold.channels - channel : 0;
    const float* maps =
        image + (outer / to.blocks * fold.channels + channel) * int64_t(height) * width;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < plane; i += gridDim.x * blockDim.x) {
      int x = i;
      const int row = by_pitch.divide(x);
      const int y = row * fold.step_y + phase / fold.phases_x - to.before_y;
      x = x * fold.step_x + phase % fold.phases_x - to.before_x;
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      Unit first, rest;
#pragma unroll
      for (int j = 0; j < kUnit; ++j) {
        const float value = inside && j < channels_left
                                ? maps[int64_t(j) * height * width + y * width + x] * scale
                                : 0.0f;
        round_to_halves(value, first.values[j], rest.values[j]);
      }
      units[outer * plane + i] = first;
      if (split) {
        units[to.part + outer * plane + i] = rest;
      }
    }
  }
}

// The weights of a correlation, in the order in which blocks walk over them:
// [group][tile of maps][chunk][tap][part][unit of the chunk][map].
struct PackedWeights {
  const Unit* units;
  const Range* range;
};

// Forward has filters as maps and folded channels as depth, dinput the other way round and its taps
// mirrored.
template <bool split>
__global__ void pack_weights_kernel(
    const float* __restrict__ weight, const Range* range, Unit* __restrict__ units, const Fold fold,
    int filters, int map_tiles, int chunks, bool for_input, int64_t count) {
  constexpr int parts = split ? 2 : 1;
  const int taps = fold.taps_y * fold.taps_x;
  const int64_t filter_size = int64_t(fold.channels) * fold.kernel_height * fold.kernel_width;
  const float scale = power_of_two(scale_exponent(*range));
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * blockDim.x) {
    int64_t at = i / kTileMaps;
    const int block = static_cast<int>(at % kChunkUnits);
    at /= kChunkUnits;
    const int tap = static_cast<int>(at % taps), tap_of_weight = for_input ? taps - 1 - tap : tap;
    at /= taps;
    const int first_depth = static_cast<int>(at % chunks) * kChunk + block * kUnit;
    at /= chunks;
    const int map = static_cast<int>(at % map_tiles) * kTileMaps + static_cast<int>(i % kTileMaps);
    const float* of_group = weight + at / map_tiles * filters * filter_size;
    Unit first, rest;
#pragma unroll
    for (int j = 0; j < kUnit; ++j) {
      const int filter = for_input ? first_depth + j : map;
      const int place = fold.weight(
          for_input ? map : first_depth + j, tap_of_weight / fold.taps_x,
          tap_of_weight % fold.taps_x);
      const float value =
          filter < filters && place >= 0 ? of_group[filter * filter_size + place] * scale : 0.0f;
      round_to_halves(value, first.values[j], rest.values[j]);
    }
    const int64_t stage = i / (int64_t(kTileMaps) * kChunkUnits);
    Unit* to = units + (stage * parts * kChunkUnits + block) * kTileMaps + i % kTileMaps;
    *to = first;
    if (split) {
      to[kChunkUnits * kTileMaps] = rest;
    }
  }
}

// ---- Instructions -------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 800 && (__CUDA_ARCH__ != 900 || defined(__CUDA_ARCH_FEAT_SM90_ALL))

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
// Reads four matrices of 8 units, transposed; lane 8m+r points to unit r of matrix m. A lane gets
// map lane / 4 of pixels lane % 4 * 2 and the one behind of each.
__device__ __forceinline__ void load_transposed(uint32_t (&values)[4], const Unit* unit) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
               : "r"(shared_address(unit))
               : "memory");
}

#endif

// Those of Ampere, Ada and Blackwell.
constexpr int kMmaWarps = 8, kMmaThreads = kMmaWarps * kWarp;
constexpr int kMmaBlocks = 2;    // Blocks of a correlation on a multiprocessor, if they fit,
constexpr int kStagesAhead = 2;  // and their stages that are copied in the background.

#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ != 900

// The same as load_transposed without transposing: pixel lane / 4 and two of its maps.
__device__ __forceinline__ void load_matrices(uint32_t (&values)[4], const Unit* unit) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
               : "r"(shared_address(unit))
               : "memory");
}
// Copies units in the background, a lane one at a time: `from` and `to` are the warp's.
__device__ __forceinline__ void copy_row(Unit* to, const Unit* from, int count) {
  for (int i = threadIdx.x % kWarp; i < count; i += kWarp) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to + i)),
                 "l"(from + i)
                 : "memory");
  }
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for this thread's copies, the latest `pending` groups excepted.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
// sums[16][8] += a[16][16] b[16][8] by a warp.
__device__ __forceinline__ void multiply_add(
    float (&sums)[4], const uint32_t (&a)[4], uint32_t b_first, uint32_t b_second) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_first), "r"(b_second));
}

#endif

// Hopper's.
constexpr int kMultiplyingWarps = 8, kServingWarps = 4;  // Two warpgroups multiply, one serves.
constexpr int kTensorThreads = (kMultiplyingWarps + kServingWarps) * kWarp;
constexpr int kMaxSlots = 12;  // Of a ring, see below.

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A barrier in shared memory that counts arrivals and the bytes of bulk copies. It changes its
// phase, 0 or 1, when all have come.
__device__ __forceinline__ void init_barrier(uint64_t* barrier, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}
__device__ __forceinline__ void arrive_and_expect(uint64_t* barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void wait_for_phase(uint64_t* barrier, int phase) {
  uint32_t done = 0;
  while (!done) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;\n}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(phase)
        : "memory");
  }
}
// Copies units from global to shared memory in the background; the barrier counts the bytes.
__device__ __forceinline__ void copy_units(
    Unit* to, const Unit* from, int count, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(count * int(sizeof(Unit))), "r"(shared_address(barrier))
      : "memory");
}
// The same for a box of packed images, whose size is the map's; outside of them there are zeros.
__device__ __forceinline__ void copy_box(
    Unit* to, const TensorMap& from, int column, int row, int block, int image, uint64_t* barrier) {
  constexpr int words = sizeof(Unit) / sizeof(uint64_t);  // The map counts columns in these.
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(shared_address(to)),
      "l"(&from), "r"(column * words), "r"(row), "r"(block), "r"(image), "r"(0),
      "r"(shared_address(barrier))
      : "memory");
}
template <int count>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// An operand of wgmma, without swizzle: 8 units one behind the other are a core matrix,
// `depth_pitch` units further lies the next one along the depth, `pitch` units further the next one
// along rows or columns. To add to an operand is to move it by as many units.
__device__ __forceinline__ uint64_t operand(const Unit* at, int depth_pitch, int pitch) {
  return uint64_t((shared_address(at) & 0x3ffff) >> 4) | uint64_t(depth_pitch) << 16 |
         uint64_t(pitch) << 32;
}
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits for this warpgroup's products, the latest `pending` groups excepted.
template <int pending>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Says that sums are not known before here.
template <int count>
__device__ __forceinline__ void settle(float (&sums)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) {
    asm volatile("" : "+f"(sums[i])::"memory");
  }
}
#define SUMS_4(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32), SUMS_16(i + 48)
#define NAMES_28                                                                               \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24," \
  "%25,%26,%27"
#define NAMES_32 NAMES_28 ",%28,%29,%30,%31"
#define NAMES_36 NAMES_32 ",%32,%33,%34,%35"
#define NAMES_64                                                                      \
  NAMES_36                                                                            \
  ",%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55," \
  "%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES_128                                                                              \
  NAMES_64                                                                                     \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,"          \
  "%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,"  \
  "%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122," \
  "%123,%124,%125,%126,%127"

// sums[64][columns] += a[64][16] b[16][columns] by a warpgroup, in the background. Of either
// operand the depth is what lies together in a unit.
__device__ __forceinline__ void multiply_add(float (&sums)[128], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" NAMES_128
               "}, %128, %129, 1, 1, 1, 0, 0;"
               : SUMS_64(0), SUMS_64(64)
               : "l"(a), "l"(b));
}
__device__ __forceinline__ void multiply_add(float (&sums)[64], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" NAMES_64
               "}, %64, %65, 1, 1, 1, 0, 0;"
               : SUMS_64(0)
               : "l"(a), "l"(b));
}
__device__ __forceinline__ void multiply_add(float (&sums)[32], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES_32
               "}, %32, %33, 1, 1, 1, 0, 0;"
               : SUMS_16(0), SUMS_16(16)
               : "l"(a), "l"(b));
}
// The same with a in registers, and columns of b together in its units, not the depth.
__device__ __forceinline__ void multiply_add(
    float (&sums)[28], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n56k16.f32.f16.f16 {" NAMES_28
               "}, {%28, %29, %30, %31}, %32, 1, 1, 1, 1;"
               : SUMS_16(0), SUMS_4(16), SUMS_4(20), SUMS_4(24)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void multiply_add(
    float (&sums)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES_32
               "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
               : SUMS_16(0), SUMS_16(16)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void multiply_add(
    float (&sums)[36], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n72k16.f32.f16.f16 {" NAMES_36
               "}, {%36, %37, %38, %39}, %40, 1, 1, 1, 1;"
               : SUMS_16(0), SUMS_16(16), SUMS_4(32)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void multiply_add(
    float (&sums)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" NAMES_64
               "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
               : SUMS_64(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// A ring of buffers in shared memory between copies and products: `full` changes its phase when a
// buffer's bytes are there, `empty` when all its readers are done with it.
struct Place {  // in a ring
  int slot = 0, phase = 0;

  __device__ __forceinline__ void advance(int slots) {
    if (++slot == slots) {
      slot = 0;
      phase ^= 1;
    }
  }
};
struct Ring {
  uint64_t full[kMaxSlots], empty[kMaxSlots];

  __device__ __forceinline__ void init(int readers) {
    for (int i = 0; i < kMaxSlots; ++i) {
      init_barrier(&full[i], 1);
      init_barrier(&empty[i], readers);
    }
  }
  // Waits until a buffer is free and returns the barrier for what it will be filled with.
  __device__ __forceinline__ uint64_t* refill(const Place& place, int units) {
    wait_for_phase(&empty[place.slot], place.phase ^ 1);
    arrive_and_expect(&full[place.slot], units * int(sizeof(Unit)));
    return &full[place.slot];
  }
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// ---- Forward and dinput -------------------------------------------------------------------------

struct Correlation {
  TensorMap patches;  // Of the image.
  Packed image;
  PackedWeights weights;
  const float* bias;  // or none
  float* output;
  int images, groups, maps, height, width;  // What is computed.
  int pixels;                               // The last row may be cut off.
  int first_row, first_column;  // Where the first tap of pixel (0, 0) meets the packed image.
  int chunks, taps_y, taps_x, dilation_y, dilation_x;
  // Where it is written: maps are folded channels if `unfolds`, the first pixel lies at the offset.
  bool unfolds;
  Fold fold;
  int offset_y, offset_x, out_height, out_width;
  int patch_rows, patch_columns;  // What the taps of a tile of pixels see.
  int patch_pitch;                // Units from one slot to the next.
  int patch_slots, weight_slots, octaves;
  int map_tiles, tiles_y, tiles_x;
};

// What a warpgroup computes at a time: 64 maps of rows x 8 pixels.
template <int rows_, bool split_>
struct Tile {
  static constexpr bool split = split_;
  static constexpr int rows = rows_, sums = rows * 4, parts = split ? 2 : 1;
  static constexpr int stage_units = parts * kChunkUnits * kTileMaps;  // Weights of a tap.
  // The tensor cores cut sums off instead of rounding them: float32 wants them short.
  static constexpr int stages_per_run = 4;
};

// Where a tile lies.
template <class Tile>
struct TilePlace {
  int first_map, y, x;
  int64_t image;

  __device__ __forceinline__ TilePlace(const Correlation& c, int64_t tile) {
    first_map = static_cast<int>(tile % c.map_tiles) * kTileMaps;
    tile /= c.map_tiles;
    x = static_cast<int>(tile % c.tiles_x) * kTilePixels;
    y = static_cast<int>(tile / c.tiles_x % c.tiles_y) * Tile::rows;
    image = tile / (c.tiles_x * c.tiles_y);
  }
};

// Writes what a warp has of a tile: 16 maps of some rows of 8 pixels, as the tensor cores leave it.
// A lane has maps lane / 4 and 8 further, and two neighbouring pixels of each row;
// value_at(row, half, column) tells them.
template <class Tile, int rows, class Value>
__device__ __forceinline__ void write_rows(
    const Correlation& c, const TilePlace<Tile>& at, int first_map, int first_row,
    const Value& value_at) {
  const int lane = threadIdx.x % kWarp;
  const bool pairs = c.width % 2 == 0 && c.pixels % 2 == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int map = first_map + half * 8 + lane / 4;
    if (map >= c.maps) {
      continue;
    }
    if (c.unfolds) {
      const int phase = map / c.fold.padded_channels, channel = map % c.fold.padded_channels;
      float* to =
          c.output + (at.image * c.fold.channels + channel) * int64_t(c.out_height) * c.out_width;
      const int first_x = phase % c.fold.phases_x + c.offset_x;
      const int first_y = phase / c.fold.phases_x + c.offset_y;
#pragma unroll
      for (int row = 0; row < rows; ++row) {
        const int y = (at.y + first_row + row) * c.fold.step_y + first_y;
#pragma unroll
        for (int column = 0; column < 2; ++column) {
          const int x = (at.x + lane % 4 * 2 + column) * c.fold.step_x + first_x;
          if (channel < c.fold.channels && y >= 0 && y < c.out_height && x >= 0 &&
              x < c.out_width) {
            to[int64_t(y) * c.out_width + x] = value_at(row, half, column);
          }
        }
      }
    } else {
      const float bias = c.bias == nullptr ? 0.0f : c.bias[at.image % c.groups * c.maps + map];
      const int x = at.x + lane % 4 * 2;
      float* to = c.output + (at.image * c.maps + map) * c.pixels + x;
#pragma unroll
      for (int row = 0; row < rows; ++row) {
        const int pixel = (at.y + first_row + row) * c.width;
        const int end = min(c.width, c.pixels - pixel);
        const float first = value_at(row, half, 0) + bias, second = value_at(row, half, 1) + bias;
        if (pairs && x < end) {
          *reinterpret_cast<float2*>(to + pixel) = make_float2(first, second);
        } else {
          if (x < end) to[pixel] = first;
          if (x + 1 < end) to[pixel + 1] = second;
        }
      }
    }
  }
}

// Two warpgroups multiply, each with tiles, rings and two serving warps of its own: while one
// writes a tile, the other has the tensor cores for itself.
template <class Tile>
__global__ void __launch_bounds__(kTensorThreads, 1)
    correlation_kernel(const __grid_constant__ Correlation c) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(128) Unit shared[];
  __shared__ Ring weight_rings[2], patch_rings[2];
  __shared__ uint64_t first_is_halfway;
  if (!Guard{c.image.range, c.weights.range, c.octaves}.fits()) {
    return;
  }
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const bool multiplies = warp < kMultiplyingWarps;
  const int warpgroup = multiplies ? warp / 4 : warp % 2;
  const int patch_plane = c.patch_rows * c.patch_columns;
  const int patch_units = Tile::parts * kChunkUnits * patch_plane;
  Unit* const weights =
      shared + warpgroup * (c.weight_slots * Tile::stage_units + c.patch_slots * c.patch_pitch);
  Unit* const patches = weights + c.weight_slots * Tile::stage_units;
  Ring& weight_ring = weight_rings[warpgroup];
  Ring& patch_ring = patch_rings[warpgroup];
  const int stages = c.chunks * c.taps_y * c.taps_x;
  const int64_t tiles_of_image = int64_t(c.tiles_y) * c.tiles_x * c.map_tiles;
  const int64_t tiles = c.images * tiles_of_image;
  const int64_t first_tile = blockIdx.x * 2 + warpgroup, tile_step = gridDim.x * 2;

  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      weight_rings[i].init(4);
      patch_rings[i].init(4);
    }
    init_barrier(&first_is_halfway, 4);
    publish_barriers();
  }
  __syncthreads();

  if (!multiplies) {
    fewer_registers<56>();
    if (lane != 0) {
      return;
    }
    Place place;
    if (warp < kMultiplyingWarps + 2) {
      for (int64_t tile = first_tile; tile < tiles; tile += tile_step) {
        const int64_t group = tile / tiles_of_image % c.groups;
        const Unit* from = c.weights.units +
                           (group * c.map_tiles + tile % c.map_tiles) * stages * Tile::stage_units;
        for (int i = 0; i < stages; ++i, place.advance(c.weight_slots)) {
          uint64_t* full = weight_ring.refill(place, Tile::stage_units);
          copy_units(weights + place.slot * Tile::stage_units, from, Tile::stage_units, full);
          from += Tile::stage_units;
        }
      }
    } else {
      for (int64_t tile = first_tile; tile < tiles; tile += tile_step) {
        const TilePlace<Tile> at(c, tile);
        for (int chunk = 0; chunk < c.chunks; ++chunk, place.advance(c.patch_slots)) {
          uint64_t* full = patch_ring.refill(place, patch_units);
          copy_box(
              patches + place.slot * c.patch_pitch, c.patches, at.x + c.first_column,
              at.y + c.first_row, chunk * kChunkUnits, static_cast<int>(at.image), full);
        }
      }
    }
    return;
  }

  more_registers<216>();
  const float image_scale = power_of_two(-scale_exponent(*c.image.range));
  const float weights_scale = power_of_two(-scale_exponent(*c.weights.range));
  const uint64_t weights_at = operand(weights, kTileMaps, 8);
  const uint64_t patches_at = operand(patches, patch_plane, c.patch_columns);
  const int row_step = c.dilation_y * c.patch_columns - c.taps_x * c.dilation_x;
  Place weight_place, patch_place;
  if (warpgroup == 1) {  // Half a tile behind the other, for good.
    wait_for_phase(&first_is_halfway, 0);
  }
  int until_halfway = warpgroup == 0 ? stages / 2 : -1;
  for (int64_t tile = first_tile; tile < tiles; tile += tile_step) {
    float sums[Tile::sums], totals[Tile::split ? Tile::sums : 1];
#pragma unroll
    for (int i = 0; i < Tile::sums; ++i) {
      sums[i] = 0.0f;
      if (Tile::split) totals[i] = 0.0f;
    }
    int run = 0, slot_in_use = -1;  // Of weights that products may still read.
    for (int chunk = 0; chunk < c.chunks; ++chunk) {
      uint64_t patch_at = patches_at + patch_place.slot * c.patch_pitch;
      wait_for_phase(&patch_ring.full[patch_place.slot], patch_place.phase);
      for (int tap_y = 0; tap_y < c.taps_y; ++tap_y, patch_at += row_step) {
        for (int tap_x = 0; tap_x < c.taps_x; ++tap_x, patch_at += c.dilation_x) {
          const uint64_t left = weights_at + weight_place.slot * Tile::stage_units;
          constexpr int left_rest = kChunkUnits * kTileMaps;
          const int right_rest = kChunkUnits * patch_plane;
          wait_for_phase(&weight_ring.full[weight_place.slot], weight_place.phase);
          begin_products();
#pragma unroll
          for (int step = 0; step < kChunk / kStepDepth; ++step) {
            const uint64_t a = left + step * 2 * kTileMaps, b = patch_at + step * 2 * patch_plane;
            if constexpr (Tile::split) {
              multiply_add(sums, a, b + right_rest);
              multiply_add(sums, a + left_rest, b);
            }
            multiply_add(sums, a, b);
          }
          commit_products();
          if (Tile::split && ++run == Tile::stages_per_run) {
            wait_for_products<0>();
            settle(sums);
#pragma unroll
            for (int i = 0; i < Tile::sums; ++i) {
              totals[i] += sums[i];
              sums[i] = 0.0f;
            }
            run = 0;
          } else {
            wait_for_products<1>();
          }
          if (lane == 0 && slot_in_use >= 0) {
            arrive(&weight_ring.empty[slot_in_use]);
          }
          slot_in_use = weight_place.slot;
          weight_place.advance(c.weight_slots);
          if (until_halfway >= 0 && until_halfway-- == 0 && lane == 0) {
            arrive(&first_is_halfway);
          }
        }
      }
      wait_for_products<0>();
      if (lane == 0) {
        arrive(&weight_ring.empty[slot_in_use]);
        arrive(&patch_ring.empty[patch_place.slot]);
      }
      slot_in_use = -1;
      patch_place.advance(c.patch_slots);
    }

    settle(sums);
    write_rows<Tile, Tile::rows>(
        c, TilePlace<Tile>(c, tile),
        static_cast<int>(tile % c.map_tiles) * kTileMaps + warp % 4 * 16, 0,
        [&](int row, int half, int column) {
          const int i = row * 4 + half * 2 + column;
          return (Tile::split ? totals[i] + sums[i] : sums[i]) * image_scale * weights_scale;
        });
  }
#endif
}

// The same by mma.sync: eight warps have all 64 maps of their share of a tile's rows, and copy
// themselves. A stage is a tap's weights, and before the first tap of a chunk its patch.
template <class Tile>
__global__ void __launch_bounds__(kMmaThreads, kMmaBlocks)
    mma_correlation_kernel(const __grid_constant__ Correlation c) {
#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ != 900
  extern __shared__ __align__(128) Unit shared[];
  constexpr int rows = Tile::rows / kMmaWarps, slots = kStagesAhead + 1;
  constexpr int map_blocks = kTileMaps / 16, parts = Tile::parts;
  if (!Guard{c.image.range, c.weights.range, c.octaves}.fits()) {
    return;
  }
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, matrix = lane / 8;
  const int patch_plane = c.patch_rows * c.patch_columns;
  const int taps = c.taps_y * c.taps_x, stages = c.chunks * taps;
  const int64_t plane = int64_t(c.image.rows) * c.image.pitch;
  const int64_t tiles_of_image = int64_t(c.tiles_y) * c.tiles_x * c.map_tiles;
  const float image_scale = power_of_two(-scale_exponent(*c.image.range));
  const float weights_scale = power_of_two(-scale_exponent(*c.weights.range));
  Unit* const patches = shared + slots * Tile::stage_units;
  // What this lane points ldmatrix to: of 16 maps two blocks of the depth, of 8 pixels all four.
  const Unit* const weights_of_lane =
      shared + matrix / 2 * kTileMaps + matrix % 2 * kUnit + lane % kUnit;
  const Unit* const patch_of_lane =
      patches + matrix * patch_plane + warp * rows * c.patch_columns + lane % kUnit;

  for (int64_t tile = blockIdx.x; tile < c.images * tiles_of_image; tile += gridDim.x) {
    const TilePlace<Tile> at(c, tile);
    const int64_t group = tile / tiles_of_image % c.groups;
    const Unit* const weights_from =
        c.weights.units + (group * c.map_tiles + tile % c.map_tiles) * stages * Tile::stage_units;
    const Unit* const image_from = c.image.units + at.image * c.image.blocks * plane +
                                   int64_t(at.y + c.first_row) * c.image.pitch + at.x +
                                   c.first_column;
    const auto fetch = [&](int stage) {
      if (stage < stages) {
        constexpr int share = Tile::stage_units / kMmaWarps;
        const int64_t from = int64_t(stage) * Tile::stage_units + warp * share;
        copy_row(
            shared + stage % slots * Tile::stage_units + warp * share, weights_from + from, share);
      }
      if (stage < stages && stage % taps == 0) {
        const int chunk = stage / taps;
        Unit* const to = patches + chunk % c.patch_slots * c.patch_pitch;
        for (int row = warp; row < parts * kChunkUnits * c.patch_rows; row += kMmaWarps) {
          const int block = row / c.patch_rows;
          copy_row(
              to + row * c.patch_columns,
              image_from + block / kChunkUnits * c.image.part +
                  (chunk * kChunkUnits + block % kChunkUnits) * plane +
                  row % c.patch_rows * int64_t(c.image.pitch),
              c.patch_columns);
        }
      }
      commit_copies();  // There may be nothing in it, but it counts.
    };

    float sums[map_blocks][rows][4] = {}, totals[map_blocks][rows][4] = {};
    int chunk = 0, tap_y = 0, tap_x = 0, run = 0;
    for (int stage = 0; stage < kStagesAhead; ++stage) {
      fetch(stage);
    }
    for (int stage = 0; stage < stages; ++stage) {
      wait_for_copies<kStagesAhead - 1>();
      __syncthreads();  // All have this stage's units, and are done with those to be replaced.
      fetch(stage + kStagesAhead);
      const Unit* const a_from = weights_of_lane + stage % slots * Tile::stage_units;
      const Unit* const b_from = patch_of_lane + chunk % c.patch_slots * c.patch_pitch +
                                 tap_y * c.dilation_y * c.patch_columns + tap_x * c.dilation_x;
      uint32_t b[parts][rows][kChunkUnits];
#pragma unroll
      for (int part = 0; part < parts; ++part) {
#pragma unroll
        for (int row = 0; row < rows; ++row) {
          load_matrices(
              b[part][row], b_from + part * kChunkUnits * patch_plane + row * c.patch_columns);
        }
      }
#pragma unroll
      for (int step = 0; step < kChunk / kStepDepth; ++step) {
#pragma unroll
        for (int block = 0; block < map_blocks; ++block) {
          uint32_t a[parts][4];
#pragma unroll
          for (int part = 0; part < parts; ++part) {
            load_matrices(
                a[part], a_from + (part * kChunkUnits + step * 2) * kTileMaps + block * 16);
          }
#pragma unroll
          for (int row = 0; row < rows; ++row) {
            float (&to)[4] = sums[block][row];
            if constexpr (Tile::split) {
              multiply_add(to, a[0], b[1][row][step * 2], b[1][row][step * 2 + 1]);
              multiply_add(to, a[1], b[0][row][step * 2], b[0][row][step * 2 + 1]);
            }
            multiply_add(to, a[0], b[0][row][step * 2], b[0][row][step * 2 + 1]);
          }
        }
      }
      if (++tap_x == c.taps_x) {
        tap_x = 0;
        if (++tap_y == c.taps_y) {
          tap_y = 0, ++chunk;
        }
      }
      if (Tile::split && ++run == Tile::stages_per_run) {
        run = 0;
#pragma unroll
        for (int i = 0; i < map_blocks * rows * 4; ++i) {
          (&totals[0][0][0])[i] += (&sums[0][0][0])[i];
          (&sums[0][0][0])[i] = 0.0f;
        }
      }
    }
    __syncthreads();  // Before the next tile's first stages come.
#pragma unroll
    for (int block = 0; block < map_blocks; ++block) {
      write_rows<Tile, rows>(
          c, at, at.first_map + block * 16, warp * rows, [&](int row, int half, int column) {
            const int i = half * 2 + column;
            return (sums[block][row][i] + totals[block][row][i]) * image_scale * weights_scale;
          });
    }
  }
#endif
}

// ---- dweight ------------------------------------------------------------------------------------

constexpr int kStagePixels = 128;

struct WeightGradient {
  TensorMap gradients, patches;  // Of a stage: dy's pixels, and what x's taps see.
  Packed gradient, image;
  Fold fold;
  float* sums;  // [slice][group][filter][channel][row][column]
  int images, groups, filters, octaves;
  int dilation_y, dilation_x;
  int tile_columns, tiles_y, tiles_x;  // Of kStagePixels output pixels each.
  bool along_taps;                     // What a group of 8 columns is: see Columns.
  bool tall;                           // 128 filters a block, else 64.
  int filter_tiles, block_tiles, row_tiles, tap_tiles;
  int patch_blocks, patch_rows, patch_columns, group_pitch, set_pitch;
  int stage_pitch, slots, slices;  // Units from one slot to the next.
};

// The columns of a block: kSets times kGroups groups of 8 channels.
//
//   along taps      one block of channels; a group is a tap of a row, a set is a row of taps
//   along channels  a group is a block of channels, a set is a tap of one row
template <int groups_, int sets_, bool split_>
struct Columns {
  static constexpr int groups = groups_, sets = sets_, parts = split_ ? 2 : 1;
  static constexpr bool split = split_;
  static constexpr int kSums = groups * 4;
};

// What a block computes, and over which stages it sums.
struct GradientPlace {
  int filter_tile, first_tap_y, first_tap_x, first_block, group, slice;
  int64_t begin, end;

  __device__ __forceinline__ GradientPlace(const WeightGradient& g, int groups, int sets) {
    int at = blockIdx.x;
    filter_tile = at % g.filter_tiles;
    at /= g.filter_tiles;
    const int block_tile = at % g.block_tiles;
    at /= g.block_tiles;
    const int row_tile = at % g.row_tiles;
    at /= g.row_tiles;
    const int tap_tile = at % g.tap_tiles;
    at /= g.tap_tiles;
    group = at % g.groups;
    slice = at / g.groups;
    first_tap_y = g.along_taps ? row_tile * sets : row_tile;
    first_tap_x = tap_tile * sets;  // Along taps there is one tile of them.
    first_block = g.along_taps ? block_tile : block_tile * groups;
    const int64_t stages = int64_t(g.images) * g.tiles_y * g.tiles_x;
    begin = stages * slice / g.slices;
    end = stages * (slice + 1) / g.slices;
  }

  // Writes the sum of a filter of the block and a column of a group and set.
  __device__ __forceinline__ void write(
      const WeightGradient& g, float* sums, int filter_of_block, int group_of_columns, int set,
      int column, float value) const {
    const int filter = filter_tile * (g.tall ? 128 : 64) + filter_of_block;
    const int map = (first_block + (g.along_taps ? 0 : group_of_columns)) * kUnit + column;
    const int weight = g.fold.weight(
        map, first_tap_y + (g.along_taps ? set : 0),
        g.along_taps ? group_of_columns : first_tap_x + set);
    const int filter_size = g.fold.channels * g.fold.kernel_height * g.fold.kernel_width;
    if (filter < g.filters && weight >= 0) {
      sums[int64_t(filter) * filter_size + weight] = value;
    }
  }
};

template <class Columns>
__global__ void __launch_bounds__(kTensorThreads, 1)
    weight_gradient_kernel(const __grid_constant__ WeightGradient g) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(128) Unit shared[];
  __shared__ Ring ring;
  if (!Guard{g.gradient.range, g.image.range, g.octaves}.fits()) {
    return;
  }
  const int filter_blocks = g.tall ? 16 : 8;
  const int gradient_units = Columns::parts * filter_blocks * kStagePixels;
  const int patch_plane = g.patch_rows * g.patch_columns;
  const int stage_units = gradient_units + Columns::parts * g.patch_blocks * patch_plane;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;

  const GradientPlace at(g, Columns::groups, Columns::sets);

  if (threadIdx.x == 0) {
    ring.init(kMultiplyingWarps * kWarp);
    publish_barriers();
  }
  __syncthreads();

  Place place;
  if (warp >= kMultiplyingWarps) {
    fewer_registers<56>();
    if (warp > kMultiplyingWarps || lane != 0) {
      return;
    }
    const int tile_rows = kStagePixels / g.tile_columns;
    for (int64_t stage = at.begin; stage < at.end; ++stage, place.advance(g.slots)) {
      const int x = static_cast<int>(stage % g.tiles_x) * g.tile_columns;
      const int y = static_cast<int>(stage / g.tiles_x % g.tiles_y) * tile_rows;
      const int image = static_cast<int>(stage / (g.tiles_x * g.tiles_y)) * g.groups + at.group;
      uint64_t* full = ring.refill(place, stage_units);
      Unit* const to = shared + place.slot * g.stage_pitch;
      copy_box(
          to, g.gradients, x + g.gradient.before_x, y + g.gradient.before_y,
          at.filter_tile * filter_blocks, image, full);
      copy_box(
          to + gradient_units, g.patches, x + (g.along_taps ? 0 : at.first_tap_x * g.dilation_x),
          y + at.first_tap_y * g.dilation_y, at.first_block, image, full);
    }
    return;
  }

  more_registers<216>();
  const int warpgroup = warp / 4;
  constexpr int steps = kStagePixels / kStepDepth;
  float sums[Columns::sets][Columns::kSums];
  float totals[Columns::split ? Columns::sets : 1][Columns::split ? Columns::kSums : 1];
#pragma unroll
  for (int set = 0; set < Columns::sets; ++set) {
#pragma unroll
    for (int i = 0; i < Columns::kSums; ++i) {
      sums[set][i] = 0.0f;
      if (Columns::split) totals[set][i] = 0.0f;
    }
  }
  // This lane's unit of the four matrices that make a warp's 16 filters x 16 pixels.
  const int matrix = lane / 8;
  const int lane_unit = ((g.tall ? warpgroup * 8 : 0) + warp % 4 * 2 + matrix % 2) * kStagePixels +
                        matrix / 2 * 8 + lane % 8;
  // Tall blocks share the filters out between the two warpgroups, others the pixels.
  const int first_step = g.tall ? 0 : warpgroup * (steps / 2);
  const int end_step = g.tall ? steps : first_step + steps / 2;
  const int steps_a_row = g.tile_columns / kStepDepth;
  const uint64_t patches_at = operand(shared + gradient_units, 8, g.group_pitch);
  const int patch_rest = g.patch_blocks * patch_plane;

  for (int64_t stage = at.begin; stage < at.end; ++stage, place.advance(g.slots)) {
    const Unit* gradient =
        shared + place.slot * g.stage_pitch + lane_unit + first_step * kStepDepth;
    uint64_t row_at =
        patches_at + place.slot * g.stage_pitch + first_step / steps_a_row * g.patch_columns;
    int step_of_row = 0;  // Halves of a stage begin with a row, or are part of the only one.
    if (g.tile_columns == kStagePixels) step_of_row = first_step;
    wait_for_phase(&ring.full[place.slot], place.phase);
    uint32_t a[2][Columns::parts][4];
#pragma unroll
    for (int part = 0; part < Columns::parts; ++part) {
      load_transposed(a[0][part], gradient + part * filter_blocks * kStagePixels);
    }
#pragma unroll 1
    for (int pair = first_step; pair < end_step; pair += 2) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        uint64_t right = row_at + step_of_row * kStepDepth;
        begin_products();
#pragma unroll
        for (int set = 0; set < Columns::sets; ++set, right += g.set_pitch) {
          if constexpr (Columns::split) {
            multiply_add(sums[set], a[odd][0], right + patch_rest);
            multiply_add(sums[set], a[odd][1], right);
          }
          multiply_add(sums[set], a[odd][0], right);
        }
        commit_products();
        if (++step_of_row == steps_a_row) {
          step_of_row = 0;
          row_at += g.patch_columns;
        }
        gradient += kStepDepth;
        if (odd == 0 || pair + 2 < end_step) {
          wait_for_products<1>();
#pragma unroll
          for (int part = 0; part < Columns::parts; ++part) {
            load_transposed(a[1 - odd][part], gradient + part * filter_blocks * kStagePixels);
          }
        }
      }
    }
    wait_for_products<0>();
#pragma unroll
    for (int set = 0; set < Columns::sets; ++set) {
      settle(sums[set]);
    }
    arrive(&ring.empty[place.slot]);  // Every lane for itself: all have loaded some.
    if constexpr (Columns::split) {
#pragma unroll
      for (int set = 0; set < Columns::sets; ++set) {
#pragma unroll
        for (int i = 0; i < Columns::kSums; ++i) {
          totals[set][i] += sums[set][i];
          sums[set][i] = 0.0f;
        }
      }
    }
  }

  const float gradient_scale = power_of_two(-scale_exponent(*g.gradient.range));
  const float image_scale = power_of_two(-scale_exponent(*g.image.range));
  float* const to =
      g.sums + (int64_t(g.tall ? at.slice : at.slice * 2 + warpgroup) * g.groups + at.group) *
                   g.filters * (g.fold.channels * g.fold.kernel_height * g.fold.kernel_width);
#pragma unroll
  for (int set = 0; set < Columns::sets; ++set) {
#pragma unroll
    for (int i = 0; i < Columns::kSums; ++i) {
      const float sum = Columns::split ? totals[set][i] : sums[set][i];
      at.write(
          g, to, (g.tall ? warpgroup * 64 : 0) + warp % 4 * 16 + i / 2 % 2 * 8 + lane / 4, i / 4,
          set, lane % 4 * 2 + i % 2, sum * gradient_scale * image_scale);
    }
  }
#endif
}

// The same by mma.sync: a warp has 32 filters and all columns of its share of a stage's pixels; the
// shares end in slices of their own. Of two stages one is copied while the other is multiplied.
template <class Columns>
__global__ void __launch_bounds__(kMmaThreads, 1)
    mma_weight_gradient_kernel(const __grid_constant__ WeightGradient g) {
#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ != 900
  extern __shared__ __align__(128) Unit shared[];
  constexpr int columns = Columns::groups * Columns::sets, parts = Columns::parts;
  constexpr int pairs = (columns + 1) / 2, steps = kStagePixels / kStepDepth;
  if (!Guard{g.gradient.range, g.image.range, g.octaves}.fits()) {
    return;
  }
  const GradientPlace at(g, Columns::groups, Columns::sets);
  const int filter_blocks = g.tall ? 16 : 8, filter_warps = filter_blocks / 4;
  const int shares = kMmaWarps / filter_warps;
  const int gradient_units = parts * filter_blocks * kStagePixels;
  const int patch_plane = g.patch_rows * g.patch_columns;
  const int tile_rows = kStagePixels / g.tile_columns, steps_a_row = g.tile_columns / kStepDepth;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, matrix = lane / 8;
  const int share = warp / filter_warps, first_filter = warp % filter_warps * 32;

  // What this lane points ldmatrix to: of 16 filters two blocks of 8 pixels, of two columns too.
  const Unit* const gradient_of_lane = shared + (first_filter / kUnit + matrix % 2) * kStagePixels +
                                       matrix / 2 * kUnit + lane % kUnit;
  const Unit* const patch_of_lane = shared + gradient_units + matrix % 2 * kUnit + lane % kUnit;
  int offsets[pairs];
#pragma unroll
  for (int pair = 0; pair < pairs; ++pair) {
    const int column = min(pair * 2 + matrix / 2, columns - 1);
    offsets[pair] =
        column / Columns::groups * g.set_pitch + column % Columns::groups * g.group_pitch;
  }

  const auto fetch = [&](int64_t stage) {
    if (stage < at.end) {
      Unit* const to = shared + (stage - at.begin) % 2 * g.stage_pitch;
      const int x = static_cast<int>(stage % g.tiles_x) * g.tile_columns;
      const int y = static_cast<int>(stage / g.tiles_x % g.tiles_y) * tile_rows;
      const int64_t image = stage / (g.tiles_x * g.tiles_y) * g.groups + at.group;
      // Blocks beyond the last are never written out; any units do for them.
      for (int i = warp; i < parts * filter_blocks * tile_rows; i += kMmaWarps) {
        const int part_and_block = i / tile_rows, row = i % tile_rows;
        const int block = min(
            at.filter_tile * filter_blocks + part_and_block % filter_blocks, g.gradient.blocks - 1);
        copy_row(
            to + i * g.tile_columns,
            g.gradient.units + part_and_block / filter_blocks * g.gradient.part +
                ((image * g.gradient.blocks + block) * g.gradient.rows + y + g.gradient.before_y +
                 row) *
                    g.gradient.pitch +
                x + g.gradient.before_x,
            g.tile_columns);
      }
      for (int i = warp; i < parts * g.patch_blocks * g.patch_rows; i += kMmaWarps) {
        const int part_and_block = i / g.patch_rows, row = i % g.patch_rows;
        const int block = min(at.first_block + part_and_block % g.patch_blocks, g.image.blocks - 1);
        copy_row(
            to + gradient_units + i * g.patch_columns,
            g.image.units + part_and_block / g.patch_blocks * g.image.part +
                ((image * g.image.blocks + block) * g.image.rows + y +
                 at.first_tap_y * g.dilation_y + row) *
                    g.image.pitch +
                x + (g.along_taps ? 0 : at.first_tap_x * g.dilation_x),
            g.patch_columns);
      }
    }
    commit_copies();
  };

  float sums[2][columns][4] = {}, totals[2][columns][4] = {};
  fetch(at.begin);
  for (int64_t stage = at.begin; stage < at.end; ++stage) {
    wait_for_copies<0>();
    __syncthreads();  // All have this stage's units, and are done with those to be replaced.
    fetch(stage + 1);
    const int slot = static_cast<int>((stage - at.begin) % 2) * g.stage_pitch;
#pragma unroll 1
    for (int step = share * (steps / shares); step < (share + 1) * (steps / shares); ++step) {
      const Unit* const a_from = gradient_of_lane + slot + step * kStepDepth;
      const Unit* const b_from = patch_of_lane + slot + step / steps_a_row * g.patch_columns +
                                 step % steps_a_row * kStepDepth;
      uint32_t a[parts][2][4];
#pragma unroll
      for (int part = 0; part < parts; ++part) {
        load_transposed(a[part][0], a_from + part * filter_blocks * kStagePixels);
        load_transposed(a[part][1], a_from + (part * filter_blocks + 2) * kStagePixels);
      }
#pragma unroll
      for (int pair = 0; pair < pairs; ++pair) {
        uint32_t b[parts][4];
#pragma unroll
        for (int part = 0; part < parts; ++part) {
          load_transposed(b[part], b_from + part * g.patch_blocks * patch_plane + offsets[pair]);
        }
#pragma unroll
        for (int i = 0; i < 2 && pair * 2 + i < columns; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float (&to)[4] = sums[half][pair * 2 + i];
            if constexpr (Columns::split) {
              multiply_add(to, a[0][half], b[1][i * 2], b[1][i * 2 + 1]);
              multiply_add(to, a[1][half], b[0][i * 2], b[0][i * 2 + 1]);
            }
            multiply_add(to, a[0][half], b[0][i * 2], b[0][i * 2 + 1]);
          }
        }
      }
    }
    if (Columns::split) {
#pragma unroll
      for (int i = 0; i < 2 * columns * 4; ++i) {
        (&totals[0][0][0])[i] += (&sums[0][0][0])[i];
        (&sums[0][0][0])[i] = 0.0f;
      }
    }
  }

  const float gradient_scale = power_of_two(-scale_exponent(*g.gradient.range));
  const float image_scale = power_of_two(-scale_exponent(*g.image.range));
  float* const to = g.sums + (int64_t(at.slice * shares + share) * g.groups + at.group) *
                                 g.filters *
                                 (g.fold.channels * g.fold.kernel_height * g.fold.kernel_width);
#pragma unroll
  for (int column = 0; column < columns; ++column) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int half = i / 4, j = i % 4;
      at.write(
          g, to, first_filter + half * 16 + j / 2 * 8 + lane / 4, column % Columns::groups,
          column / Columns::groups, lane % 4 * 2 + j % 2,
          (sums[half][column][j] + totals[half][column][j]) * gradient_scale * image_scale);
    }
  }
#endif
}

// ---- The general kernel's host side -------------------------------------------------------------

template <typename scalar_t, int rows_per_thread, typename Product>
void launch_product(const Product& product, const torch::Tensor& destination, const Guard& guard) {
  const ProductShape shape = product.shape();
  constexpr int64_t tile_rows = kSide * rows_per_thread;
  const int64_t tiles = shape.kept_images * shape.slices * shape.groups *
                        ((shape.rows + tile_rows - 1) / tile_rows) *
                        ((shape.columns + int64_t(kTileColumns) - 1) / kTileColumns);
  const int64_t most = guard.first == nullptr ? kMaxBlocks : kStandInBlocks;
  const int blocks = static_cast<int>(std::min(tiles, most));
  implicit_product_kernel<scalar_t, rows_per_thread, Product>
      <<<blocks, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
          product, shape, destination.data_ptr<scalar_t>(), guard);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// Takes the tallest tile that the rows can fill.
template <typename scalar_t, typename Product>
void compute_product(
    const Product& product, const torch::Tensor& destination, const Guard& guard = {}) {
  const int rows = product.shape().rows;
  if (rows <= kSide) {
    launch_product<scalar_t, 1>(product, destination, guard);
  } else if (rows <= 4 * kSide) {
    launch_product<scalar_t, 4>(product, destination, guard);
  } else {
    launch_product<scalar_t, 8>(product, destination, guard);
  }
}

template <typename scalar_t>
void sum_slices(
    const torch::Tensor& partial_sums, const torch::Tensor& sums, const Guard& guard = {}) {
  const int64_t elements = sums.numel();
  const int64_t blocks = std::min((elements + kSumThreads - 1) / kSumThreads, kMaxBlocks);
  sum_slices_kernel<scalar_t>
      <<<static_cast<int>(blocks), kSumThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
          partial_sums.data_ptr<scalar_t>(), sums.data_ptr<scalar_t>(), partial_sums.size(0),
          elements, guard);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

int checked_int(int64_t value) {
  TORCH_CHECK(
      value >= 0 && value < std::numeric_limits<int>::max() - kTileColumns,
      "conv2d: one image, filter or padded side is too large: ", value);
  return static_cast<int>(value);
}

Geometry make_geometry(
    const torch::Tensor& input, const torch::Tensor& weight, const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, int64_t groups) {
  TORCH_CHECK(input.is_cuda() && weight.is_cuda(), "conv2d: tensors must be on a CUDA device");
  TORCH_CHECK(input.device() == weight.device(), "conv2d: tensors are on different devices");
  TORCH_CHECK(input.scalar_type() == weight.scalar_type(), "conv2d: dtypes differ");
  TORCH_CHECK(input.dim() == 4 && weight.dim() == 4, "conv2d: input and weight must be 4D");
  TORCH_CHECK(
      stride.size() == 2 && padding.size() == 2 && dilation.size() == 2,
      "conv2d: stride, padding and dilation must be pairs");
  TORCH_CHECK(groups > 0 && weight.size(0) % groups == 0, "conv2d: groups must divide the filters");
  TORCH_CHECK(
      input.size(1) == weight.size(1) * groups, "conv2d: input has ", input.size(1),
      " channels, weight wants ", weight.size(1) * groups);
  TORCH_CHECK(weight.numel() > 0, "conv2d: weight is empty");
  int64_t out_size[2];
  for (int side = 0; side < 2; ++side) {
    TORCH_CHECK(
        stride[side] > 0 && padding[side] >= 0 && dilation[side] > 0,
        "conv2d: stride and dilation must be positive, padding must not be negative");
    const int64_t padded = input.size(2 + side) + 2 * padding[side];
    const int64_t extent = dilation[side] * (weight.size(2 + side) - 1) + 1;
    TORCH_CHECK(extent <= padded, "conv2d: the kernel is larger than the padded input");
    out_size[side] = (checked_int(padded) - extent) / stride[side] + 1;
  }
  const int64_t kernel_area = weight.size(2) * weight.size(3);
  checked_int(input.size(2) * input.size(3));
  checked_int(out_size[0] * out_size[1]);
  checked_int(std::max(weight.size(0) / groups, weight.size(1)) * kernel_area);
  return Geometry{
      input.size(0),
      groups,
      checked_int(weight.size(1)),
      checked_int(weight.size(0) / groups),
      checked_int(input.size(2)),
      checked_int(input.size(3)),
      checked_int(out_size[0]),
      checked_int(out_size[1]),
      checked_int(weight.size(2)),
      checked_int(weight.size(3)),
      checked_int(stride[0]),
      checked_int(stride[1]),
      checked_int(padding[0]),
      checked_int(padding[1]),
      checked_int(dilation[0]),
      checked_int(dilation[1]),
      Divider(kernel_area),
      Divider(weight.size(3)),
      Divider(std::max<int64_t>(input.size(3), 1)),
      Divider(out_size[1]),
      Divider(stride[0]),
      Divider(stride[1])};
}

void check_grad_output(
    const torch::Tensor& grad_output, const torch::Tensor& input, const Geometry& g) {
  TORCH_CHECK(grad_output.device() == input.device(), "conv2d: tensors are on different devices");
  TORCH_CHECK(grad_output.scalar_type() == input.scalar_type(), "conv2d: dtypes differ");
  TORCH_CHECK(
      grad_output.sizes() ==
          at::IntArrayRef({g.images, g.groups * g.filters, g.out_height, g.out_width}),
      "conv2d: grad_output has the wrong shape ", grad_output.sizes());
}

// ---- The tensor cores' host side ----------------------------------------------------------------

constexpr int kSharedBytes = 227 * 1024 - 1024;  // What Hopper's may have, less their barriers.
constexpr int kSpareBytes = 4096;                // compute-sanitizer takes operands whose groups
                                                 // overlap for contiguous, and looks so far.
constexpr double kWorthwhile = 1e8;              // Fewer operations are not worth packing for.
constexpr int64_t kPackThreads = 256;
constexpr int kMaxPitch = (1 << 14) - 1;  // What an operand's descriptor can hold.

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

int multiprocessors() {
  int device = 0, count = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

int octaves(bool split) { return split ? kSplitOctaves : kHalfOctaves; }

// What the tensor cores are programmed with: of which instructions the device code that was built
// and chosen has kernels. Asked once, of a kernel, as the host code is the same for all.
enum Instructions { kNoTensorCores, kMma, kWgmma };

__global__ void instructions_kernel(int* answer) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  *answer = kWgmma;
#elif __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ != 900
  *answer = kMma;
#else
  *answer = kNoTensorCores;
#endif
}

int instructions = kNoTensorCores;  // Set by conv2d_prepare.

// Shared memory that a block of theirs may ask for.
int64_t shared_limit() {
  if (instructions == kWgmma) {
    return kSharedBytes;
  }
  int device = 0, bytes = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes;
}

// The magnitudes of a tensor, measured.
torch::Tensor range_of(const torch::Tensor& values) {
  auto range = torch::empty({int64_t(sizeof(Range))}, values.options().dtype(torch::kUInt8));
  const auto stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaMemsetAsync(range.data_ptr(), 0, sizeof(Range), stream));
  const int64_t runs = ceil_div(values.numel(), kRangeRun);
  const int64_t blocks =
      std::min(ceil_div(runs * kWarp, kPackThreads), int64_t(8) * multiprocessors());
  range_kernel<<<static_cast<int>(blocks), kPackThreads, 0, stream>>>(
      values.data_ptr<float>(), values.numel(), static_cast<Range*>(range.data_ptr()));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return range;
}

template <typename T>
T* as(const torch::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

torch::Tensor empty_units(int64_t count, const torch::Tensor& like) {
  return torch::empty({count * int64_t(sizeof(Unit))}, like.options().dtype(torch::kUInt8));
}

Fold fold_of(const Geometry& g) {
  Fold fold;
  fold.step_y = g.stride_y, fold.step_x = g.stride_x;
  fold.phases_y = std::min(g.stride_y, g.kernel_height);
  fold.phases_x = std::min(g.stride_x, g.kernel_width);
  fold.channels = g.channels, fold.padded_channels = static_cast<int>(round_up(g.channels, kUnit));
  fold.kernel_height = g.kernel_height, fold.kernel_width = g.kernel_width;
  fold.taps_y = static_cast<int>(ceil_div(g.kernel_height, g.stride_y));
  fold.taps_x = static_cast<int>(ceil_div(g.kernel_width, g.stride_x));
  return fold;
}

// A pointwise convolution knows no rows: its pixels are packed as one, and cut where it suits.
bool is_flat(const Geometry& g) {
  return g.kernel_height * g.kernel_width == 1 && g.padding_y == 0 && g.padding_x == 0 &&
         g.stride_y == 1 && g.stride_x == 1;
}
constexpr int64_t kFlatPixels = kTallestTile * kTilePixels;

// Whether the tensor cores have kernels for a convolution, and enough to do. A stride is folded
// only if there is no dilation.
bool suits_tensor_cores(const Geometry& g, const torch::Tensor& input) {
  const double products =
      double(g.images) * g.groups * g.out_pixels() * g.filters * g.taps(g.channels);
  const bool folds = g.dilation_y == 1 && g.dilation_x == 1;
  const int64_t plane =
      int64_t(g.height + 2 * g.padding_y + 256) * (g.width + 2 * g.padding_x + 256);
  return instructions != kNoTensorCores && input.scalar_type() == torch::kFloat &&
         g.channels >= 16 && g.filters >= 16 && products >= kWorthwhile &&
         (g.stride_y * g.stride_x == 1 || folds) && plane < (1 << 28) &&
         g.images * g.groups * (round_up(g.channels, kChunk) + g.filters) < (1 << 24);
}

// A packed tensor, and where the first tap of output (0, 0) looks.
struct PackedTensor {
  torch::Tensor range, units;
  Packed packed;
  int first_row = 0, first_column = 0;
};

// Describes how images are packed; `padding` rows lie between the first that a tap looks at and the
// image (none if it is negative); height and width are those of all that tiles may look at.
PackedTensor layout_of(
    const Fold& fold, int64_t images, int64_t height, int64_t width, int64_t padding_y,
    int64_t padding_x) {
  PackedTensor to;
  Packed& p = to.packed;
  p.blocks = static_cast<int>(round_up(fold.maps(), kChunk) / kUnit);
  p.before_y = static_cast<int>(std::max<int64_t>(padding_y, 0));
  p.before_x = static_cast<int>(std::max<int64_t>(padding_x, 0));
  p.rows = static_cast<int>(height), p.pitch = static_cast<int>(width);
  p.part = images * p.blocks * height * width;
  to.first_row = static_cast<int>(p.before_y - padding_y);
  to.first_column = static_cast<int>(p.before_x - padding_x);
  return to;
}

// Packs an image into its layout, or takes what an earlier call has packed.
void pack(
    PackedTensor& to, const torch::Tensor& image, const Fold& fold, int64_t images, bool flat,
    bool split, const std::vector<torch::Tensor>& packed_before = {}) {
  const int64_t count = to.packed.part * (split ? 2 : 1);
  if (packed_before.size() == 2 && packed_before[1].numel() == count * int64_t(sizeof(Unit))) {
    to.range = packed_before[0], to.units = packed_before[1];
    to.packed.units = as<Unit>(to.units), to.packed.range = as<Range>(to.range);
    return;
  }
  to.range = range_of(image);
  to.units = empty_units(count, image);
  to.packed.units = as<Unit>(to.units), to.packed.range = as<Range>(to.range);
  const int64_t plane = int64_t(to.packed.rows) * to.packed.pitch;
  const dim3 grid(
      static_cast<unsigned>(std::min(ceil_div(plane, kPackThreads), kMaxBlocks)),
      static_cast<unsigned>(std::min<int64_t>(images * to.packed.blocks, 65535)));
  const auto kernel = split ? pack_image_kernel<true> : pack_image_kernel<false>;
  const int64_t height = image.size(2), width = image.size(3);
  kernel<<<grid, kPackThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      image.data_ptr<float>(), to.packed, as<Unit>(to.units), fold, images,
      static_cast<int>(flat ? 1 : height), static_cast<int>(flat ? height * width : width),
      Divider(to.packed.pitch));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

constexpr int kMaxBoxColumns = 128, kMaxBoxRows = 256;  // What a tensor map can hold.
constexpr int kBoxUnits = 8;  // Boxes begin at multiples of 128 bytes in shared memory.

// Describes boxes of columns x rows x blocks of one packed image, with all its parts, which are
// copied to [part][block][row][column].
TensorMap boxes_of(const Packed& from, int parts, int columns, int rows, int blocks) {
  TensorMap map{};
#ifndef __CUDA_ARCH__  // Only the host can ask the driver.
  using Encode = int (*)(
      TensorMap*, int type, uint32_t rank, void* address, const uint64_t* sizes,
      const uint64_t* strides, const uint32_t* box, const uint32_t* steps, int interleave,
      int swizzle, int promotion, int fill);
  static const Encode encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    C10_CUDA_CHECK(cudaGetDriverEntryPointByVersion(
        "cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
#else
    C10_CUDA_CHECK(
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result));
#endif
    TORCH_CHECK(result == cudaDriverEntryPointSuccess, "conv2d: the driver has no tensor maps");
    return reinterpret_cast<Encode>(found);
  }();
  constexpr int uint64 = 4, promotion_to_128_bytes = 2;  // In the driver's numbers.
  constexpr uint64_t words = sizeof(Unit) / sizeof(uint64_t);
  const uint64_t row = from.pitch * sizeof(Unit), block = row * from.rows;
  const uint64_t image = block * from.blocks, part = from.part * sizeof(Unit);
  const uint64_t sizes[] = {
      from.pitch * words, uint64_t(from.rows), uint64_t(from.blocks), part / image,
      uint64_t(parts)};
  const uint64_t strides[] = {row, block, image, part};
  const uint32_t box[] = {
      uint32_t(columns * words), uint32_t(rows), uint32_t(blocks), 1, uint32_t(parts)};
  const uint32_t steps[] = {1, 1, 1, 1, 1};
  const int result = encode(
      &map, uint64, 5, const_cast<Unit*>(from.units), sizes, strides, box, steps, 0, 0,
      promotion_to_128_bytes, 0);
  TORCH_CHECK(result == 0, "conv2d: the driver refuses a tensor map (", result, ")");
#endif
  return map;
}

// How many blocks of which size a correlation takes; `cost` counts products one after another.
struct Plan {
  Correlation c;
  double cost;
  int shared_bytes;
};

template <class Tile>
Plan plan_of(Correlation c, bool flat) {
  if (flat) {  // A tile's columns are a row.
    c.width = kTilePixels;
    c.height = static_cast<int>(ceil_div(c.pixels, c.width));
    c.image.rows = c.image.pitch / c.width;
    c.image.pitch = c.width;
  }
  c.map_tiles = static_cast<int>(ceil_div(c.maps, kTileMaps));
  c.tiles_y = static_cast<int>(ceil_div(c.height, Tile::rows));
  c.tiles_x = static_cast<int>(ceil_div(c.width, kTilePixels));
  c.patch_rows = Tile::rows + (c.taps_y - 1) * c.dilation_y;
  c.patch_columns = kTilePixels + (c.taps_x - 1) * c.dilation_x;
  c.patch_pitch = static_cast<int>(
      round_up(int64_t(Tile::parts) * kChunkUnits * c.patch_rows * c.patch_columns, kBoxUnits));
  const int64_t weights = Tile::stage_units * int64_t(sizeof(Unit));
  const int64_t patch = c.patch_pitch * int64_t(sizeof(Unit));
  const int64_t tiles = int64_t(c.images) * c.tiles_y * c.tiles_x * c.map_tiles;
  const int taps = c.taps_y * c.taps_x;
  bool fits;
  const int64_t tiles_at_once = 2 * multiprocessors();
  int64_t shares = 1;  // Of a block's shared memory.
  if (instructions == kWgmma) {
    shares = 2;
    const int64_t share = kSharedBytes / 2, wanted = taps >= 8 ? 2 : 6;
    c.patch_slots = static_cast<int>(std::min(wanted, (share - 3 * weights) / patch));
    c.weight_slots =
        static_cast<int>(std::min<int64_t>(kMaxSlots, (share - c.patch_slots * patch) / weights));
    fits = c.patch_slots >= 1 && c.patch_rows * c.patch_columns <= kMaxPitch &&
           c.patch_rows <= kMaxBoxRows && c.patch_columns <= kMaxBoxColumns;
  } else {
    c.patch_slots = taps == 1 ? kStagesAhead + 1 : 2;
    c.weight_slots = kStagesAhead + 1;
    fits = c.patch_slots * patch + c.weight_slots * weights <= shared_limit();
  }
  const double cost = fits ? double(ceil_div(tiles, tiles_at_once)) * (Tile::rows + 2)
                           : std::numeric_limits<double>::infinity();
  return {c, cost, static_cast<int>(shares * (c.patch_slots * patch + c.weight_slots * weights))};
}

// Runs it and returns the range of the weights.
template <class Tile>
torch::Tensor launch(
    const Plan& plan, const Fold& fold, const torch::Tensor& weight, bool for_input) {
  Correlation c = plan.c;
  const int64_t count =
      int64_t(c.groups) * c.map_tiles * kTileMaps * c.chunks * c.taps_y * c.taps_x * kChunkUnits;
  const auto range = range_of(weight);
  const auto units = empty_units(count * Tile::parts, weight);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  pack_weights_kernel<Tile::split>
      <<<static_cast<int>(std::min(ceil_div(count, kPackThreads), kMaxBlocks)), kPackThreads, 0,
         stream>>>(
          weight.data_ptr<float>(), as<Range>(range), as<Unit>(units), fold,
          static_cast<int>(weight.size(0)) / c.groups, c.map_tiles, c.chunks, for_input, count);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  c.weights = {as<Unit>(units), as<Range>(range)};
  const int64_t tiles = int64_t(c.images) * c.tiles_y * c.tiles_x * c.map_tiles;
  int64_t blocks = std::min<int64_t>(tiles, kMmaBlocks * multiprocessors());
  int threads = kMmaThreads;
  auto kernel = mma_correlation_kernel<Tile>;
  if (instructions == kWgmma) {
    c.patches = boxes_of(c.image, Tile::parts, c.patch_columns, c.patch_rows, kChunkUnits);
    blocks = std::min<int64_t>(ceil_div(tiles, 2), multiprocessors()), threads = kTensorThreads;
    kernel = correlation_kernel<Tile>;
  }
  C10_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes));
  kernel<<<static_cast<int>(blocks), threads, plan.shared_bytes, stream>>>(c);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return range;
}

// With the cheaper of two tiles; the range of the weights, or nothing if neither fits.
template <class First, class Second>
std::optional<torch::Tensor> correlate_with(
    const Correlation& c, const Fold& fold, const torch::Tensor& weight, bool for_input,
    bool flat) {
  const Plan first = plan_of<First>(c, flat), second = plan_of<Second>(c, flat);
  if (std::isinf(std::min(first.cost, second.cost))) {
    return std::nullopt;
  }
  return first.cost <= second.cost ? launch<First>(first, fold, weight, for_input)
                                   : launch<Second>(second, fold, weight, for_input);
}

std::optional<torch::Tensor> correlate(
    Correlation c, const PackedTensor& image, const Geometry& g, const torch::Tensor& weight,
    bool for_input, bool split) {
  c.image = image.packed;
  c.first_row = image.first_row, c.first_column = image.first_column;
  c.groups = static_cast<int>(g.groups), c.images = static_cast<int>(g.images * g.groups);
  c.fold = fold_of(g);
  c.taps_y = c.fold.taps_y, c.taps_x = c.fold.taps_x;
  c.dilation_y = g.dilation_y, c.dilation_x = g.dilation_x;
  c.chunks = c.image.blocks / kChunkUnits;
  c.pixels = c.height * c.width;
  c.octaves = octaves(split);
  return split ? correlate_with<Tile<16, true>, Tile<8, true>>(
                     c, c.fold, weight, for_input, is_flat(g))
               : correlate_with<Tile<32, false>, Tile<16, false>>(
                     c, c.fold, weight, for_input, is_flat(g));
}

// The columns of dweight's blocks: `cost` counts what all of them multiply.
struct ColumnPlan {
  bool along_taps;
  int groups, sets, block_tiles, row_tiles, tap_tiles;
  double cost;
};
ColumnPlan plan_columns(const Fold& fold, bool along_taps, int groups, int sets) {
  const int blocks = fold.maps() / kUnit;
  ColumnPlan plan{along_taps, groups, sets};
  plan.block_tiles = along_taps ? blocks : static_cast<int>(ceil_div(blocks, groups));
  plan.row_tiles = along_taps ? static_cast<int>(ceil_div(fold.taps_y, sets)) : fold.taps_y;
  plan.tap_tiles = along_taps ? 1 : static_cast<int>(ceil_div(fold.taps_x, sets));
  // A step also loads filters; that costs about as much as six groups.
  plan.cost = along_taps && fold.taps_x > groups ? std::numeric_limits<double>::infinity()
                                                 : double(plan.block_tiles) * plan.row_tiles *
                                                       plan.tap_tiles * (groups * sets + 6);
  return plan;
}

// As many slices as fill the GPU's last round best; fewer if that is nearly as good.
int64_t slices_for(int64_t tiles, int64_t stages, int64_t elements) {
  const int64_t most = std::max<int64_t>(
      1, std::min({stages, 4 * multiprocessors() / tiles, (int64_t(1) << 26) / elements}));
  int64_t best = 1;
  double best_use = 0;
  for (int64_t slices = 1; slices <= most; ++slices) {
    const double use = double(tiles * slices) / double(round_up(tiles * slices, multiprocessors()));
    if (use > best_use + 0.03) {
      best = slices, best_use = use;
    }
  }
  return best;
}

// The columns that dweight's kernels are built for, in halves and in pairs of them.
ColumnPlan cheapest_columns(const Geometry& g, bool split) {
  const Fold fold = fold_of(g);
  const auto plan = [&](bool along_taps, int groups, int sets) {
    return plan_columns(fold, along_taps, groups, sets);
  };
  const auto cheaper = [](const ColumnPlan& a, const ColumnPlan& b) { return a.cost < b.cost; };
  if (instructions == kWgmma) {
    return is_flat(g) ? plan(false, 16, 1)
                      : std::min(
                            {plan(true, 7, split ? 3 : 5), plan(true, 9, split ? 2 : 5),
                             plan(false, 8, split ? 2 : 3)},
                            cheaper);
  }
  return is_flat(g)
             ? plan(false, split ? 8 : 16, 1)
             : std::min(
                   {plan(true, 7, split ? 1 : 2), plan(true, 9, 1), plan(false, 8, split ? 1 : 2)},
                   cheaper);
}

using WeightGradientKernel = void (*)(WeightGradient);
WeightGradientKernel kernel_for(const ColumnPlan& columns, bool split) {
  const int groups = columns.groups;
  if (instructions == kWgmma) {
    return groups == 7   ? split ? weight_gradient_kernel<Columns<7, 3, true>>
                                 : weight_gradient_kernel<Columns<7, 5, false>>
           : groups == 9 ? split ? weight_gradient_kernel<Columns<9, 2, true>>
                                 : weight_gradient_kernel<Columns<9, 5, false>>
           : groups == 8 ? split ? weight_gradient_kernel<Columns<8, 2, true>>
                                 : weight_gradient_kernel<Columns<8, 3, false>>
           : split       ? weight_gradient_kernel<Columns<16, 1, true>>
                         : weight_gradient_kernel<Columns<16, 1, false>>;
  }
  return groups == 7   ? split ? mma_weight_gradient_kernel<Columns<7, 1, true>>
                               : mma_weight_gradient_kernel<Columns<7, 2, false>>
         : groups == 9 ? split ? mma_weight_gradient_kernel<Columns<9, 1, true>>
                               : mma_weight_gradient_kernel<Columns<9, 1, false>>
         : groups == 8 ? split ? mma_weight_gradient_kernel<Columns<8, 1, true>>
                               : mma_weight_gradient_kernel<Columns<8, 2, false>>
                       : mma_weight_gradient_kernel<Columns<16, 1, false>>;
}

// Columns of output pixels in a stage of dweight: wide ones, unless they waste too much beyond the
// output's width.
int64_t stage_columns(const Geometry& g) {
  for (const int64_t columns : {64, 32}) {
    if (round_up(g.out_width, columns) <= 1.1 * round_up(g.out_width, kStepDepth)) {
      return columns;
    }
  }
  return kStepDepth;
}

// How x is packed, for forward and for dweight.
PackedTensor image_layout(const Geometry& g, bool split) {
  const Fold fold = fold_of(g);
  const int64_t images = g.images * g.groups;
  if (is_flat(g)) {
    return layout_of(fold, images, 1, round_up(g.out_pixels(), kFlatPixels), 0, 0);
  }
  const ColumnPlan columns = cheapest_columns(g, split);
  const int64_t taps_y = columns.row_tiles * (columns.along_taps ? columns.sets : 1);
  const int64_t taps_x = columns.along_taps ? columns.groups : columns.tap_tiles * columns.sets;
  return layout_of(
      fold, images, round_up(g.out_height, kTallestTile) + (taps_y - 1) * g.dilation_y,
      round_up(g.out_width, stage_columns(g)) + (taps_x - 1) * g.dilation_x, g.padding_y,
      g.padding_x);
}

// The first row of folded images that holds a part of the image, of one side.
int64_t first_folded(int64_t padding, int64_t stride) { return padding / stride; }

// dy as it is packed: nothing of it is folded.
Fold fold_of_gradient(const Geometry& g) {
  return {1, 1, 1, 1, g.filters, static_cast<int>(round_up(g.filters, kUnit)), 1, 1, 1, 1};
}

// How dy is packed, for dinput and dweight.
PackedTensor gradient_layout(const Geometry& g) {
  const Fold fold = fold_of_gradient(g), weights = fold_of(g);
  const int64_t images = g.images * g.groups;
  if (is_flat(g)) {
    return layout_of(fold, images, 1, round_up(g.out_pixels(), kFlatPixels), 0, 0);
  }
  const int64_t reach_y = (weights.taps_y - 1) * g.dilation_y;
  const int64_t reach_x = (weights.taps_x - 1) * g.dilation_x;
  const int64_t before_y = reach_y - first_folded(g.padding_y, g.stride_y);
  const int64_t before_x = reach_x - first_folded(g.padding_x, g.stride_x);
  const int64_t rows = ceil_div(g.height + g.padding_y, g.stride_y);
  const int64_t columns = ceil_div(g.width + g.padding_x, g.stride_x);
  return layout_of(
      fold, images,
      std::max(round_up(rows, kTallestTile) + reach_y, round_up(g.out_height, kTallestTile)) +
          std::abs(before_y),
      std::max(round_up(columns, kTilePixels) + reach_x, round_up(g.out_width, stage_columns(g))) +
          std::abs(before_x),
      before_y, before_x);
}

// dweight of packed tensors: the sums of every slice, or nothing if a stage does not fit.
std::optional<torch::Tensor> weight_gradient_slices(
    const Geometry& g, const PackedTensor& gradient, const PackedTensor& image,
    const torch::Tensor& like, bool split) {
  const bool flat = is_flat(g);
  const ColumnPlan columns = cheapest_columns(g, split);
  WeightGradient w{};
  w.gradient = gradient.packed, w.image = image.packed, w.fold = fold_of(g);
  w.images = static_cast<int>(g.images), w.groups = static_cast<int>(g.groups);
  w.filters = g.filters, w.octaves = octaves(split);
  w.dilation_y = g.dilation_y, w.dilation_x = g.dilation_x;
  w.tile_columns = flat ? kStagePixels : static_cast<int>(stage_columns(g));
  const int tile_rows = kStagePixels / w.tile_columns;
  w.tiles_y = static_cast<int>(ceil_div(flat ? 1 : g.out_height, tile_rows));
  w.tiles_x = static_cast<int>(ceil_div(flat ? g.out_pixels() : g.out_width, w.tile_columns));
  w.along_taps = columns.along_taps;
  w.block_tiles = columns.block_tiles, w.row_tiles = columns.row_tiles;
  w.tap_tiles = columns.tap_tiles;
  w.patch_blocks = columns.along_taps ? 1 : columns.groups;
  const int row_sets = columns.along_taps ? columns.sets : 1;
  const int column_taps = columns.along_taps ? columns.groups : columns.sets;
  w.patch_rows = tile_rows + (row_sets - 1) * g.dilation_y;
  w.patch_columns = w.tile_columns + (column_taps - 1) * g.dilation_x;
  w.group_pitch = columns.along_taps ? g.dilation_x : w.patch_rows * w.patch_columns;
  w.set_pitch = columns.along_taps ? g.dilation_y * w.patch_columns : g.dilation_x;
  const int parts = split ? 2 : 1;
  const int64_t patches = int64_t(w.patch_blocks) * w.patch_rows * w.patch_columns;
  const int64_t limit =
      (shared_limit() - (instructions == kWgmma ? kSpareBytes : 0)) / int64_t(sizeof(Unit));
  const auto pitch = [&](bool tall) {
    return round_up(parts * ((tall ? 16 : 8) * kStagePixels + patches), kBoxUnits);
  };
  w.tall = ceil_div(g.filters, 64) % 2 == 0 && 2 * pitch(true) <= limit;
  w.stage_pitch = static_cast<int>(pitch(w.tall));
  w.slots = static_cast<int>(std::min<int64_t>(kMaxSlots, limit / w.stage_pitch));
  if (w.slots < 2) {
    return std::nullopt;
  }
  const int filter_blocks = w.tall ? 16 : 8;
  int shares = w.tall ? 2 : 4, threads = kMmaThreads, spare_bytes = 0;
  if (instructions == kWgmma) {
    if (w.group_pitch > kMaxPitch || w.patch_columns > kMaxBoxColumns ||
        w.patch_rows > kMaxBoxRows) {
      return std::nullopt;
    }
    shares = w.tall ? 1 : 2, threads = kTensorThreads, spare_bytes = kSpareBytes;
    w.gradients = boxes_of(w.gradient, parts, w.tile_columns, tile_rows, filter_blocks);
    w.patches = boxes_of(w.image, parts, w.patch_columns, w.patch_rows, w.patch_blocks);
  } else {
    w.slots = 2;
  }
  w.filter_tiles = static_cast<int>(ceil_div(g.filters, filter_blocks * kUnit));
  const int64_t tiles = g.groups * w.filter_tiles * w.block_tiles * w.row_tiles * w.tap_tiles;
  w.slices =
      static_cast<int>(slices_for(tiles, int64_t(w.images) * w.tiles_y * w.tiles_x, like.numel()));
  auto sums = torch::empty({w.slices * shares, like.numel()}, like.options());
  w.sums = sums.data_ptr<float>();
  const auto kernel = kernel_for(columns, split);
  const int bytes = w.slots * w.stage_pitch * static_cast<int>(sizeof(Unit)) + spare_bytes;
  C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  kernel<<<static_cast<int>(tiles * w.slices), threads, bytes, c10::cuda::getCurrentCUDAStream()>>>(
      w);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
}

bool has_thin_groups(const Geometry& g) {
  return g.groups > 1 && g.channels <= kThinMaps && g.filters <= kThinMaps;
}

dim3 thin_grid(int64_t items, int64_t maps) {
  return dim3(
      static_cast<unsigned>(ceil_div(items, kThinThreads)),
      static_cast<unsigned>(std::min<int64_t>(maps, 65535)));
}

template <typename scalar_t>
void correlate_thin(const Geometry& g, const ThinCorrelation<scalar_t>& c) {
  const bool slides = g.stride_y == 1 && g.dilation_y == 1;
  const dim3 grid =
      thin_grid(ceil_div(c.out_height, kStrip) * c.out_width, g.images * g.groups * c.maps);
  const auto kernel =
      slides ? thin_correlation_kernel<scalar_t, true> : thin_correlation_kernel<scalar_t, false>;
  kernel<<<grid, kThinThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(g, c);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// What follows takes any dtype and geometry; with a guard it computes only what the tensor cores
// could not.

void forward_in_general(
    const Geometry& g, const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& bias,
    const torch::Tensor& output, const Guard& guard = {}) {
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "conv2d_forward", [&] {
    const scalar_t* b = bias.defined() ? bias.data_ptr<scalar_t>() : nullptr;
    if (has_thin_groups(g)) {
      correlate_thin<scalar_t>(
          g, {x.data_ptr<scalar_t>(), w.data_ptr<scalar_t>(), b, output.data_ptr<scalar_t>(),
              g.filters, g.channels, g.height, g.width, g.out_height, g.out_width, g.padding_y,
              g.padding_x, g.taps(g.channels), g.taps(1), false, g.by_out_width});
    } else {
      const ForwardProduct<scalar_t> product{g, x.data_ptr<scalar_t>(), w.data_ptr<scalar_t>(), b};
      compute_product<scalar_t>(product, output, guard);
    }
  });
}

void grad_input_in_general(
    const Geometry& g, const torch::Tensor& dy, const torch::Tensor& w,
    const torch::Tensor& grad_input, const Guard& guard = {}) {
  AT_DISPATCH_FLOATING_TYPES(dy.scalar_type(), "conv2d_grad_input", [&] {
    if (has_thin_groups(g) && g.stride_y * g.stride_x == 1) {
      const int reach_y = (g.kernel_height - 1) * g.dilation_y;
      const int reach_x = (g.kernel_width - 1) * g.dilation_x;
      correlate_thin<scalar_t>(
          g, {dy.data_ptr<scalar_t>(), w.data_ptr<scalar_t>(), nullptr,
              grad_input.data_ptr<scalar_t>(), g.channels, g.filters, g.out_height, g.out_width,
              g.height, g.width, reach_y - g.padding_y, reach_x - g.padding_x, g.taps(1),
              g.taps(g.channels), true, g.by_width});
    } else if (has_thin_groups(g)) {
      const dim3 grid = thin_grid(g.pixels(), g.images * g.groups * g.channels);
      thin_strided_grad_input_kernel<scalar_t>
          <<<grid, kThinThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
              g, dy.data_ptr<scalar_t>(), w.data_ptr<scalar_t>(), grad_input.data_ptr<scalar_t>());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    } else {
      const GradInputProduct<scalar_t> product{g, dy.data_ptr<scalar_t>(), w.data_ptr<scalar_t>()};
      compute_product<scalar_t>(product, grad_input, guard);
    }
  });
}

void grad_weight_in_general(
    const Geometry& g, const torch::Tensor& dy, const torch::Tensor& x,
    const torch::Tensor& grad_weight, const Guard& guard = {}) {
  const bool thin = has_thin_groups(g);
  // Jobs of one slice, and slices there may be.
  const int64_t tile_area = int64_t(kTileColumns) * kTileColumns;
  const int64_t jobs =
      thin ? grad_weight.numel() / g.kernel_height * ceil_div(g.kernel_height, kStrip)
           : ceil_div(grad_weight.numel(), tile_area);
  const int64_t runs = thin ? g.images : g.images * ceil_div(g.out_pixels(), kRun);
  const int64_t wanted = thin ? kWantedWarps : kWantedBlocks;
  const int64_t slices = std::min(runs, ceil_div(wanted, jobs));
  auto partial_sums = torch::empty({slices, grad_weight.numel()}, grad_weight.options());
  AT_DISPATCH_FLOATING_TYPES(dy.scalar_type(), "conv2d_grad_weight", [&] {
    if (thin) {
      const int64_t blocks = std::min(ceil_div(slices * jobs * kWarp, kThinThreads), kMaxBlocks);
      const auto kernel = g.stride_y == 1 && g.dilation_y == 1
                              ? thin_grad_weight_kernel<scalar_t, true>
                              : thin_grad_weight_kernel<scalar_t, false>;
      kernel<<<static_cast<int>(blocks), kThinThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
          g, dy.data_ptr<scalar_t>(), x.data_ptr<scalar_t>(), partial_sums.data_ptr<scalar_t>(),
          slices);
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    } else {
      const GradWeightProduct<scalar_t> product{
          g, dy.data_ptr<scalar_t>(), x.data_ptr<scalar_t>(), slices};
      compute_product<scalar_t>(product, partial_sums, guard);
    }
    sum_slices<scalar_t>(partial_sums, grad_weight, guard);
  });
}

// Each returns whether it did it. Where magnitudes turn out too wide, the general kernel's stand-in
// computes what the others have left out.
bool forward_on_tensor_cores(
    const Geometry& g, const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& bias,
    const torch::Tensor& output, bool split, std::vector<torch::Tensor>& packed) {
  if (!suits_tensor_cores(g, x)) {
    return false;
  }
  PackedTensor image = image_layout(g, split);
  pack(image, x, fold_of(g), g.images * g.groups, is_flat(g), split);
  Correlation c{};
  c.bias = bias.defined() ? bias.data_ptr<float>() : nullptr;
  c.output = output.data_ptr<float>();
  c.maps = g.filters, c.height = g.out_height, c.width = g.out_width;
  const auto range = correlate(c, image, g, w, false, split);
  if (range.has_value()) {
    forward_in_general(
        g, x, w, bias, output, {as<Range>(image.range), as<Range>(*range), octaves(split)});
  }
  packed = {image.range, image.units};
  return range.has_value();
}

bool grad_input_on_tensor_cores(
    const Geometry& g, const PackedTensor& gradient, const torch::Tensor& dy,
    const torch::Tensor& w, const torch::Tensor& grad_input, bool split) {
  Correlation c{};
  c.output = grad_input.data_ptr<float>();
  c.unfolds = g.stride_y * g.stride_x > 1;
  const Fold fold = fold_of(g);
  c.maps = c.unfolds ? fold.maps() : g.channels;
  if (fold.phases_y < g.stride_y || fold.phases_x < g.stride_x) {  // No window sees some pixels.
    C10_CUDA_CHECK(
        cudaMemsetAsync(c.output, 0, grad_input.nbytes(), c10::cuda::getCurrentCUDAStream()));
  }
  const int64_t first_y = first_folded(g.padding_y, g.stride_y);
  const int64_t first_x = first_folded(g.padding_x, g.stride_x);
  c.height = static_cast<int>(ceil_div(g.height + g.padding_y, g.stride_y) - first_y);
  c.width = static_cast<int>(ceil_div(g.width + g.padding_x, g.stride_x) - first_x);
  c.offset_y = static_cast<int>(first_y * g.stride_y - g.padding_y);
  c.offset_x = static_cast<int>(first_x * g.stride_x - g.padding_x);
  c.out_height = g.height, c.out_width = g.width;
  const auto range = correlate(c, gradient, g, w, true, split);
  if (range.has_value()) {
    grad_input_in_general(
        g, dy, w, grad_input, {as<Range>(gradient.range), as<Range>(*range), octaves(split)});
  }
  return range.has_value();
}

bool grad_weight_on_tensor_cores(
    const Geometry& g, const PackedTensor& gradient, const torch::Tensor& dy,
    const torch::Tensor& x, const torch::Tensor& grad_weight, bool split,
    const std::vector<torch::Tensor>& packed) {
  PackedTensor image = image_layout(g, split);
  pack(image, x, fold_of(g), g.images * g.groups, is_flat(g), split, packed);
  const auto sums = weight_gradient_slices(g, gradient, image, grad_weight, split);
  if (sums.has_value()) {
    sum_slices<float>(*sums, grad_weight);
    grad_weight_in_general(
        g, dy, x, grad_weight, {as<Range>(gradient.range), as<Range>(image.range), octaves(split)});
  }
  return sums.has_value();
}

}  // namespace

// What the tensor cores are programmed with (see Instructions). Asked once, before anything else.
int64_t conv2d_prepare() {
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const auto options = torch::TensorOptions().device(torch::kCUDA).dtype(torch::kInt32);
  const auto answer = torch::empty({1}, options);
  instructions_kernel<<<1, 1, 0, stream>>>(answer.data_ptr<int>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return instructions = answer.item<int>();
}

// The output, and x as the tensor cores had it (empty if they did not), which backward takes.
std::tuple<torch::Tensor, std::vector<torch::Tensor>> conv2d_forward(
    const torch::Tensor& input, const torch::Tensor& weight,
    const std::optional<torch::Tensor>& bias, const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, int64_t groups,
    bool tf32) {
  const Geometry g = make_geometry(input, weight, stride, padding, dilation, groups);
  const c10::cuda::CUDAGuard guard(input.device());
  torch::Tensor b;
  if (bias.has_value()) {
    b = bias->contiguous();
    TORCH_CHECK(b.device() == input.device(), "conv2d: tensors are on different devices");
    TORCH_CHECK(b.scalar_type() == input.scalar_type(), "conv2d: dtypes differ");
    TORCH_CHECK(b.dim() == 1 && b.size(0) == weight.size(0), "conv2d: bias has the wrong shape");
  }
  const auto x = input.contiguous(), w = weight.contiguous();
  auto output = torch::empty({x.size(0), w.size(0), g.out_height, g.out_width}, x.options());
  std::vector<torch::Tensor> packed;
  if (output.numel() > 0 && !forward_on_tensor_cores(g, x, w, b, output, !tf32, packed)) {
    forward_in_general(g, x, w, b, output);
  }
  return {output, packed};
}

std::tuple<std::optional<torch::Tensor>, std::optional<torch::Tensor>> conv2d_backward(
    const torch::Tensor& grad_output, const torch::Tensor& input, const torch::Tensor& weight,
    const std::vector<torch::Tensor>& packed, const std::vector<int64_t>& stride,
    const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation, int64_t groups,
    bool tf32, bool input_needed, bool weight_needed) {
  const Geometry g = make_geometry(input, weight, stride, padding, dilation, groups);
  check_grad_output(grad_output, input, g);
  const c10::cuda::CUDAGuard guard(input.device());
  const auto dy = grad_output.contiguous(), x = input.contiguous(), w = weight.contiguous();
  std::optional<torch::Tensor> grad_input, grad_weight;
  if (input_needed) {
    grad_input = torch::empty(input.sizes(), input.options());
    input_needed = grad_input->numel() > 0;
  }
  if (weight_needed) {
    weight_needed = dy.numel() > 0;
    grad_weight = weight_needed ? torch::empty(weight.sizes(), weight.options())
                                : torch::zeros(weight.sizes(), weight.options());
  }
  const bool split = !tf32;
  if (dy.numel() > 0 && suits_tensor_cores(g, dy)) {
    PackedTensor gradient = gradient_layout(g);
    pack(gradient, dy, fold_of_gradient(g), g.images * g.groups, is_flat(g), split);
    input_needed =
        input_needed && !grad_input_on_tensor_cores(g, gradient, dy, w, *grad_input, split);
    weight_needed = weight_needed &&
                    !grad_weight_on_tensor_cores(g, gradient, dy, x, *grad_weight, split, packed);
  }
  if (input_needed) {
    grad_input_in_general(g, dy, w, *grad_input);
  }
  if (weight_needed) {
    grad_weight_in_general(g, dy, x, *grad_weight);
  }
  return {grad_input, grad_weight};
}

torch::Tensor conv2d_grad_bias(const torch::Tensor& grad_output) {
  TORCH_CHECK(grad_output.is_cuda(), "conv2d: grad_output must be a CUDA tensor");
  TORCH_CHECK(grad_output.dim() == 4, "conv2d: grad_output must be 4D");
  const c10::cuda::CUDAGuard guard(grad_output.device());
  const int64_t images = grad_output.size(0), filters = grad_output.size(1);
  if (grad_output.numel() == 0) {
    return torch::zeros({filters}, grad_output.options());
  }
  const auto dy = grad_output.contiguous();
  auto grad_bias = torch::empty({filters}, dy.options());
  const int64_t pixels = dy.size(2) * dy.size(3);
  const int64_t chunks = (pixels + kPixelsPerSum - 1) / kPixelsPerSum;
  auto partial_sums = torch::empty({images * chunks, filters}, dy.options());
  const int blocks = static_cast<int>(std::min(partial_sums.numel(), kMaxBlocks));
  AT_DISPATCH_FLOATING_TYPES(dy.scalar_type(), "conv2d_grad_bias", [&] {
    grad_bias_chunks_kernel<scalar_t>
        <<<blocks, kSumThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
            dy.data_ptr<scalar_t>(), partial_sums.data_ptr<scalar_t>(), images, filters, pixels,
            chunks);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    sum_slices<scalar_t>(partial_sums, grad_bias);
  });
  return grad_bias;
}
"""

# Tensor cores are programmed for one architecture at a time: Hopper's have to be asked for.
hopper = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
conv2d_extension = load_inline(
    name="conv2d_solution",
    cpp_sources=cpp_source,
    cuda_sources=cuda_source,
    functions=["conv2d_prepare", "conv2d_forward", "conv2d_backward", "conv2d_grad_bias"],
    extra_cuda_cflags=["-gencode=arch=compute_90a,code=sm_90a"] if hopper else [],
)
conv2d_extension.conv2d_prepare()


def tf32_allowed() -> bool:
    """What PyTorch's own convolution asks: since 2.9 a setting per operator."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    if hasattr(conv, "fp32_precision"):
        return conv.fp32_precision == "tf32"
    return torch.backends.cudnn.allow_tf32


class Conv2dFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple,
        padding: tuple,
        dilation: tuple,
        groups: int,
    ) -> torch.Tensor:
        ctx.geometry = (stride, padding, dilation, groups)
        y, packed = conv2d_extension.conv2d_forward(x, weight, bias, *ctx.geometry, tf32_allowed())
        ctx.save_for_backward(x, weight, *packed)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, *packed = ctx.saved_tensors
        grad_x, grad_weight = conv2d_extension.conv2d_backward(
            grad_output,
            x,
            weight,
            packed,
            *ctx.geometry,
            tf32_allowed(),
            *ctx.needs_input_grad[:2],
        )
        grad_bias = None
        if ctx.needs_input_grad[2]:
            grad_bias = conv2d_extension.conv2d_grad_bias(grad_output)
        return grad_x, grad_weight, grad_bias, None, None, None, None


class ModelNew(nn.Module):
    """
    Convolves an image with a bank of filters.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, one per filter.
        kernel_size: Height and width of the filters.
        stride: Rows and columns between neighbouring windows.
        padding: Rows and columns of zeros on either side of the image.
        dilation: Rows and columns between neighbouring taps of a filter.
        groups: Number of blocks of channels that do not see each other.
        bias: Whether every output channel has a bias.
    """

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
        # Holds and initialises the parameters; its forward is never called.
        self.conv2d = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: Images of shape (batch, in_channels, height, width).

        Returns:
            Feature maps of shape (batch, out_channels, out_height, out_width).
        """
        conv = self.conv2d
        return Conv2dFunction.apply(
            x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
