/* Part of the conv2d variants: forward and dinput. The walk of a block over its tiles, the engine for
   mma.sync, the packing of weights, the choice of the tiling. The engine for wgmma, correlation_wgmma.cu,
   is put in front of the kernel.

   Does not: compute dweight, or choose between engines (dispatch.cu). */
// ---- Forward and dinput on tensor cores: correlations -------------------------------------------

constexpr int kWarp = 32;
constexpr int kWarpgroup = 4 * kWarp;
constexpr int kBlockThreads = 2 * kWarpgroup;
constexpr int kUnit = 4;            // Floats in 16 bytes.
constexpr int kStepUnits = 2;       // Units of depth that one mma multiplies,
constexpr int kStageSteps = 4;      // steps in a stage,
constexpr int kStages = 4;          // and stages of weights in shared memory.
constexpr int kPromotedStages = 4;  // fp32: stages whose sums stay in the tensor cores' hands.
constexpr int kPatchBatch = 2;      // Patch units that a thread has on their way at a time.
constexpr int kMaxSide = 32;        // Tap rows or columns that a launch can have.
constexpr int kMaxQuads = 8;        // Units of depth in a chunk.
constexpr int kSharedBytes = 227 * 1024;
constexpr double kUsefulShare = 0.25;  // Of a tile's multiplications; below, other kernels win.

// The rows (columns) of taps that a launch uses: output row i reads input row i * step + offset.
struct TapLine {
  int count = 0, first = 0, last = 0;  // The lowest and highest offset.
  int tap[kMaxSide], offset[kMaxSide];

  void add(int which, int where) {
    first = count == 0 ? where : std::min(first, where);
    last = count == 0 ? where : std::max(last, where);
    tap[count] = which;
    offset[count++] = where;
  }
};

// output[m][p][q] = bias[m] + sum over k, r, s of
//     weight[m][k][tap_r][tap_s] * input[k][p * step_y + offset_r][q * step_x + offset_s]
// for all images and groups.
struct Correlation {
  const float *input = nullptr, *packed_weights = nullptr, *bias = nullptr;
  float* output = nullptr;
  int images, groups, depth_maps, maps;  // Of one group: k counts depth_maps, m counts maps.
  int height, width, step_y, step_x;     // Of the input.
  int rows, columns;                     // p and q. They are written to row
  int out_height, out_width;             // first_y + p * out_step_y of a map
  int first_y, first_x, out_step_y, out_step_x;
  TapLine taps_y, taps_x;

  // The tiling.
  int quads, chunks, stages_per_chunk, patch_buffers;
  int patch_height, patch_width, phase_pitch, row_pitch, plane;
  int map_tiles, tiles_y, tiles_x, tiles;
  Divider by_patch_pixels{1}, by_patch_width{1}, by_step_x{1};

  __host__ __device__ int steps_per_chunk() const { return stages_per_chunk * kStageSteps; }
};

// What a tile covers.
struct Tile {
  int image, group, map_tile, y, x;

  __device__ Tile(const Correlation& c, int tile, int tile_height, int tile_width) {
    map_tile = tile % c.map_tiles;
    tile /= c.map_tiles;
    x = tile % c.tiles_x * tile_width;
    tile /= c.tiles_x;
    y = tile % c.tiles_y * tile_height;
    tile /= c.tiles_y;
    group = tile % c.groups;
    image = tile / c.groups;
  }
};

// A place in the walk of a block over its tiles, their chunks and stages.
struct Cursor {
  int tile, chunk = 0, stage = 0;

  __device__ void next_chunk(const Correlation& c) {
    stage = 0;
    if (++chunk == c.chunks) {
      chunk = 0;
      tile += gridDim.x;
    }
  }
  __device__ void next_stage(const Correlation& c) {
    if (++stage == c.stages_per_chunk) {
      next_chunk(c);
    }
  }
};

// One warpgroup's 64 maps x kGroups groups of 8 pixels by mma.sync. Each of its four warps takes
// all maps and a quarter of the groups:  sums[16 maps][group][c-fragment].
template <int kMapBlocks_, bool kSplit_>
struct MmaSync {
  static constexpr int kMapBlocks = kMapBlocks_;
  static constexpr bool kSplit = kSplit_;
  static constexpr int kGroups = kSplit ? 16 : 32;
  static constexpr int kTileMaps = 64 * kMapBlocks;
  static constexpr int kWarpGroups = kGroups / 4;
  static constexpr int kPairs = 4 * kWarpGroups * 2;

  float sums[4][kWarpGroups][4];
  float totals[kSplit ? 4 : 1][kSplit ? kWarpGroups : 1][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < 4 * kWarpGroups * 4; ++i) {
      (&sums[0][0][0])[i] = 0.0f;
      if (kSplit) (&totals[0][0][0])[i] = 0.0f;
    }
  }

  // `weights` and `patch` point to the warpgroup's first map and pixel.
  __device__ __forceinline__ void multiply(
      const float* weights, const float* patch, const int* offsets, const Correlation& c) {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4;
    const int group_pitch = c.step_y * c.row_pitch * kUnit;
    const float* a_row = weights + (lane / 16 * kTileMaps + lane % 16) * kUnit;
    const float* b_row = patch + lane / 8 % 2 * c.plane * kUnit + lane % 8 * kUnit +
                         (warp * kWarpGroups + lane / 16) * group_pitch;
    constexpr int a_part = kStageSteps * kStepUnits * kTileMaps * kUnit;
    const int b_part = c.quads * c.plane * kUnit;
#pragma unroll
    for (int step = 0; step < kStageSteps; ++step) {
      const float* a_step = a_row + step * kStepUnits * kTileMaps * kUnit;
      const float* b_step = b_row + offsets[step] * kUnit;
      uint32_t a[4][4], b[kWarpGroups / 2][4];
#pragma unroll
      for (int m = 0; m < 4; ++m) load_matrices(a[m], a_step + m * 16 * kUnit);
#pragma unroll
      for (int n = 0; n < kWarpGroups / 2; ++n) load_matrices(b[n], b_step + 2 * n * group_pitch);
      if constexpr (kSplit) {
        uint32_t small[4];
#pragma unroll
        for (int n = 0; n < kWarpGroups / 2; ++n) {
          load_matrices(small, b_step + b_part + 2 * n * group_pitch);
#pragma unroll
          for (int m = 0; m < 4; ++m) {
            multiply_add(sums[m][2 * n], a[m], small[0], small[1]);
            multiply_add(sums[m][2 * n + 1], a[m], small[2], small[3]);
          }
        }
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          load_matrices(small, a_step + a_part + m * 16 * kUnit);
#pragma unroll
          for (int n = 0; n < kWarpGroups / 2; ++n) {
            multiply_add(sums[m][2 * n], small, b[n][0], b[n][1]);
            multiply_add(sums[m][2 * n + 1], small, b[n][2], b[n][3]);
          }
        }
      }
#pragma unroll
      for (int n = 0; n < kWarpGroups / 2; ++n) {
#pragma unroll
        for (int m = 0; m < 4; ++m) {
          multiply_add(sums[m][2 * n], a[m], b[n][0], b[n][1]);
          multiply_add(sums[m][2 * n + 1], a[m], b[n][2], b[n][3]);
        }
      }
    }
  }

  __device__ __forceinline__ void wait_for_earlier() {}
  __device__ __forceinline__ void promote() {
    if constexpr (kSplit) {
#pragma unroll
      for (int i = 0; i < 4 * kWarpGroups * 4; ++i) {
        (&totals[0][0][0])[i] += (&sums[0][0][0])[i];
        (&sums[0][0][0])[i] = 0.0f;
      }
    }
  }

  __device__ __forceinline__ void finish() { promote(); }

  // The i-th pair of neighbouring pixels that this thread holds.
  __device__ static int pair_map(int i) {
    return i / (2 * kWarpGroups) * 16 + i % 2 * 8 + threadIdx.x % kWarp / 4;
  }
  __device__ static int pair_group(int i) {
    return threadIdx.x / kWarp % 4 * kWarpGroups + i / 2 % kWarpGroups;
  }
  __device__ __forceinline__ float2 pair(int i) const {
    const int m = i / (2 * kWarpGroups), n = i / 2 % kWarpGroups, e = i % 2 * 2;
    if constexpr (kSplit) return make_float2(totals[m][n][e], totals[m][n][e + 1]);
    return make_float2(sums[m][n][e], sums[m][n][e + 1]);
  }
};

template <class Engine>
__global__ void __launch_bounds__(kBlockThreads, 1) correlation_kernel(const Correlation c) {
  constexpr int kParts = Engine::kSplit ? 2 : 1;
  constexpr int kTileMaps = Engine::kTileMaps;
  constexpr int kPixelBlocks = 2 / Engine::kMapBlocks;
  constexpr int kTileHeight = Engine::kGroups, kTileWidth = 8 * kPixelBlocks;
  constexpr int kStageFloats = kParts * kStageSteps * kStepUnits * kTileMaps * kUnit;
  extern __shared__ __align__(128) float shared[];
  float* const weights = shared;
  float* const patches = weights + kStages * kStageFloats;
  const int patch_floats = kParts * c.quads * c.plane * kUnit;
  int* const offsets = reinterpret_cast<int*>(patches + c.patch_buffers * patch_floats);

  const int thread = threadIdx.x;
  const int warpgroup = thread / kWarpgroup;
  const int map_block = warpgroup % Engine::kMapBlocks;
  const int pixel_block = warpgroup / Engine::kMapBlocks;

  // Where the first pixel of every step lies in the patch.
  const int pairs = c.quads / kStepUnits;
  for (int step = thread; step < c.steps_per_chunk(); step += kBlockThreads) {
    const int tap = step / pairs;
    int offset = 0;  // Steps past the last tap have weights of zero.
    if (tap < c.taps_y.count * c.taps_x.count) {
      const int y = c.taps_y.offset[tap / c.taps_x.count] - c.taps_y.first;
      const int x = c.taps_x.offset[tap % c.taps_x.count] - c.taps_x.first;
      offset = step % pairs * kStepUnits * c.plane + y * c.row_pitch +
               x % c.step_x * c.phase_pitch + x / c.step_x;
    }
    offsets[step] = offset;
  }

  const auto copy_weights = [&](const Cursor& at, int slot) {
    if (at.tile < c.tiles) {
      const Tile tile(c, at.tile, kTileHeight, kTileWidth);
      const int64_t block =
          (int64_t(tile.group * c.map_tiles + tile.map_tile) * c.chunks + at.chunk) *
              c.stages_per_chunk +
          at.stage;
      const float* from = c.packed_weights + block * kStageFloats;
      float* to = weights + slot * kStageFloats;
#pragma unroll
      for (int i = 0; i < kStageFloats; i += kBlockThreads * kUnit) {
        copy_async(to + i + thread * kUnit, from + i + thread * kUnit);
      }
    }
    commit_copies();
  };

  // The patch of the chunk that is on its way.
  const int64_t map_size = int64_t(c.height) * c.width;
  const int patch_units = c.patch_height * c.patch_width * c.quads;
  const float* maps;
  int patch_y, patch_x, maps_left;
  const auto aim = [&](const Cursor& at) {
    maps_left = 0;
    if (at.tile < c.tiles) {
      const Tile tile(c, at.tile, kTileHeight, kTileWidth);
      const int first = at.chunk * c.quads * kUnit;
      patch_y = tile.y * c.step_y + c.taps_y.first;
      patch_x = tile.x * c.step_x + c.taps_x.first;
      maps_left = c.depth_maps - first;
      maps =
          c.input + (int64_t(tile.image * c.groups + tile.group) * c.depth_maps + first) * map_size;
    }
  };
  struct Staged {
    float value[kUnit];
    int unit;
  };
  const auto fetch = [&](int i) {
    Staged staged;
    staged.unit = -1;
    if (i < patch_units && maps_left > 0) {
      int column = i;
      const int quad = c.by_patch_pixels.divide(column);
      const int row = c.by_patch_width.divide(column);
      const int y = patch_y + row, x = patch_x + column;
      const bool inside = y >= 0 && y < c.height && x >= 0 && x < c.width;
      const float* from = maps + int64_t(quad * kUnit) * map_size + int64_t(y) * c.width + x;
#pragma unroll
      for (int j = 0; j < kUnit; ++j) {
        staged.value[j] = inside && quad * kUnit + j < maps_left ? from[j * map_size] : 0.0f;
      }
      const int place = c.by_step_x.divide(column);
      staged.unit = quad * c.plane + row * c.row_pitch + column * c.phase_pitch + place;
    }
    return staged;
  };
  const auto place = [&](float* patch, const Staged& staged) {
    if (staged.unit >= 0) {
      float big[kUnit];
#pragma unroll
      for (int j = 0; j < kUnit; ++j) big[j] = round_to_tf32(staged.value[j]);
      float4* to = reinterpret_cast<float4*>(patch) + staged.unit;
      *to = make_float4(big[0], big[1], big[2], big[3]);
      if constexpr (Engine::kSplit) {
        float small[kUnit];
#pragma unroll
        for (int j = 0; j < kUnit; ++j) small[j] = round_to_tf32(staged.value[j] - big[j]);
        to[c.quads * c.plane] = make_float4(small[0], small[1], small[2], small[3]);
      }
    }
  };

  // How the filling of the next patch is dealt out to the stages. With two buffers the first stage
  // has to be left out: the other warpgroup may still read the buffer.
  const int idle_stages = c.patch_buffers == 2 ? 1 : 0;
  const int slots = (patch_units + kBlockThreads - 1) / kBlockThreads;
  const int stage_slots =
      (slots + c.stages_per_chunk - idle_stages - 1) / (c.stages_per_chunk - idle_stages);

  Cursor now{static_cast<int>(blockIdx.x)}, ahead = now;
  aim(now);
  for (int slot = 0; slot < slots; ++slot) {
    place(patches, fetch(slot * kBlockThreads + thread));
  }
#pragma unroll
  for (int slot = 0; slot < kStages - 2; ++slot) {
    copy_weights(ahead, slot);
    ahead.next_stage(c);
  }

  Engine engine;
  int slot = 0, patch = 0;
  while (now.tile < c.tiles) {
    const Tile tile(c, now.tile, kTileHeight, kTileWidth);
    engine.clear();
    int unpromoted = 0;
    for (int left = c.chunks * c.stages_per_chunk; left > 0; --left) {
      wait_for_copies<kStages - 3>();
      publish_shared_memory();
      __syncthreads();
      copy_weights(ahead, (slot + kStages - 2) % kStages);
      ahead.next_stage(c);

      const int next_patch = patch + 1 == c.patch_buffers ? 0 : patch + 1;
      if (now.stage == 0) {
        Cursor coming = now;
        coming.next_chunk(c);
        aim(coming);
      }
      int fill = (now.stage - idle_stages) * stage_slots;
      const int fill_end = min(fill + stage_slots, slots);
      fill = fill < 0 ? fill_end : fill;
      Staged staged[kPatchBatch];
#pragma unroll
      for (int i = 0; i < kPatchBatch; ++i) {
        staged[i].unit = -1;
        if (fill + i < fill_end) staged[i] = fetch((fill + i) * kBlockThreads + thread);
      }

      engine.multiply(
          weights + slot * kStageFloats + map_block * 64 * kUnit,
          patches + patch * patch_floats + pixel_block * 8 * kUnit,
          offsets + now.stage * kStageSteps, c);
      engine.wait_for_earlier();

      float* filled = patches + next_patch * patch_floats;
#pragma unroll
      for (int i = 0; i < kPatchBatch; ++i) place(filled, staged[i]);
      for (fill += kPatchBatch; fill < fill_end; fill += kPatchBatch) {
#pragma unroll
        for (int i = 0; i < kPatchBatch; ++i) {
          staged[i].unit = -1;
          if (fill + i < fill_end) staged[i] = fetch((fill + i) * kBlockThreads + thread);
        }
#pragma unroll
        for (int i = 0; i < kPatchBatch; ++i) place(filled, staged[i]);
      }

      slot = slot + 1 == kStages ? 0 : slot + 1;
      if (++unpromoted == kPromotedStages) {
        engine.promote();
        unpromoted = 0;
      }
      now.next_stage(c);
      if (now.stage == 0) patch = next_patch;
    }
    engine.finish();

    const int first_map = tile.map_tile * kTileMaps + map_block * 64;
    const int x = tile.x + pixel_block * 8 + thread % 4 * 2;
    const bool vector = c.out_step_x == 1 && c.out_width % 2 == 0 && c.first_x == 0;
    float* maps_out = c.output + int64_t(tile.image * c.groups + tile.group) * c.maps *
                                     c.out_height * c.out_width;
#pragma unroll
    for (int i = 0; i < Engine::kPairs; ++i) {
      const int map = first_map + Engine::pair_map(i);
      const int y = tile.y + Engine::pair_group(i);
      if (map < c.maps && y < c.rows && x < c.columns) {
        float2 sum = engine.pair(i);
        if (c.bias != nullptr) {
          const float bias = c.bias[tile.group * c.maps + map];
          sum.x += bias;
          sum.y += bias;
        }
        float* to = maps_out +
                    (int64_t(map) * c.out_height + c.first_y + y * c.out_step_y) * c.out_width +
                    c.first_x + x * c.out_step_x;
        if (vector && x + 1 < c.columns) {
          *reinterpret_cast<float2*>(to) = sum;
        } else {
          to[0] = sum.x;
          if (x + 1 < c.columns) to[c.out_step_x] = sum.y;
        }
      }
    }
  }
}

// Where a correlation finds weight[m][k][r][s] of a group.
struct WeightStrides {
  int64_t group, map, depth;
  int tap_y;
};

// Lays the weights out as the stages that correlation_kernel copies:
//   [group][map tile][chunk][stage][part][step][unit][map][4]
__global__ void pack_weights_kernel(
    const Correlation c, const WeightStrides strides, const float* __restrict__ weight,
    float* __restrict__ packed, int tile_maps, int parts, int64_t units) {
  const int pairs = c.quads / kStepUnits, taps = c.taps_y.count * c.taps_x.count;
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < units; i += stride) {
    int64_t rest = i;
    const int map_in_tile = static_cast<int>(rest % tile_maps);
    rest /= tile_maps;
    const int unit = static_cast<int>(rest % kStepUnits);
    rest /= kStepUnits;
    const int step_in_stage = static_cast<int>(rest % kStageSteps);
    rest /= kStageSteps;  // Now the stage, counted from the first.
    const int64_t stage_index = rest;
    const int step = static_cast<int>(rest % c.stages_per_chunk) * kStageSteps + step_in_stage;
    rest /= c.stages_per_chunk;
    const int chunk = static_cast<int>(rest % c.chunks);
    rest /= c.chunks;
    const int map = static_cast<int>(rest % c.map_tiles) * tile_maps + map_in_tile;
    const int64_t group = rest / c.map_tiles;
    const int tap = step / pairs;
    const int depth = (chunk * c.quads + step % pairs * kStepUnits + unit) * kUnit;
    const int64_t stage_units = int64_t(kStageSteps) * kStepUnits * tile_maps;
    float4* to =
        reinterpret_cast<float4*>(packed) + stage_index * parts * stage_units + i % stage_units;
    float big[kUnit], small[kUnit];
    for (int j = 0; j < kUnit; ++j) {
      float value = 0.0f;
      if (map < c.maps && tap < taps && depth + j < c.depth_maps) {
        value = weight
            [group * strides.group + map * strides.map + (depth + j) * strides.depth +
             c.taps_y.tap[tap / c.taps_x.count] * strides.tap_y +
             c.taps_x.tap[tap % c.taps_x.count]];
      }
      big[j] = round_to_tf32(value);
      small[j] = round_to_tf32(value - big[j]);
    }
    to[0] = make_float4(big[0], big[1], big[2], big[3]);
    if (parts == 2) {
      to[stage_units] = make_float4(small[0], small[1], small[2], small[3]);
    }
  }
}

// Chooses the tiling of a correlation; false if the general kernel is the better choice.
template <class Engine>
bool plan(Correlation& c, size_t& shared_bytes) {
  constexpr int parts = Engine::kSplit ? 2 : 1;
  constexpr int tile_height = Engine::kGroups, tile_width = 16 / Engine::kMapBlocks;
  c.map_tiles = static_cast<int>(ceil_div(c.maps, Engine::kTileMaps));
  c.tiles_y = static_cast<int>(ceil_div(c.rows, tile_height));
  c.tiles_x = static_cast<int>(ceil_div(c.columns, tile_width));
  const int64_t tiles = int64_t(c.images) * c.groups * c.map_tiles * c.tiles_y * c.tiles_x;
  const int64_t taps = int64_t(c.taps_y.count) * c.taps_x.count;
  const int64_t patch_height =
      int64_t(tile_height - 1) * c.step_y + c.taps_y.last - c.taps_y.first + 1;
  const int64_t patch_width =
      int64_t(tile_width - 1) * c.step_x + c.taps_x.last - c.taps_x.first + 1;
  const int64_t phase_pitch = ceil_div(patch_width, c.step_x);
  const int64_t plane = patch_height * phase_pitch * c.step_x;
  if (tiles + 4096 > std::numeric_limits<int>::max() || taps == 0 || plane >= (1 << 14)) {
    return false;
  }
  c.tiles = static_cast<int>(tiles);
  c.patch_height = static_cast<int>(patch_height);
  c.patch_width = static_cast<int>(patch_width);
  c.phase_pitch = static_cast<int>(phase_pitch);
  c.row_pitch = c.phase_pitch * c.step_x;
  c.plane = static_cast<int>(plane);
  c.by_patch_pixels = Divider(patch_height * patch_width);
  c.by_patch_width = Divider(patch_width);
  c.by_step_x = Divider(c.step_x);
  for (c.quads = kMaxQuads; c.quads >= kStepUnits; c.quads /= 2) {
    c.chunks = static_cast<int>(ceil_div(c.depth_maps, c.quads * kUnit));
    const int64_t steps = taps * c.quads / kStepUnits;
    c.stages_per_chunk = static_cast<int>(ceil_div(steps, kStageSteps));
    c.patch_buffers = c.stages_per_chunk == 1 ? 3 : 2;
    const int64_t floats = parts * kUnit *
                           (int64_t(kStages) * kStageSteps * kStepUnits * Engine::kTileMaps +
                            int64_t(c.patch_buffers) * c.quads * c.plane);
    shared_bytes = (floats + c.steps_per_chunk()) * sizeof(float);
    const bool fits = shared_bytes <= kSharedBytes;
    const bool wasteful = c.quads > kStepUnits && c.depth_maps <= c.quads * kUnit / 2;
    if (fits && !wasteful) {
      const double useful = double(c.maps) / (c.map_tiles * Engine::kTileMaps) * c.depth_maps /
                            (int64_t(c.chunks) * c.quads * kUnit) * c.rows /
                            (int64_t(c.tiles_y) * tile_height) * c.columns /
                            (int64_t(c.tiles_x) * tile_width);
      return useful >= kUsefulShare;
    }
  }
  return false;
}

template <class Engine>
bool correlate_with(Correlation c, const WeightStrides& strides, const torch::Tensor& weight) {
  size_t shared_bytes;
  if (!plan<Engine>(c, shared_bytes)) {
    return false;
  }
  constexpr int parts = Engine::kSplit ? 2 : 1;
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const int64_t units = int64_t(c.groups) * c.map_tiles * c.chunks * c.steps_per_chunk() *
                        kStepUnits * Engine::kTileMaps;
  torch::Tensor packed = torch::empty({units * parts * kUnit}, weight.options());
  c.packed_weights = packed.data_ptr<float>();
  pack_weights_kernel<<<
      static_cast<int>(std::min(ceil_div(units, 256), kMaxBlocks)), 256, 0, stream>>>(
      c, strides, weight.data_ptr<float>(), packed.data_ptr<float>(), Engine::kTileMaps, parts,
      units);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  C10_CUDA_CHECK(cudaFuncSetAttribute(
      correlation_kernel<Engine>, cudaFuncAttributeMaxDynamicSharedMemorySize,
      static_cast<int>(shared_bytes)));
  const int blocks = std::min(c.tiles, multiprocessors());
  correlation_kernel<Engine><<<blocks, kBlockThreads, shared_bytes, stream>>>(c);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return true;
}
