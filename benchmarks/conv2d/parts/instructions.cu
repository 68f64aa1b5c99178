/* Part of the conv2d variants: the instructions of Ampere and later that they use (rounding to TF32,
   cp.async, ldmatrix, mma.sync), one function each. instructions_emulated.cu stands in for them.

   Does not: hold Hopper's warpgroup instructions (wgmma.cu). */
// ---- Instructions of the tensor cores -----------------------------------------------------------

// A float rounded to TF32's ten bits of mantissa, to nearest.
__device__ __forceinline__ float round_to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes from global to shared memory in the background.
__device__ __forceinline__ void copy_async(float* to, const float* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;"); }
// Waits for this thread's copies, the latest `pending` groups excepted.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Reads four matrices of 8 rows of 16 bytes; lane 8m+r points to row r of matrix m. A lane gets
// float lane % 4 of row lane / 4 of each: just what mma wants of its operands.
__device__ __forceinline__ void load_matrices(uint32_t (&values)[4], const float* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(values[0]), "=r"(values[1]), "=r"(values[2]), "=r"(values[3])
               : "r"(shared_address(row)));
}

// sums[16][8] += a[16][8] b[8][8] by one warp.
__device__ __forceinline__ void multiply_add(
    float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---- End of instructions ------------------------------------------------------------------------
