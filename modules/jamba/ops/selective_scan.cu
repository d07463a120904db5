#include "selective_scan.hpp"
#include "stored_weight.cuh"

namespace jamba {

namespace {

constexpr unsigned threads = 128;
constexpr unsigned lanes = 4;  // of a warp, for each channel: each keeps a quarter of its states

struct operands {
  const float *u, *dt, *b, *c, *z;
  float* y;
  stored_weight a_log, skip, dt_bias;
  float* const* const* states;
  const std::uint32_t* sequence_rows;
  unsigned n, state_size;
};

__device__ float softplus(float x) {
  return x > 20.0f ? x : log1pf(expf(x));
}

// One row of one channel, fetched a row ahead.
struct row_values {
  float u, dt, z;
  __device__ void fetch(const operands& o, std::size_t row, unsigned i) {
    u = o.u[row * o.n + i];
    dt = o.dt[row * o.n + i];
    z = o.z[row * o.n + i];
  }
};

// `Own`: states of a lane at most, in registers; lane l has the states l, l + lanes, ...
template <int Own>
__global__ void __launch_bounds__(threads) scan(operands o) {
  const unsigned i = (blockIdx.x * threads + threadIdx.x) / lanes, lane = threadIdx.x % lanes;
  const std::size_t first = o.sequence_rows[blockIdx.y], end = o.sequence_rows[blockIdx.y + 1];
  if (first == end) return;
  const unsigned channel =
      min(i, o.n - 1);  // lanes beyond the last channel follow it, for the exchange between lanes
  float* state = o.states[0][blockIdx.y];
  float a[Own], h[Own];
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned s = k * lanes + lane;
    a[k] = s < o.state_size ? -expf(o.a_log.at(std::size_t{channel} * o.state_size + s)) : 0.0f;
    h[k] = s < o.state_size ? state[std::size_t{s} * o.n + channel] : 0.0f;
  }
  const float skip = o.skip.at(channel), dt_bias = o.dt_bias.at(channel);
  row_values next;
  next.fetch(o, first, channel);
  for (std::size_t row = first; row < end; ++row) {
    const row_values now = next;
    if (row + 1 < end) next.fetch(o, row + 1, channel);
    const float d = softplus(now.dt + dt_bias), drive = d * now.u;
    float sum = 0;
#pragma unroll
    for (int k = 0; k < Own; ++k) {
      const unsigned s = k * lanes + lane;
      if (s >= o.state_size) break;
      h[k] = expf(a[k] * d) * h[k] + drive * o.b[row * o.state_size + s];
      sum += h[k] * o.c[row * o.state_size + s];
    }
    for (unsigned step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0 && i < o.n) o.y[row * o.n + i] = (sum + skip * now.u) * (now.z / (1.0f + expf(-now.z)));
  }
  if (i >= o.n) return;
#pragma unroll
  for (int k = 0; k < Own; ++k) {
    const unsigned s = k * lanes + lane;
    if (s < o.state_size) state[std::size_t{s} * o.n + i] = h[k];
  }
}

}  // namespace

void selective_scan::cuda(const troupe::sdk::native_step& s, void* stream) {
  if (s.rows() == 0) return;
  const auto n = static_cast<unsigned>(s.columns(0)), states = static_cast<unsigned>(s.columns(2));
  const operands o{s.input(0),
                   s.input(1),
                   s.input(2),
                   s.input(3),
                   s.input(4),
                   s.output(0),
                   stored_weight(s.weight(0)),
                   stored_weight(s.weight(1)),
                   stored_weight(s.weight(2)),
                   s.states(),
                   s.sequence_rows(),
                   n,
                   states};
  const dim3 grid((n * lanes + threads - 1) / threads, static_cast<unsigned>(s.sequences()));
  auto* on = static_cast<cudaStream_t>(stream);
  if (states <= 4 * lanes)
    scan<4><<<grid, threads, 0, on>>>(o);
  else if (states <= 16 * lanes)
    scan<16><<<grid, threads, 0, on>>>(o);
  else
    scan<max_state / lanes><<<grid, threads, 0, on>>>(o);
  check_launches(name);
}

}  // namespace jamba
