#include "causal_conv.hpp"

#include <algorithm>

#include "vector_math.hpp"

namespace jamba {

namespace sdk = troupe::sdk;

namespace {

std::size_t taps_of(const sdk::native_use& use) {
  return use.weight(0).shape[1];
}

// A block of channels of one sequence's rows. Pointers stand at the first of these channels; rows are `stride` apart.
struct part {
  const float* u;
  float* y;
  float* columns;        // state
  const float* weights;  // [K + 1, block]: taps, then bias
  std::size_t rows, width, stride, taps_count;
};

// Row t of the sequence's u, counted from the first row of the step; those before stand in the state.
inline const float* row_of(const part& p, std::ptrdiff_t t) {
  const auto kept = static_cast<std::ptrdiff_t>(p.taps_count) - 1;
  return t >= 0 ? p.u + t * static_cast<std::ptrdiff_t>(p.stride)
                : p.columns + (t + kept) * static_cast<std::ptrdiff_t>(p.stride);
}

VECTOR_CLONES void convolve(const part& p) {
  float sums[channel_block];
  const auto kept = static_cast<std::ptrdiff_t>(p.taps_count) - 1;
  for (std::size_t t = 0; t < p.rows; ++t) {
    const float* __restrict bias = p.weights + p.taps_count * channel_block;
    for (std::size_t i = 0; i < p.width; ++i) sums[i] = bias[i];
    for (std::size_t k = 0; k < p.taps_count; ++k) {
      const float* __restrict u = row_of(p, static_cast<std::ptrdiff_t>(t + k) - kept);
      const float* __restrict tap = p.weights + k * channel_block;
      for (std::size_t i = 0; i < p.width; ++i) sums[i] += tap[i] * u[i];
    }
    float* __restrict y = p.y + t * p.stride;
    for (std::size_t i = 0; i < p.width; ++i) y[i] = silu(sums[i]);
  }
  // Oldest first: what is read lies behind what is written.
  for (std::ptrdiff_t k = 0; k < kept; ++k) {
    const float* from = row_of(p, k - kept + static_cast<std::ptrdiff_t>(p.rows));
    std::copy_n(from, p.width, p.columns + k * static_cast<std::ptrdiff_t>(p.stride));
  }
}

// Taps and bias of the channels [first, end): [K + 1, block].
void load_weights(const sdk::native_step& s, std::size_t first, std::size_t end, float* memory) {
  const std::size_t k = taps_of(s);
  float one[causal_conv::max_taps];
  for (std::size_t channel = first; channel < end; ++channel) {
    sdk::read_weight(s.weight(0), 0, channel * k, k, one);
    for (std::size_t i = 0; i < k; ++i) memory[i * channel_block + channel - first] = one[i];
  }
  float* bias = memory + k * channel_block;
  if (s.weights() > 1)
    sdk::read_weight(s.weight(1), 0, first, end - first, bias);
  else
    std::fill_n(bias, end - first, 0.0f);
}

}  // namespace

void causal_conv::shapes(sdk::native_shapes& s) {
  const auto n = s.columns(0);
  const auto& w = s.weight(0);
  const auto k = w.shape[1];
  if (w.rank != 2 || k < 2 || k > max_taps)
    throw sdk::native_error("weight: expected [N, K] with K from 2 to " + std::to_string(max_taps));
  s.expect_weight("weight", 0, {n, k});
  if (s.weights() > 1) s.expect_weight("bias", 1, {n});
  s.expect_state("columns", 0, {k - 1, n});
  s.output(0, n);
}

std::uint64_t causal_conv::workspace(const sdk::native_use& use, std::uint64_t, std::uint32_t,
                                     std::uint32_t) {
  return blocks_of(use.columns(0)) * (taps_of(use) + 1) * channel_block * sizeof(float);
}

void causal_conv::cpu(const sdk::native_step& s) {
  const std::size_t n = s.columns(0), k = taps_of(s), blocks = blocks_of(n);
  float* weights = s.workspace<float>();
  const auto of_block = [&](std::size_t block) { return weights + block * (k + 1) * channel_block; };
  s.parallel_for(blocks, 8, [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t i = begin; i < end; ++i)
      load_weights(s, i * channel_block, std::min(n, (i + 1) * channel_block), of_block(i));
  });
  s.parallel_for(s.sequences() * blocks, 1, [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t q = i / blocks, c = i % blocks * channel_block, row = s.first_row(q);
      if (row == s.end_row(q)) continue;
      convolve({s.input(0, row) + c, s.output(0, row) + c, s.state(0, q) + c, of_block(i % blocks),
                s.end_row(q) - row, std::min(channel_block, n - c), n, k});
    }
  });
}

}  // namespace jamba
