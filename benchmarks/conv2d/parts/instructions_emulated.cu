/* Plain C++ in place of instructions.cu, for the emulated device, which runs no PTX: ldmatrix and mma.sync
   lane by lane through shared memory; an address that is not a multiple of 16 bytes traps.

   Does not: imitate the tensor cores' truncated sums, or copy in the background. */
// ---- Stand-ins for the instructions, for the emulated device -------------------------------------
__device__ inline float round_to_tf32(float value) {
  uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;
  return __uint_as_float((bits + 0x1000u) & 0xffffe000u);
}
__device__ inline void copy_async(float* to, const float* from) {
  if (reinterpret_cast<uintptr_t>(from) % 16 || reinterpret_cast<uintptr_t>(to) % 16) __trap();
  for (int i = 0; i < 4; ++i) to[i] = from[i];
}
__device__ inline void commit_copies() {}
template <int pending> __device__ inline void wait_for_copies() {}
struct EmulatedLane { const float* row; uint32_t a[4]; uint32_t b[2]; };
__device__ inline EmulatedLane* emulated_warp() {
  __shared__ EmulatedLane lanes[1024];
  return lanes + threadIdx.x / 32 * 32;
}
__device__ inline void load_matrices(uint32_t (&values)[4], const float* row) {
  EmulatedLane* warp = emulated_warp();
  const int lane = threadIdx.x % 32;
  if (reinterpret_cast<uintptr_t>(row) % 16) __trap();
  warp[lane].row = row;
  __syncwarp();
  for (int m = 0; m < 4; ++m) values[m] = __float_as_uint(warp[8 * m + lane / 4].row[lane % 4]);
  __syncwarp();
}
__device__ inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  EmulatedLane* warp = emulated_warp();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) warp[lane].a[i] = a[i];
  warp[lane].b[0] = b0; warp[lane].b[1] = b1;
  __syncwarp();
  for (int e = 0; e < 4; ++e) {
    const int column = 2 * t + e % 2;
    float sum = sums[e];
    for (int k = 0; k < 8; ++k)
      sum += __uint_as_float(warp[g * 4 + k % 4].a[k / 4 * 2 + e / 2]) * __uint_as_float(warp[column * 4 + k % 4].b[k / 4]);
    sums[e] = sum;
  }
  __syncwarp();
}
