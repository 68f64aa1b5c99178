/* Part of the conv2d variants: the engine of forward and dinput for wgmma, both operands in shared memory.

   Does not: move anything to shared memory; the kernel in correlation.cu does. */
#ifdef CONV2D_HOPPER
// The same by wgmma, which reads both operands from shared memory. A warp holds 16 maps of all
// groups:  sums[group][c-fragment].
template <int kMapBlocks_, bool kSplit_>
struct Wgmma {
  static constexpr int kMapBlocks = kMapBlocks_;
  static constexpr bool kSplit = kSplit_;
  static constexpr int kGroups = kSplit ? 16 : 32;
  static constexpr int kTileMaps = 64 * kMapBlocks;
  static constexpr int kPairs = kGroups * 2;

  float sums[kGroups * 4];
  float totals[kSplit ? kGroups * 4 : 1];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < kGroups * 4; ++i) {
      sums[i] = 0.0f;
      if (kSplit) totals[i] = 0.0f;
    }
  }

  __device__ __forceinline__ void multiply(
      const float* weights, const float* patch, const int* offsets, const Correlation& c) {
    constexpr int bytes = kUnit * sizeof(float);
    constexpr int a_part = kStageSteps * kStepUnits * kTileMaps * kUnit;
    const int b_part = c.quads * c.plane * kUnit;
    const int plane_pitch = c.plane * bytes, group_pitch = c.step_y * c.row_pitch * bytes;
    begin_multiplications();
#pragma unroll
    for (int step = 0; step < kStageSteps; ++step) {
      const float* a_at = weights + step * kStepUnits * kTileMaps * kUnit;
      const float* b_at = patch + offsets[step] * kUnit;
      const auto a = operand(a_at, kTileMaps * bytes, 8 * bytes);
      const auto b = operand(b_at, plane_pitch, group_pitch);
      if constexpr (kSplit) {
        multiply_add_async(sums, a, operand(b_at + b_part, plane_pitch, group_pitch));
        multiply_add_async(sums, operand(a_at + a_part, kTileMaps * bytes, 8 * bytes), b);
      }
      multiply_add_async(sums, a, b);
    }
    commit_multiplications();
  }

  __device__ __forceinline__ void wait_for_earlier() { wait_for_multiplications<1>(sums); }
  __device__ __forceinline__ void promote() {
    if constexpr (kSplit) {
      wait_for_multiplications<0>(sums);
#pragma unroll
      for (int i = 0; i < kGroups * 4; ++i) {
        totals[i] += sums[i];
        sums[i] = 0.0f;
      }
    }
  }
  __device__ __forceinline__ void finish() {
    wait_for_multiplications<0>(sums);
    promote();
  }

  __device__ static int pair_map(int i) {
    return threadIdx.x / kWarp % 4 * 16 + i % 2 * 8 + threadIdx.x % kWarp / 4;
  }
  __device__ static int pair_group(int i) { return i / 2; }
  __device__ __forceinline__ float2 pair(int i) const {
    if constexpr (kSplit) return make_float2(totals[2 * i], totals[2 * i + 1]);
    return make_float2(sums[2 * i], sums[2 * i + 1]);
  }
};
#endif
