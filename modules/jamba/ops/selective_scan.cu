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

// Chunks: the rows of a sequence are cut into pieces, one for each warp. A piece's end follows from its beginning by
// h_end = decay · h_begin + own: each warp computes decay and own (as if the state began with 0), takes its beginning from those before
// it, and then computes its rows. Twice the work, and as many rows at once as there are warps.
constexpr int chunk_warps = 16;
constexpr unsigned chunk_rows = 32;  // of a warp at a time
constexpr int channels = 32;         // of a block: a lane each
constexpr int most_chunk_states = 16;
constexpr float log2_of_e = 1.4426950408889634f;

struct chunk_memory {
  float ends[chunk_warps][most_chunk_states][channels];
  float decays[chunk_warps][channels];  // sum of d
  float carried[most_chunk_states][channels];
};

// One channel's part of a piece of rows.
struct chunk_lane {
  float a[most_chunk_states], h[most_chunk_states];  // a in powers of 2
  float skip, dt_bias;
  unsigned states;

  // Rows [begin, end); tells the sum of d. `write`: their results too.
  template <bool Write>
  __device__ float pass(const operands& o, std::size_t begin, std::size_t end, unsigned channel, bool real) {
    float total = 0;
    row_values next;
    next.fetch(o, begin, channel);
    for (std::size_t row = begin; row < end; ++row) {
      const row_values now = next;
      if (row + 1 < end) next.fetch(o, row + 1, channel);
      const float d = softplus(now.dt + dt_bias), drive = d * now.u;
      const float *b = o.b + row * states, *c = o.c + row * states;
      float sum = 0;
      total += d;
#pragma unroll
      for (int s = 0; s < most_chunk_states; ++s) {
        if (s >= static_cast<int>(states)) break;
        h[s] = exp2f(a[s] * d) * h[s] + drive * b[s];
        if (Write) sum += h[s] * c[s];
      }
      if (Write && real) o.y[row * o.n + channel] = (sum + skip * now.u) * (now.z / (1.0f + expf(-now.z)));
    }
    return total;
  }
};

__global__ void __launch_bounds__(chunk_warps * 32) scan_chunks(operands o) {
  __shared__ chunk_memory shared;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, i = blockIdx.x * channels + lane;
  const unsigned channel = min(i, o.n - 1);
  const std::size_t first = o.sequence_rows[blockIdx.y], last = o.sequence_rows[blockIdx.y + 1];
  if (first == last) return;
  float* state = o.states[0][blockIdx.y];
  chunk_lane own;
  own.states = o.state_size;
  own.skip = o.skip.at(channel);
  own.dt_bias = o.dt_bias.at(channel);
#pragma unroll
  for (int s = 0; s < most_chunk_states; ++s) {
    const bool there = s < static_cast<int>(o.state_size);
    own.a[s] = there ? -expf(o.a_log.at(std::size_t{channel} * o.state_size + s)) * log2_of_e : 0.0f;
    if (warp == 0) shared.carried[s][lane] = there ? state[std::size_t(s) * o.n + channel] : 0.0f;
  }
  for (std::size_t base = first; base < last; base += chunk_warps * chunk_rows) {
    const std::size_t rows = min(last - base, std::size_t{chunk_warps} * chunk_rows);
    const std::size_t each = (rows + chunk_warps - 1) / chunk_warps;
    const std::size_t begin = base + warp * each, end = min(begin + each, base + rows);
    if (end < base + rows) {  // others come behind
#pragma unroll
      for (int s = 0; s < most_chunk_states; ++s) own.h[s] = 0;
      shared.decays[warp][lane] = own.pass<false>(o, begin, end, channel, false);
#pragma unroll
      for (int s = 0; s < most_chunk_states; ++s) shared.ends[warp][s][lane] = own.h[s];
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < most_chunk_states; ++s) own.h[s] = shared.carried[s][lane];
    if (begin < end) {
      for (unsigned before = 0; before < warp; ++before) {
        const float decay = shared.decays[before][lane];
#pragma unroll
        for (int s = 0; s < most_chunk_states; ++s)
          own.h[s] = exp2f(own.a[s] * decay) * own.h[s] + shared.ends[before][s][lane];
      }
      own.pass<true>(o, begin, end, channel, i < o.n);
    }
    __syncthreads();
    if (begin < end && end == base + rows)
#pragma unroll
      for (int s = 0; s < most_chunk_states; ++s) shared.carried[s][lane] = own.h[s];
    __syncthreads();
  }
  if (warp != 0 || i >= o.n) return;
  for (unsigned s = 0; s < o.state_size; ++s) state[std::size_t{s} * o.n + i] = shared.carried[s][lane];
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
  if (s.rows() > s.sequences() && states <= most_chunk_states)
    scan_chunks<<<dim3((n + channels - 1) / channels, static_cast<unsigned>(s.sequences())), chunk_warps * 32,
                  0, on>>>(o);
  else if (states <= 4 * lanes)
    scan<4><<<grid, threads, 0, on>>>(o);
  else if (states <= 16 * lanes)
    scan<16><<<grid, threads, 0, on>>>(o);
  else
    scan<max_state / lanes><<<grid, threads, 0, on>>>(o);
  check_launches(name);
}

}  // namespace jamba
