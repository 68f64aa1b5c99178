/* Part of the conv2d variants: two functions of the host that all kernels' launches need.
   This first comment is left out of the assembled text, as in every part.

   Does not: know anything of convolutions. */
int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int multiprocessors() {
  int count;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(
      &count, cudaDevAttrMultiProcessorCount, c10::cuda::current_device()));
  return count;
}
