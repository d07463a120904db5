#include "selective_scan.hpp"

#include <algorithm>

#include "vector_math.hpp"

namespace jamba {

namespace sdk = troupe::sdk;

namespace {

enum input : std::size_t { u_in, dt_in, b_in, c_in, z_in };

// The weights of a block of channels, side by side: A [S, block], D [block], dt_bias [block]. Rows that are as far apart as those of
// a whole layer would all fall into the same few sets of the cache.
struct block_weights {
  const float *a, *skip, *dt_bias;
  block_weights(const float* memory, std::size_t states)
      : a(memory), skip(memory + states * channel_block), dt_bias(skip + channel_block) {}
};
constexpr std::size_t block_floats(std::size_t states) {
  return (states + 2) * channel_block;
}

// A block of channels of one sequence's rows. Pointers stand at the first of these channels; rows are `stride` apart, those of B
// and C `states`.
struct part {
  const float *u, *dt, *b, *c, *z;
  float* y;
  float* state;  // [S, N]
  block_weights w;
  std::size_t rows, width, stride, states;
};

VECTOR_CLONES void scan(const part& p) {
  float d[channel_block], drive[channel_block], sums[channel_block];
  float own[selective_scan::max_state * channel_block];  // the state, while the rows pass
  for (std::size_t s = 0; s < p.states; ++s)
    std::copy_n(p.state + s * p.stride, p.width, own + s * channel_block);
  for (std::size_t t = 0; t < p.rows; ++t) {
    const float* __restrict u = p.u + t * p.stride;
    const float* __restrict dt = p.dt + t * p.stride;
    for (std::size_t i = 0; i < p.width; ++i) {
      d[i] = softplus(dt[i] + p.w.dt_bias[i]);
      drive[i] = d[i] * u[i];
      sums[i] = 0.0f;
    }
    for (std::size_t s = 0; s < p.states; ++s) {
      const float* __restrict a = p.w.a + s * channel_block;
      float* __restrict h = own + s * channel_block;
      const float b = p.b[t * p.states + s], c = p.c[t * p.states + s];
      for (std::size_t i = 0; i < p.width; ++i) {
        h[i] = exp_of(a[i] * d[i]) * h[i] + drive[i] * b;
        sums[i] += h[i] * c;
      }
    }
    const float* __restrict z = p.z + t * p.stride;
    float* __restrict y = p.y + t * p.stride;
    for (std::size_t i = 0; i < p.width; ++i) y[i] = (sums[i] + p.w.skip[i] * u[i]) * silu(z[i]);
  }
  for (std::size_t s = 0; s < p.states; ++s)
    std::copy_n(own + s * channel_block, p.width, p.state + s * p.stride);
}

VECTOR_CLONES void negative_exp(float* x, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] = -exp_of(x[i]);
}

// The channels [first, end) in the form of block_weights; A = -exp(A_log).
void load_weights(const sdk::native_step& s, std::size_t first, std::size_t end, float* memory) {
  const std::size_t states = s.columns(b_in);
  float one[selective_scan::max_state];
  for (std::size_t channel = first; channel < end; ++channel) {
    sdk::read_weight(s.weight(0), 0, channel * states, states, one);
    negative_exp(one, states);
    for (std::size_t i = 0; i < states; ++i) memory[i * channel_block + channel - first] = one[i];
  }
  sdk::read_weight(s.weight(1), 0, first, end - first, memory + states * channel_block);
  sdk::read_weight(s.weight(2), 0, first, end - first, memory + (states + 1) * channel_block);
}

}  // namespace

void selective_scan::shapes(sdk::native_shapes& s) {
  const auto n = s.columns(u_in), states = s.columns(b_in);
  if (states > max_state)
    throw sdk::native_error("B: expected at most " + std::to_string(max_state) + " columns, found " +
                            std::to_string(states));
  s.expect_columns("dt", dt_in, n);
  s.expect_columns("C", c_in, states);
  s.expect_columns("z", z_in, n);
  s.expect_weight("A_log", 0, {n, states});
  s.expect_weight("D", 1, {n});
  s.expect_weight("dt_bias", 2, {n});
  s.expect_state("ssm", 0, {states, n});
  s.output(0, n);
}

std::uint64_t selective_scan::workspace(const sdk::native_use& use, std::uint64_t, std::uint32_t,
                                        std::uint32_t) {
  return blocks_of(use.columns(u_in)) * block_floats(use.columns(b_in)) * sizeof(float);
}

void selective_scan::cpu(const sdk::native_step& s) {
  const std::size_t n = s.columns(u_in), states = s.columns(b_in), blocks = blocks_of(n);
  float* weights = s.workspace<float>();
  const auto of_block = [&](std::size_t block) { return weights + block * block_floats(states); };
  s.parallel_for(blocks, 4, [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t i = begin; i < end; ++i)
      load_weights(s, i * channel_block, std::min(n, (i + 1) * channel_block), of_block(i));
  });
  s.parallel_for(s.sequences() * blocks, 1, [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t q = i / blocks, c = i % blocks * channel_block, row = s.first_row(q);
      if (row == s.end_row(q)) continue;
      scan({s.input(u_in, row) + c, s.input(dt_in, row) + c, s.input(b_in, row), s.input(c_in, row),
            s.input(z_in, row) + c, s.output(0, row) + c, s.state(0, q) + c,
            block_weights(of_block(i % blocks), states), s.end_row(q) - row, std::min(channel_block, n - c),
            n, states});
    }
  });
}

}  // namespace jamba
