/* Part of the conv2d variants: Hopper's warpgroup instructions, one function each, and the descriptor of
   an operand in shared memory. wgmma_emulated.cu stands in for them.

   Does not: swizzle; all operands have the K-major layout without it. */
// ---- Instructions of Hopper's warpgroups --------------------------------------------------------

// Makes what this thread wrote to shared memory visible to wgmma, after the next barrier.
__device__ __forceinline__ void publish_shared_memory() {
#ifdef CONV2D_HOPPER
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

#ifdef CONV2D_HOPPER
// An operand of wgmma: 8 rows of 16 bytes, one behind the other, are a core matrix; `depth_pitch`
// bytes further lies the next one along the depth, `row_pitch` bytes further the next 8 rows.
__device__ __forceinline__ uint64_t operand(const float* at, int depth_pitch, int row_pitch) {
  return uint64_t((shared_address(at) & 0x3ffff) >> 4) | uint64_t(depth_pitch >> 4) << 16 |
      uint64_t(row_pitch >> 4) << 32;
}

__device__ __forceinline__ void begin_multiplications() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_multiplications() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits for this warpgroup's multiplications, the latest `pending` groups excepted.
template <int pending, int count>
__device__ __forceinline__ void wait_for_multiplications(float (&sums)[count]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
  if (pending == 0) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      asm volatile("" : "+f"(sums[i])::"memory");  // They are not known before.
    }
  }
}

#define SUMS_8(i)                                                                               \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]),    \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define SUMS_64(i)                                                                              \
  SUMS_8(i), SUMS_8(i + 8), SUMS_8(i + 16), SUMS_8(i + 24), SUMS_8(i + 32), SUMS_8(i + 40),     \
      SUMS_8(i + 48), SUMS_8(i + 56)
#define NAMES_64                                                                                \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,"  \
  "%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,"    \
  "%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NAMES_128                                                                               \
  NAMES_64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,"  \
  "%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,"   \
  "%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,"  \
  "%123,%124,%125,%126,%127"

// sums[64][8 groups] += a[64][8] b[8 groups][8] by a warpgroup, in the background.
__device__ __forceinline__ void multiply_add_async(float (&sums)[128], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32 {" NAMES_128
               "}, %128, %129, 1, 1, 1;"
               : SUMS_64(0), SUMS_64(64)
               : "l"(a), "l"(b));
}
__device__ __forceinline__ void multiply_add_async(float (&sums)[64], uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {" NAMES_64
               "}, %64, %65, 1, 1, 1;"
               : SUMS_64(0)
               : "l"(a), "l"(b));
}

// The same with a in registers: every thread holds what mma.sync wants of it.
__device__ __forceinline__ void multiply_add_async(
    float (&sums)[16], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n32k8.f32.tf32.tf32 {"
               "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
               "}, {%16, %17, %18, %19}, %20, 1, 1, 1;"
               : SUMS_8(0), SUMS_8(8)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void multiply_add_async(
    float (&sums)[28], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n56k8.f32.tf32.tf32 {"
               "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"
               "%22,%23,%24,%25,%26,%27"
               "}, {%28, %29, %30, %31}, %32, 1, 1, 1;"
               : SUMS_8(0), SUMS_8(8), SUMS_8(16), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void multiply_add_async(
    float (&sums)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {"
               "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"
               "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,"
               "%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,"
               "%62,%63"
               "}, {%64, %65, %66, %67}, %68, 1, 1, 1;"
               : SUMS_64(0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#endif

// ---- End of warpgroup instructions --------------------------------------------------------------
