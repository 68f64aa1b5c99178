/* Part of the conv2d variants: describes forward, and every phase of a strided dinput, as a correlation,
   and chooses the engine.

   Does not: take kernels with more than 32 taps a side; the general kernel does. */
#ifdef CONV2D_HOPPER
template <int map_blocks, bool split>
using Engine = Wgmma<map_blocks, split>;
#else
template <int map_blocks, bool split>
using Engine = MmaSync<map_blocks, split>;
#endif

// Correlates on tensor cores; false if the general kernel is the better choice. Tiles of 128 maps
// if they waste no more than tiles of 64.
bool correlate(
    const Correlation& c, const WeightStrides& strides, const torch::Tensor& weight, bool tf32) {
  const bool tall = ceil_div(c.maps, 64) % 2 == 0;
  if (tf32) {
    return tall ? correlate_with<Engine<2, false>>(c, strides, weight)
                : correlate_with<Engine<1, false>>(c, strides, weight);
  }
  return tall ? correlate_with<Engine<2, true>>(c, strides, weight)
              : correlate_with<Engine<1, true>>(c, strides, weight);
}

bool correlate_forward(
    const Geometry& g, const torch::Tensor& x, const torch::Tensor& w, const float* bias,
    const torch::Tensor& y, bool tf32) {
  if (std::max(g.kernel_height, g.kernel_width) > kMaxSide) {
    return false;
  }
  Correlation c;
  c.input = x.data_ptr<float>();
  c.bias = bias;
  c.output = y.data_ptr<float>();
  c.images = static_cast<int>(g.images), c.groups = static_cast<int>(g.groups);
  c.depth_maps = g.channels, c.maps = g.filters;
  c.height = g.height, c.width = g.width, c.step_y = g.stride_y, c.step_x = g.stride_x;
  c.rows = c.out_height = g.out_height, c.columns = c.out_width = g.out_width;
  c.first_y = c.first_x = 0, c.out_step_y = c.out_step_x = 1;
  for (int r = 0; r < g.kernel_height; ++r) c.taps_y.add(r, r * g.dilation_y - g.padding_y);
  for (int s = 0; s < g.kernel_width; ++s) c.taps_x.add(s, s * g.dilation_x - g.padding_x);
  const int64_t filter_size = g.taps(g.channels), area = g.taps(1);
  return correlate(c, {g.filters * filter_size, filter_size, area, g.kernel_width}, w, tf32);
}

// Taps through which input rows phase, phase + stride, ... get their gradient.
TapLine taps_of_phase(int phase, int count, int stride, int padding, int dilation) {
  TapLine line;
  for (int r = 0; r < count; ++r) {
    const int distance = phase + padding - r * dilation;
    if (distance % stride == 0) line.add(r, distance / stride);
  }
  return line;
}

// Each phase of the strides is a correlation of its own with the taps that meet it.
bool correlate_grad_input(
    const Geometry& g, const torch::Tensor& dy, const torch::Tensor& w, const torch::Tensor& dx,
    bool tf32) {
  if (std::max(g.kernel_height, g.kernel_width) > kMaxSide || dy.numel() == 0) {
    return false;
  }
  Correlation c;
  c.input = dy.data_ptr<float>();
  c.output = dx.data_ptr<float>();
  c.images = static_cast<int>(g.images), c.groups = static_cast<int>(g.groups);
  c.depth_maps = g.filters, c.maps = g.channels;
  c.height = g.out_height, c.width = g.out_width, c.step_y = c.step_x = 1;
  c.out_height = g.height, c.out_width = g.width;
  c.out_step_y = g.stride_y, c.out_step_x = g.stride_x;
  const int64_t filter_size = g.taps(g.channels), area = g.taps(1);
  const WeightStrides strides{g.filters * filter_size, area, filter_size, g.kernel_width};
  for (c.first_y = 0; c.first_y < std::min(g.stride_y, g.height); ++c.first_y) {
    for (c.first_x = 0; c.first_x < std::min(g.stride_x, g.width); ++c.first_x) {
      c.taps_y = taps_of_phase(c.first_y, g.kernel_height, g.stride_y, g.padding_y, g.dilation_y);
      c.taps_x = taps_of_phase(c.first_x, g.kernel_width, g.stride_x, g.padding_x, g.dilation_x);
      c.rows = static_cast<int>(ceil_div(g.height - c.first_y, g.stride_y));
      c.columns = static_cast<int>(ceil_div(g.width - c.first_x, g.stride_x));
      if (!correlate(c, strides, w, tf32)) {
        return false;
      }
    }
  }
  return true;
}
