/* Part of the conv2d variants: dweight. Its engines for mma.sync and wgmma, the kernel that walks down
   strips of the images, the sum over slices, the choice of the tiling.

   Does not: use atomics, or sum in an order that depends on the run. */
// ---- dweight on tensor cores --------------------------------------------------------------------

constexpr int kBands = 4;     // Floats in a unit: the same pixel of four bands.
constexpr int kSegments = 4;  // Parts of a row between which the next row is fetched.
constexpr int kRowBatch = 6;  // Units that a thread has on their way at a time.

// dweight[filter][channel][r][s] = sum over images, p, q of
//     dy[filter][p][q] * input[channel][p * stride_y - padding_y + r * dilation_y][...]
struct WeightGradient {
  const Geometry g;
  const float *dy, *input;
  float2* partial_sums;  // [slice][block][pair][thread], as the threads hold them.
  int bands_per_image, band_rows, bands;
  int strips, strip;   // Columns q are cut into strips.
  int channel_blocks;  // Blocks of 8 channels in a patch.
  int filter_tiles, channel_tiles, tap_tiles, slices;
  int64_t units;        // Rows of strips of quads of bands.
  int runs_along_taps;  // Whether the columns of one multiplication are taps, or blocks of
                        // channels.
  int flush_rows;
  Divider by_strip{1}, by_patch_width{1};
  int patch_width, column_pitch, row_pitch, window_rows, ring_rows;
};

// What a block of threads works on: all taps in rows [first_row, last_row], or taps from first_tap.
template <class Engine>
struct Share {
  int group, first_filter, first_block, first_tap, first_row, last_row;

  __host__ __device__ Share(const WeightGradient& w, int block) {
    const int width = w.g.kernel_width, taps = w.g.taps(1);
    const int count =
        w.runs_along_taps ? Engine::kRuns * width : Engine::kRuns * Engine::kColumnBlocks;
    first_tap = block % w.tap_tiles * count;
    block /= w.tap_tiles;
    first_block = block % w.channel_tiles * w.channel_blocks;
    block /= w.channel_tiles;
    first_filter = block % w.filter_tiles * Engine::kTileMaps;
    group = block / w.filter_tiles;
    const int last = (first_tap + count < taps ? first_tap + count : taps) - 1;
    first_row = first_tap / width;
    last_row = last / width;
  }
};

template <int kMapBlocks_, int kRun_, int kRuns_, bool kSplit_>
struct RowsMmaSync {
  static constexpr int kMapBlocks = kMapBlocks_, kColumnBlocks = 2 / kMapBlocks_;
  static constexpr int kRun = kRun_, kRuns = kRuns_;
  static constexpr bool kSplit = kSplit_;
  static constexpr int kTileMaps = 64 * kMapBlocks;
  static constexpr int kGroups = kRun * kRuns;
  static constexpr int kWarpGroups = (kGroups + 3) / 4 * 2;  // Half of them, an even number.
  static constexpr int kPairs = 2 * kWarpGroups * 2;

  float sums[2][kWarpGroups][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < 2 * kWarpGroups * 4; ++i) (&sums[0][0][0])[i] = 0.0f;
  }
  // Multiplies kSteps pairs of pixels.
  template <int kSteps>
  __device__ __forceinline__ void multiply(
      const float* dy, int dy_part, const float* patch, int patch_part, const int* runs,
      int run_pitch, int pixel_pitch) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
    const float* a_row = dy + (lane / 16 * (kTileMaps + 1) + warp / 2 * 32 + lane % 16) * kUnit;
    int b_rows[kWarpGroups / 2];
#pragma unroll
    for (int n = 0; n < kWarpGroups / 2; ++n) {
      const int group = min(warp % 2 * kWarpGroups + 2 * n + lane / 16, kGroups - 1);
      b_rows[n] =
          (runs[group / kRun] + group % kRun * run_pitch + lane / 8 % 2 * pixel_pitch + lane % 8) *
          kUnit;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t a[2][4], small[2][4], b[4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const float* from = a_row + (step * 2 * (kTileMaps + 1) + m * 16) * kUnit;
        load_matrices(a[m], from);
        if constexpr (kSplit) load_matrices(small[m], from + dy_part);
      }
#pragma unroll
      for (int n = 0; n < kWarpGroups / 2; ++n) {
        const float* from = patch + b_rows[n] + step * 2 * pixel_pitch * kUnit;
        if constexpr (kSplit) {
          load_matrices(b, from + patch_part);
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            multiply_add(sums[m][2 * n], a[m], b[0], b[1]);
            multiply_add(sums[m][2 * n + 1], a[m], b[2], b[3]);
          }
        }
        load_matrices(b, from);
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          if constexpr (kSplit) {
            multiply_add(sums[m][2 * n], small[m], b[0], b[1]);
            multiply_add(sums[m][2 * n + 1], small[m], b[2], b[3]);
          }
          multiply_add(sums[m][2 * n], a[m], b[0], b[1]);
          multiply_add(sums[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
  __device__ __forceinline__ void finish() {}
  __device__ static int pair_map(int i, int thread) {
    return thread / kWarp % 4 / 2 * 32 + i / (2 * kWarpGroups) * 16 + i % 2 * 8 +
           thread % kWarp / 4;
  }
  // May lie beyond the last group.
  __device__ static int pair_group(int i, int thread) {
    return thread / kWarp % 2 * kWarpGroups + i / 2 % kWarpGroups;
  }
  __device__ __forceinline__ float2 pair(int i) const {
    const int m = i / (2 * kWarpGroups), n = i / 2 % kWarpGroups, e = i % 2 * 2;
    return make_float2(sums[m][n][e], sums[m][n][e + 1]);
  }
};

#ifdef CONV2D_HOPPER
template <int kMapBlocks_, int kRun_, int kRuns_, bool kSplit_>
struct RowsWgmma {
  static constexpr int kMapBlocks = kMapBlocks_, kColumnBlocks = 2 / kMapBlocks_;
  static constexpr int kRun = kRun_, kRuns = kRuns_;
  static constexpr bool kSplit = kSplit_;
  static constexpr int kTileMaps = 64 * kMapBlocks;
  static constexpr int kGroups = kRun * kRuns;
  static constexpr int kPairs = 2 * kGroups;

  float sums[kRuns][kRun * 4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kRuns * kRun * 4; ++i) (&sums[0][0])[i] = 0.0f;
  }
  template <int kSteps>
  __device__ __forceinline__ void multiply(
      const float* dy, int dy_part, const float* patch, int patch_part, const int* runs,
      int run_pitch, int pixel_pitch) {
    constexpr int bytes = kUnit * sizeof(float);
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
    const float* a_row = dy + (lane / 16 * (kTileMaps + 1) + warp * 16 + lane % 16) * kUnit;
    uint32_t a[kSteps][4], small[kSplit ? kSteps : 1][4];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const float* from = a_row + step * 2 * (kTileMaps + 1) * kUnit;
      load_matrices(a[step], from);
      if constexpr (kSplit) load_matrices(small[step], from + dy_part);
    }
    begin_multiplications();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int run = 0; run < kRuns; ++run) {
        const float* at = patch + (runs[run] + step * 2 * pixel_pitch) * kUnit;
        const auto b = operand(at, pixel_pitch * bytes, run_pitch * bytes);
        if constexpr (kSplit) {
          multiply_add_async(
              sums[run], a[step], operand(at + patch_part, pixel_pitch * bytes, run_pitch * bytes));
          multiply_add_async(sums[run], small[step], b);
        }
        multiply_add_async(sums[run], a[step], b);
      }
    }
    commit_multiplications();
  }
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int run = 0; run < kRuns; ++run) wait_for_multiplications<0>(sums[run]);
  }
  __device__ static int pair_map(int i, int thread) {
    return thread / kWarp % 4 * 16 + i % 2 * 8 + thread % kWarp / 4;
  }
  __device__ static int pair_group(int i, int) { return i / 2; }
  __device__ __forceinline__ float2 pair(int i) const {
    return make_float2((&sums[0][0])[2 * i], (&sums[0][0])[2 * i + 1]);
  }
};
#endif

template <class Engine, int kStrip>
__global__ void __launch_bounds__(kBlockThreads, 1) weight_gradient_kernel(const WeightGradient w) {
  constexpr int kParts = Engine::kSplit ? 2 : 1;
  constexpr int kPixelPitch = Engine::kTileMaps + 1;  // Of dy, in units: odd, so that neighbouring
  constexpr int kDyUnits = kStrip * kPixelPitch;      // pixels lie in different banks.
  constexpr int kSteps = kStrip / 2 / kSegments;
  constexpr int dy_part = kDyUnits * kUnit;
  // [2][part][pixel][filter][band] of dy, then [part][row][column][channel][band] of the input.
  extern __shared__ __align__(128) float shared[];
  constexpr int ring_begin = 2 * kParts * dy_part;
  __shared__ int64_t dy_offset[kBands], input_offset[kBands];
  __shared__ int dy_rows[kBands], input_row[kBands], input_height[kBands];
  __shared__ int run_rows[2 * Engine::kRuns], run_places[2 * Engine::kRuns];
  __shared__ int runs[2][2 * Engine::kRuns];

  const Geometry& g = w.g;
  const int thread = threadIdx.x, warpgroup = thread / kWarpgroup;
  const int map_block = warpgroup % Engine::kMapBlocks;
  const int column_block = warpgroup / Engine::kMapBlocks;

  const Share<Engine> share(w, blockIdx.x);

  // A run along taps: all taps of row run_rows of one block of channels. Otherwise: all blocks of
  // channels of one tap. Runs too many repeat the last; what they add up is not kept.
  if (thread < Engine::kColumnBlocks * Engine::kRuns) {
    const int block = thread / Engine::kRuns, run = thread % Engine::kRuns;
    int row, place;
    if (w.runs_along_taps) {
      row = min(share.first_row + run, share.last_row);
      place = block * 8;
    } else {
      const int tap = min(share.first_tap + thread, g.taps(1) - 1);
      row = min(tap / g.kernel_width, share.last_row);
      place = tap % g.kernel_width * g.dilation_x * w.column_pitch;
    }
    run_rows[thread] = (row - share.first_row) * g.dilation_y;
    run_places[thread] = place;
  }
  const int run_pitch = w.runs_along_taps ? g.dilation_x * w.column_pitch : 8;

  const int64_t unit_begin = w.units * blockIdx.y / w.slices;
  const int64_t unit_end = w.units * (blockIdx.y + 1) / w.slices;
  const int window_rows = (share.last_row - share.first_row) * g.dilation_y + 1;
  const int patch_channels = w.channel_blocks * 8;
  const int row_units = w.patch_width * patch_channels;
  const int ring_part = w.ring_rows * w.row_pitch * kUnit;
  const int64_t out_pixels = g.out_pixels(), pixels = g.pixels();

  Engine engine;
  engine.clear();
  bool flushed = false;
  const auto flush = [&] {
    float2* to = w.partial_sums +
                 (int64_t(blockIdx.y) * gridDim.x + blockIdx.x) * Engine::kPairs * kBlockThreads +
                 thread;
#pragma unroll
    for (int i = 0; i < Engine::kPairs; ++i) {
      float2 sum = engine.pair(i);
      if (flushed) {
        const float2 before = to[i * kBlockThreads];
        sum.x += before.x;
        sum.y += before.y;
      }
      to[i * kBlockThreads] = sum;
    }
    flushed = true;
    engine.clear();
  };

  struct Staged {
    float value[kBands];
    int to;  // In floats; -1 for nothing.
  };
  int strip_x, patch_x;
  // Unit i of a row of dy.
  const auto fetch_dy = [&](int i, int row, int buffer) {
    Staged staged;
    const int pixel = i % kStrip, filter = i / kStrip;
    const bool inside = strip_x + pixel < g.out_width && share.first_filter + filter < g.filters;
    const int64_t at = filter * out_pixels + int64_t(row) * g.out_width + strip_x + pixel;
#pragma unroll
    for (int e = 0; e < kBands; ++e) {
      staged.value[e] = inside && row < dy_rows[e] ? w.dy[dy_offset[e] + at] : 0.0f;
    }
    staged.to = buffer * kParts * dy_part + (pixel * kPixelPitch + filter) * kUnit;
    return staged;
  };
  // Unit i of row `row` of the input, counted from the first row of the bands' windows.
  const auto fetch_input = [&](int i, int row) {
    Staged staged;
    int column = i;
    const int channel = w.by_patch_width.divide(column);
    const int x = patch_x + column;
    const bool inside = x >= 0 && x < g.width && share.first_block * 8 + channel < g.channels;
    const int64_t at = channel * pixels + int64_t(row) * g.width + x;
#pragma unroll
    for (int e = 0; e < kBands; ++e) {
      const int y = input_row[e] + row;
      staged.value[e] =
          inside && y >= 0 && y < input_height[e] ? w.input[input_offset[e] + at] : 0.0f;
    }
    staged.to =
        ring_begin + (row % w.ring_rows * w.row_pitch + column * w.column_pitch + channel) * kUnit;
    return staged;
  };
  const auto place = [&](const Staged& staged) {
    if (staged.to < 0) return;
    float big[kBands];
#pragma unroll
    for (int e = 0; e < kBands; ++e) big[e] = round_to_tf32(staged.value[e]);
    float4* to = reinterpret_cast<float4*>(shared + staged.to);
    *to = make_float4(big[0], big[1], big[2], big[3]);
    if constexpr (Engine::kSplit) {
      float small[kBands];
#pragma unroll
      for (int e = 0; e < kBands; ++e) small[e] = round_to_tf32(staged.value[e] - big[e]);
      to[(staged.to < ring_begin ? dy_part : ring_part) / kUnit] =
          make_float4(small[0], small[1], small[2], small[3]);
    }
  };
  constexpr int dy_slots = Engine::kTileMaps * kStrip / kBlockThreads;
  // Where the runs start when the window's first row is `row`.
  const auto aim_runs = [&](int row, int* to) {
    if (thread < Engine::kColumnBlocks * Engine::kRuns) {
      to[thread] =
          (row * g.stride_y + run_rows[thread]) % w.ring_rows * w.row_pitch + run_places[thread];
    }
  };

  int unflushed = 0;
  for (int64_t unit = unit_begin; unit < unit_end;) {
    const int first_row = static_cast<int>(unit % w.band_rows);
    const int strip = static_cast<int>(unit / w.band_rows % w.strips);
    const int quad = static_cast<int>(unit / w.band_rows / w.strips);
    const int rows = static_cast<int>(min(int64_t(w.band_rows - first_row), unit_end - unit));
    unit += rows;
    __syncthreads();
    if (thread < kBands) {
      const int band = quad * kBands + thread;
      const int image = band / w.bands_per_image;
      const int first = band % w.bands_per_image * w.band_rows;
      const bool exists = band < w.bands;
      dy_rows[thread] = exists ? min(w.band_rows, g.out_height - first) : 0;
      dy_offset[thread] =
          ((int64_t(image) * g.groups + share.group) * g.filters + share.first_filter) *
              out_pixels +
          int64_t(first) * g.out_width;
      input_row[thread] = first * g.stride_y - g.padding_y + share.first_row * g.dilation_y;
      input_height[thread] = exists ? g.height : 0;
      input_offset[thread] =
          ((int64_t(image) * g.groups + share.group) * g.channels + share.first_block * 8) *
              pixels +
          int64_t(input_row[thread]) * g.width;
    }
    strip_x = strip * kStrip;
    patch_x = strip_x * g.stride_x - g.padding_x;
    aim_runs(first_row, runs[0]);
    __syncthreads();
    for (int slot = 0; slot < dy_slots; ++slot) {
      place(fetch_dy(slot * kBlockThreads + thread, first_row, 0));
    }
    for (int i = thread; i < window_rows * row_units; i += kBlockThreads) {
      place(fetch_input(i % row_units, first_row * g.stride_y + i / row_units));
    }
    publish_shared_memory();
    __syncthreads();

    for (int i = 0; i < rows; ++i) {
      const int row = first_row + i;
      const int here = i % 2;
      const int next_input = row * g.stride_y + window_rows;
      const int input_units = g.stride_y * row_units;
      const int slots =
          i + 1 < rows ? dy_slots + (input_units + kBlockThreads - 1) / kBlockThreads : 0;
      const int segment_slots = (slots + kSegments - 2) / (kSegments - 1);
      aim_runs(row + 1, runs[1 - here]);
      const auto fetch = [&](int slot) {
        if (slot < dy_slots) return fetch_dy(slot * kBlockThreads + thread, row + 1, 1 - here);
        const int at = (slot - dy_slots) * kBlockThreads + thread;
        if (at < input_units) return fetch_input(at % row_units, next_input + at / row_units);
        Staged none;
        none.to = -1;
        return none;
      };
      // What a segment fetches while it is multiplied, the next one places.
      Staged staged[kRowBatch];
#pragma unroll
      for (int j = 0; j < kRowBatch; ++j) staged[j].to = -1;
#pragma unroll
      for (int segment = 0; segment < kSegments; ++segment) {
        engine.template multiply<kSteps>(
            shared + here * kParts * dy_part +
                (segment * kSteps * 2 * kPixelPitch + map_block * 64) * kUnit,
            dy_part,
            shared + ring_begin + segment * kSteps * 2 * g.stride_x * w.column_pitch * kUnit,
            ring_part, runs[here] + column_block * Engine::kRuns, run_pitch,
            g.stride_x * w.column_pitch);
#pragma unroll
        for (int j = 0; j < kRowBatch; ++j) place(staged[j]);
        if (segment + 1 < kSegments) {
          int slot = segment * segment_slots;
          const int slot_end = min(slot + segment_slots, slots);
#pragma unroll
          for (int j = 0; j < kRowBatch; ++j) {
            staged[j].to = -1;
            if (slot + j < slot_end) staged[j] = fetch(slot + j);
          }
          for (slot += kRowBatch; slot < slot_end; ++slot) place(fetch(slot));
        }
        engine.finish();
      }
      if (++unflushed == w.flush_rows) {
        flush();
        unflushed = 0;
      }
      publish_shared_memory();
      __syncthreads();
    }
  }
  flush();
}

// Adds up what the slices found, and puts it where it belongs.
template <class Engine>
__global__ void sum_pairs_kernel(
    const WeightGradient w, float* __restrict__ grad_weight, int64_t pairs) {
  const int64_t at = int64_t(blockIdx.x) * kBlockThreads + threadIdx.x;
  const int thread = threadIdx.x, warpgroup = thread / kWarpgroup;
  const int i = static_cast<int>(blockIdx.x % Engine::kPairs);
  const Share<Engine> share(w, static_cast<int>(blockIdx.x / Engine::kPairs));
  const int n = Engine::pair_group(i, thread);
  const int run = n / Engine::kRun, element = n % Engine::kRun;
  const int column_block = warpgroup / Engine::kMapBlocks;
  const int filter =
      share.first_filter + warpgroup % Engine::kMapBlocks * 64 + Engine::pair_map(i, thread);
  int tap, block;
  if (w.runs_along_taps) {
    tap = (share.first_row + run) * w.g.kernel_width + element;
    block = share.first_block + column_block;
  } else {
    tap = share.first_tap + column_block * Engine::kRuns + run;
    block = share.first_block + element;
  }
  const int channel = block * 8 + thread % 4 * 2, taps = w.g.taps(1);
  if (n >= Engine::kGroups || filter >= w.g.filters || tap >= taps) {
    return;
  }
  double x = 0, y = 0;
  for (int slice = 0; slice < w.slices; ++slice) {
    const float2 sum = w.partial_sums[slice * pairs + at];
    x += sum.x;
    y += sum.y;
  }
  float* to = grad_weight +
              ((int64_t(share.group) * w.g.filters + filter) * w.g.channels + channel) * taps + tap;
  if (channel < w.g.channels) to[0] = static_cast<float>(x);
  if (channel + 1 < w.g.channels) to[taps] = static_cast<float>(y);
}

// Chooses the tiling; false if the general kernel is the better choice.
template <class Engine, int kStrip>
bool weight_gradient_with(WeightGradient w, bool along_taps, const torch::Tensor& grad_weight) {
  constexpr int parts = Engine::kSplit ? 2 : 1;
  const Geometry& g = w.g;
  w.runs_along_taps = along_taps;
  w.channel_blocks = along_taps ? Engine::kColumnBlocks : Engine::kRun;
  w.filter_tiles = static_cast<int>(ceil_div(g.filters, Engine::kTileMaps));
  w.channel_tiles = static_cast<int>(ceil_div(g.channels, w.channel_blocks * 8));
  w.tap_tiles = static_cast<int>(
      along_taps ? ceil_div(g.kernel_height, Engine::kRuns)
                 : ceil_div(g.taps(1), Engine::kRuns * Engine::kColumnBlocks));
  w.bands_per_image = g.images % 4 == 0 ? 1 : g.images % 2 == 0 ? 2 : 4;
  w.band_rows = static_cast<int>(ceil_div(g.out_height, w.bands_per_image));
  w.bands = static_cast<int>(g.images) * w.bands_per_image;
  w.strip = kStrip;
  w.strips = static_cast<int>(ceil_div(g.out_width, kStrip));
  w.units = ceil_div(w.bands, kBands) * w.strips * w.band_rows;
  const int64_t patch_width =
      int64_t(kStrip - 1) * g.stride_x + int64_t(g.kernel_width - 1) * g.dilation_x + 1;
  const int64_t column_pitch = w.channel_blocks * 8 + 1;  // Odd, as that of dy.
  const int64_t row_pitch = patch_width * column_pitch;
  int window_rows = 1;
  for (int tile = 0; tile < w.tap_tiles; ++tile) {
    const Share<Engine> share(w, tile);
    window_rows = std::max(window_rows, (share.last_row - share.first_row) * g.dilation_y + 1);
  }
  const int64_t ring_rows = window_rows + int64_t(g.stride_y);
  const int64_t bytes = sizeof(float) * parts * kUnit *
                        (2 * int64_t(kStrip) * (Engine::kTileMaps + 1) + ring_rows * row_pitch);
  if (bytes > kSharedBytes - 2048 || g.images > (1 << 24)) {
    return false;
  }
  w.patch_width = static_cast<int>(patch_width);
  w.by_patch_width = Divider(patch_width);
  w.column_pitch = static_cast<int>(column_pitch);
  w.row_pitch = static_cast<int>(row_pitch);
  w.ring_rows = static_cast<int>(ring_rows);
  // tf32 sums at most 2^15 products before they are flushed, fp32 2^8.
  w.flush_rows = std::max(1, (Engine::kSplit ? 256 : 32768) / (kStrip * kBands));

  const int64_t columns = g.groups * w.filter_tiles * w.channel_tiles * w.tap_tiles;
  const int processors = multiprocessors();
  w.slices = 1;
  double best = 0;
  for (int waves = 1; waves <= 4; ++waves) {
    const int64_t slices = std::min<int64_t>(
        std::max<int64_t>(1, processors * waves / columns), std::max<int64_t>(1, w.units / 8));
    const int64_t blocks = slices * columns;
    const double busy = double(blocks) / (ceil_div(blocks, processors) * processors);
    if (busy > best + 0.01 && slices < 65536) {
      best = busy;
      w.slices = static_cast<int>(slices);
    }
  }
  torch::Tensor partial = torch::empty(
      {w.slices * columns * Engine::kPairs * kBlockThreads * 2}, grad_weight.options());
  w.partial_sums = reinterpret_cast<float2*>(partial.data_ptr<float>());
  C10_CUDA_CHECK(cudaFuncSetAttribute(
      weight_gradient_kernel<Engine, kStrip>, cudaFuncAttributeMaxDynamicSharedMemorySize,
      static_cast<int>(bytes)));
  const dim3 grid(static_cast<unsigned>(columns), w.slices);
  weight_gradient_kernel<Engine, kStrip>
      <<<grid, kBlockThreads, static_cast<size_t>(bytes), c10::cuda::getCurrentCUDAStream()>>>(w);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const int64_t pairs = columns * Engine::kPairs * kBlockThreads;
  sum_pairs_kernel<Engine>
      <<<static_cast<unsigned>(ceil_div(pairs, kBlockThreads)), kBlockThreads, 0,
         c10::cuda::getCurrentCUDAStream()>>>(w, grad_weight.data_ptr<float>(), pairs);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return true;
}

#ifdef CONV2D_HOPPER
template <int map_blocks, int run, int runs, bool split>
using RowEngine = RowsWgmma<map_blocks, run, runs, split>;
#else
template <int map_blocks, int run, int runs, bool split>
using RowEngine = RowsMmaSync<map_blocks, run, runs, split>;
#endif

template <int map_blocks, bool split>
bool weight_gradient_of(const WeightGradient& w, const torch::Tensor& grad_weight) {
  constexpr int strip = split ? 16 : 32;  // Narrower where the ring of rows is large.
  using Wide = RowEngine<map_blocks, 7, 5, split>;
  using Pointwise = RowEngine<map_blocks, 16, 1, split>;
  using Other = RowEngine<map_blocks, 4, 9, split>;
  if (w.g.kernel_width == 7 && weight_gradient_with<Wide, strip>(w, true, grad_weight)) {
    return true;
  }
  if (w.g.taps(1) == 1) {
    return weight_gradient_with<Pointwise, 16>(w, false, grad_weight);
  }
  return weight_gradient_with<Other, strip>(w, false, grad_weight) ||
         weight_gradient_with<Other, strip / 2>(w, false, grad_weight);
}

bool weight_gradient(
    const Geometry& g, const torch::Tensor& dy, const torch::Tensor& x,
    const torch::Tensor& grad_weight, bool tf32) {
  WeightGradient w{g};
  w.dy = dy.data_ptr<float>(), w.input = x.data_ptr<float>();
  const bool tall = ceil_div(g.filters, 64) % 2 == 0;
  const double useful = double(g.filters) / (ceil_div(g.filters, 64) * 64) * g.channels /
                        (ceil_div(g.channels, 32) * 32);
  if (useful < kUsefulShare) {
    return false;
  }
  if (tf32) {
    return tall ? weight_gradient_of<2, false>(w, grad_weight)
                : weight_gradient_of<1, false>(w, grad_weight);
  }
  return tall ? weight_gradient_of<2, true>(w, grad_weight)
              : weight_gradient_of<1, true>(w, grad_weight);
}
