#include "causal_conv.hpp"
#include "stored_weight.cuh"

namespace jamba {

namespace {

constexpr unsigned threads = 128;
constexpr unsigned run_rows = 16;  // of a thread, where there are many

// A thread for each number of y. Rows behind the last sequence fill up a captured batch.
__global__ void convolve(const float* u, float* y, float* const* const* states,
                         const std::uint32_t* sequence_rows, unsigned sequences, stored_weight weight,
                         stored_weight bias, unsigned n, int taps) {
  const unsigned i = blockIdx.x * threads + threadIdx.x, t = blockIdx.y;
  if (i >= n || t >= sequence_rows[sequences]) return;
  unsigned low = 0, high = sequences;  // the last sequence that begins at t or before
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (sequence_rows[middle] <= t ? low : high) = middle;
  }
  while (sequence_rows[low + 1] <= t) ++low;  // sequences without rows
  const int row = static_cast<int>(t - sequence_rows[low]), kept = taps - 1;
  const float* columns = states[0][low];
  float sum = bias.planes == nullptr ? 0.0f : bias.at(i);
  for (int k = 0; k < taps; ++k) {
    const int from = row + k - kept;
    const float value =
        from >= 0 ? u[(std::size_t{t} - row + from) * n + i] : columns[std::size_t(from + kept) * n + i];
    sum += weight.at(std::size_t{i} * taps + k) * value;
  }
  y[std::size_t{t} * n + i] = sum / (1.0f + expf(-sum));
}

// The same for runs of rows: what a row reads of those before it stays in registers.
template <int Taps>
__global__ void __launch_bounds__(threads)
    convolve_runs(const float* u, float* y, float* const* const* states, const std::uint32_t* sequence_rows,
                  unsigned sequences, stored_weight weight, stored_weight bias, unsigned n) {
  const unsigned i = blockIdx.x * threads + threadIdx.x, begin = blockIdx.y * run_rows;
  const unsigned end = min(begin + run_rows, sequence_rows[sequences]);
  if (i >= n || begin >= end) return;
  unsigned low = 0, high = sequences;  // the last sequence that begins at `begin` or before
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (sequence_rows[middle] <= begin ? low : high) = middle;
  }
  float w[Taps], window[Taps];
#pragma unroll
  for (int k = 0; k < Taps; ++k) w[k] = weight.at(std::size_t{i} * Taps + k);
  const float first = bias.planes == nullptr ? 0.0f : bias.at(i);
  bool fresh = true;
  for (unsigned t = begin; t < end; ++t) {
    for (; sequence_rows[low + 1] <= t; ++low) fresh = true;
    if (fresh) {
      const int row = static_cast<int>(t - sequence_rows[low]);
#pragma unroll
      for (int k = 0; k + 1 < Taps; ++k) {
        const int from = row + k - (Taps - 1);
        window[k] = from >= 0 ? u[(std::size_t{sequence_rows[low]} + from) * n + i]
                              : states[0][low][std::size_t(from + Taps - 1) * n + i];
      }
      fresh = false;
    }
    window[Taps - 1] = u[std::size_t{t} * n + i];
    float sum = first;
#pragma unroll
    for (int k = 0; k < Taps; ++k) sum += w[k] * window[k];
    y[std::size_t{t} * n + i] = sum / (1.0f + expf(-sum));
#pragma unroll
    for (int k = 0; k + 1 < Taps; ++k) window[k] = window[k + 1];
  }
}

// The last rows of each sequence become its state, oldest first: what is read lies behind what is written.
__global__ void keep_rows(const float* u, float* const* const* states, const std::uint32_t* sequence_rows,
                          unsigned n, int taps) {
  const unsigned i = blockIdx.x * threads + threadIdx.x, s = blockIdx.y;
  const int rows = static_cast<int>(sequence_rows[s + 1] - sequence_rows[s]), kept = taps - 1;
  if (i >= n || rows == 0) return;
  float* columns = states[0][s];
  for (int k = 0; k < kept; ++k) {
    const int from = k - kept + rows;
    columns[std::size_t(k) * n + i] = from >= 0 ? u[(std::size_t{sequence_rows[s]} + from) * n + i]
                                                : columns[std::size_t(from + kept) * n + i];
  }
}

}  // namespace

void causal_conv::cuda(const troupe::sdk::native_step& s, void* stream) {
  if (s.rows() == 0) return;
  const auto n = static_cast<unsigned>(s.columns(0));
  const int taps = static_cast<int>(s.weight(0).shape[1]);
  const auto rows = static_cast<unsigned>(s.rows()), sequences = static_cast<unsigned>(s.sequences());
  const unsigned blocks = (n + threads - 1) / threads;
  const stored_weight bias = s.weights() > 1 ? stored_weight(s.weight(1)) : stored_weight();
  auto* on = static_cast<cudaStream_t>(stream);
  if (taps == 4 && rows > sequences)
    convolve_runs<4><<<dim3(blocks, (rows + run_rows - 1) / run_rows), threads, 0, on>>>(
        s.input(0), s.output(0), s.states(), s.sequence_rows(), sequences, stored_weight(s.weight(0)), bias,
        n);
  else
    convolve<<<dim3(blocks, rows), threads, 0, on>>>(s.input(0), s.output(0), s.states(), s.sequence_rows(),
                                                     sequences, stored_weight(s.weight(0)), bias, n, taps);
  keep_rows<<<dim3(blocks, sequences), threads, 0, on>>>(s.input(0), s.states(), s.sequence_rows(), n, taps);
  check_launches(name);
}

}  // namespace jamba
