/* Plain C++ in place of wgmma.cu, for the emulated device. A product is only queued, and computed by the
   wait that must cover it, so that an operand overwritten too early comes out wrong. It has the descriptor's
   meaning: start, pitch along the depth, pitch of eight rows.

   Does not: show that a barrier or a fence for the asynchronous proxy is missing. */
__device__ inline void publish_shared_memory() {}
#ifdef CONV2D_HOPPER
// Deferred until waited for, so that an operand overwritten too early comes out wrong.
struct Operand { const float* at; int depth_pitch, row_pitch; };
struct EmulatedQueue { float* sums; int count; Operand a, b; int group; bool in_registers; float rows[2][8]; };
constexpr int kQueue = 128;
__device__ inline EmulatedQueue* emulated_queue(int*& length, int*& group) {

  static thread_local EmulatedQueue entries[256][kQueue];
  static thread_local int lengths[256], groups[256];

  length = &lengths[threadIdx.x]; group = &groups[threadIdx.x];
  return entries[threadIdx.x];
}
__device__ inline Operand operand(const float* at, int depth_pitch, int row_pitch) {
  if (reinterpret_cast<uintptr_t>(at) % 16 || depth_pitch % 16 || row_pitch % 16) __trap();
  return {at, depth_pitch / 4, row_pitch / 4};
}
__device__ inline void begin_multiplications() {}
__device__ inline void commit_multiplications() { int *l, *g; emulated_queue(l, g); ++*g; }
template <int pending, int count>
__device__ inline void wait_for_multiplications(float (&sums)[count]) {
  int *l, *g; EmulatedQueue* q = emulated_queue(l, g);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  int kept = 0;
  for (int i = 0; i < *l; ++i) {
    if (q[i].group >= *g - pending) { q[kept++] = q[i]; continue; }
    for (int j = 0; j < q[i].count; ++j) {
      const int row = warp * 16 + lane / 4 + j % 4 / 2 * 8, column = j / 4 * 8 + lane % 4 * 2 + j % 2;
      float sum = q[i].sums[j];
      for (int k = 0; k < 8; ++k)
        sum += (q[i].in_registers ? q[i].rows[row / 8 % 2][k] : q[i].a.at[k / 4 * q[i].a.depth_pitch + row / 8 * q[i].a.row_pitch + row % 8 * 4 + k % 4]) *
               q[i].b.at[k / 4 * q[i].b.depth_pitch + column / 8 * q[i].b.row_pitch + column % 8 * 4 + k % 4];
      q[i].sums[j] = sum;
    }
  }
  *l = kept;
}
template <int count>
__device__ inline void multiply_add_async(float (&sums)[count], Operand a, Operand b) {
  int *l, *g; EmulatedQueue* q = emulated_queue(l, g);
  if (*l == kQueue) __trap();
  q[(*l)++] = {sums, count, a, b, *g, false, {}};
}
template <int count>
__device__ inline void multiply_add_async(float (&sums)[count], const uint32_t (&a)[4], Operand b) {
  int *l, *g; EmulatedQueue* q = emulated_queue(l, g);
  if (*l == kQueue) __trap();
  EmulatedQueue& e = q[(*l)++];
  e = {sums, count, {}, b, *g, true, {}};
  const int lane = threadIdx.x % 32;
  for (int k = 0; k < 8; ++k)
    for (int h = 0; h < 2; ++h)
      e.rows[h][k] = __uint_as_float(__shfl_sync(0xffffffffu, k < 4 ? a[h] : a[2 + h], lane / 4 * 4 + k % 4));
}
#endif
