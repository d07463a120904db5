#include <climits>

#include "ops/device/cuda_math.cuh"
#include "ops/sampling/sampler_cuda.hpp"

namespace troupe::ops {
namespace {

constexpr unsigned threads = 1024;
constexpr unsigned warps = threads / cuda::warp_size;
constexpr float lowest = -INFINITY;

// Philox4x32-10; see philox.hpp.
__device__ double uniform(std::uint64_t seed, std::uint64_t position) {
  std::uint32_t c[4] = {static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0,
                        0};
  std::uint32_t key[2] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0], b = std::uint64_t{0xCD9E8D57u} * c[2];
    const std::uint32_t next[4] = {
        static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  const std::uint64_t word = std::uint64_t{c[1]} << 32 | c[0];
  return static_cast<double>(word >> 11) * 0x1p-53;
}

struct shared_memory {
  float floats[warps];
  double doubles[warps];
  int ints[warps];
  unsigned long long histogram[256];
  unsigned long long found_sum;
  unsigned found_digit;
  int flag;
  int token;
};

template <class T, class Join>
__device__ T reduce(T own, T* shared, T neutral, Join join) {
  for (int step = cuda::warp_size / 2; step > 0; step /= 2)
    own = join(own, __shfl_xor_sync(cuda::all_lanes, own, step));
  __syncthreads();
  if (threadIdx.x % cuda::warp_size == 0) shared[threadIdx.x / cuda::warp_size] = own;
  __syncthreads();
  T all = threadIdx.x % cuda::warp_size < warps ? shared[threadIdx.x % cuda::warp_size] : neutral;
  for (int step = cuda::warp_size / 2; step > 0; step /= 2)
    all = join(all, __shfl_xor_sync(cuda::all_lanes, all, step));
  return all;
}

// Sum of what the threads before hold; `total`: of all.
template <class T>
__device__ T sum_before(T own, T* shared, T& total) {
  const unsigned lane = threadIdx.x % cuda::warp_size, warp = threadIdx.x / cuda::warp_size;
  T sum = own;
  for (int step = 1; step < cuda::warp_size; step *= 2) {
    const T other = __shfl_up_sync(cuda::all_lanes, sum, step);
    if (lane >= static_cast<unsigned>(step)) sum += other;
  }
  __syncthreads();
  if (lane == cuda::warp_size - 1) shared[warp] = sum;
  __syncthreads();
  T before = 0;
  total = 0;
  for (unsigned w = 0; w < warps; ++w) {
    if (w == warp) before = total;
    total += shared[w];
  }
  return before + sum - own;
}

struct peak {
  float logit;
  std::int32_t token;
  bool finite;
};

__device__ int first_equal(const float* row, unsigned size, float value, shared_memory& shared) {
  int first = INT_MAX;
  for (unsigned i = threadIdx.x; i < size; i += threads)
    if (row[i] == value) {
      first = static_cast<int>(i);
      break;
    }
  return reduce(first, shared.ints, INT_MAX, [](int a, int b) { return a < b ? a : b; });
}

__device__ peak find_peak(const float* row, unsigned size, shared_memory& shared) {
  float most = lowest;
  int bad = 0;
  for (unsigned i = threadIdx.x; i < size; i += threads) {
    const float value = row[i];
    if (!(value < INFINITY)) bad = 1;
    most = fmaxf(most, value);
  }
  most = reduce(most, shared.floats, lowest, [](float a, float b) { return fmaxf(a, b); });
  bad = reduce(bad, shared.ints, 0, [](int a, int b) { return a | b; });
  if (bad != 0 || most == lowest) return {most, -1, false};
  return {most, first_equal(row, size, most, shared), true};
}

__device__ void penalize(float& logit, const device_request& r, unsigned generated) {
  logit = logit > 0 ? logit / r.repetition_penalty : logit * r.repetition_penalty;
  if (generated > 0) logit -= r.presence_penalty + r.frequency_penalty * static_cast<float>(generated);
}

__device__ bool within(std::int32_t token, unsigned size) {
  return token >= 0 && static_cast<unsigned>(token) < size;
}

// Bias, penalties, bans on a copy of the row.
__device__ void adjust(float* row, const float* logits, unsigned size, const device_request& r,
                       const sampling_lists& lists, shared_memory& shared) {
  for (unsigned i = threadIdx.x; i < size; i += threads) row[i] = logits[i];
  __syncthreads();
  for (unsigned i = r.bias_begin + threadIdx.x; i < r.bias_end; i += threads)
    if (within(lists.bias[i].token, size)) atomicAdd(&row[lists.bias[i].token], lists.bias[i].bias);
  if (threadIdx.x == 0) shared.flag = 0;
  __syncthreads();
  const bool penalties = r.repetition_penalty != 1 || r.presence_penalty != 0 || r.frequency_penalty != 0;
  const std::int32_t pending = penalties && r.pending >= 0 ? lists.earlier[r.pending] : -1;
  if (penalties) {
    for (unsigned i = r.history_begin + threadIdx.x; i < r.history_end; i += threads) {
      const history_entry entry = lists.history[i];
      if (!within(entry.token, size)) continue;
      if (entry.token == pending) shared.flag = 1;
      penalize(row[entry.token], r, entry.generated + (entry.token == pending ? 1 : 0));
    }
    __syncthreads();
    if (threadIdx.x == 0 && shared.flag == 0 && within(pending, size)) penalize(row[pending], r, 1);
  }
  __syncthreads();
  for (unsigned i = r.banned_begin + threadIdx.x; i < r.banned_end; i += threads)
    if (within(lists.banned[i], size)) row[lists.banned[i]] = lowest;
  __syncthreads();
}

// What is left of a row: weights above `value`, and of those equal to it the `equals` of lowest id.
struct border {
  float value = -1;
  unsigned equals = 0;
  bool all = true;
};

// Weights are in [0, 1]: summed exactly, whatever the order.
__device__ unsigned long long exact(float weight) {
  return static_cast<unsigned long long>(static_cast<double>(weight) * 0x1p44);
}

// The weight w at which what lies above first stays below `wanted` and with w reaches it, and what lies above. Weights below
// `least` don't count. Descends digit by digit of 8 bits; the bits of weights that are not negative order as they do.
template <class Measure>
__device__ float descend(const float* weights, unsigned size, unsigned long long wanted, float least,
                         Measure measure, unsigned long long& above, shared_memory& shared) {
  unsigned prefix = 0, mask = 0;
  above = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 256; i += threads) shared.histogram[i] = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < size; i += threads) {
      const unsigned bits = __float_as_uint(weights[i]);
      if ((bits & mask) == prefix && weights[i] >= least)
        atomicAdd(&shared.histogram[bits >> shift & 255], measure(weights[i]));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned long long sum = above;
      unsigned lowest_used = 0;
      bool any = false, reached = false;
      for (int digit = 255; digit >= 0; --digit) {
        const auto own = shared.histogram[digit];
        if (own == 0) continue;
        lowest_used = digit;
        any = true;
        shared.found_sum = sum;
        if (sum + own >= wanted) {
          reached = true;
          break;
        }
        sum += own;
      }
      (void)reached;  // rounding: then the least weight that counts
      shared.found_digit = any ? lowest_used : 0;
      if (!any) shared.found_sum = above;
    }
    __syncthreads();
    above = shared.found_sum;
    prefix |= shared.found_digit << shift;
    mask |= 255u << shift;
  }
  return __uint_as_float(prefix);
}

__device__ border find_border(const float* weights, unsigned size, const device_request& r,
                              shared_memory& shared) {
  border left;
  unsigned long long above = 0;
  if (r.top_k != 0 && r.top_k < size) {
    left.value = descend(
        weights, size, r.top_k, 0.0f, [](float) { return 1ull; }, above, shared);
    left.equals = r.top_k - static_cast<unsigned>(above);
    left.all = false;
  }
  if (r.top_p < 1) {
    double own = 0;
    for (unsigned i = threadIdx.x; i < size; i += threads)
      if (left.all || weights[i] > left.value) own += weights[i];
    double total = reduce(own, shared.doubles, 0.0, [](double a, double b) { return a + b; });
    if (!left.all) total += static_cast<double>(left.value) * left.equals;
    const auto wanted = static_cast<unsigned long long>(static_cast<double>(r.top_p) * total * 0x1p44);
    const float least = left.all ? 0.0f : left.value;
    const float value = descend(
        weights, size, wanted, least, [](float w) { return exact(w); }, above, shared);
    unsigned equals = 1;
    if (value > 0 && wanted > above) {
      const unsigned long long each = exact(value) > 0 ? exact(value) : 1;
      equals = static_cast<unsigned>(
          min((wanted - above + each - 1) / each, static_cast<unsigned long long>(size)));
      if (equals == 0) equals = 1;
    }
    if (!left.all && value == left.value) equals = min(equals, left.equals);
    left = {value, equals, false};
  }
  return left;
}

// The draw over what is left, in the order of ids.
__device__ std::int32_t draw(const float* weights, unsigned size, const device_request& r,
                             shared_memory& shared) {
  const border left = find_border(weights, size, r, shared);
  const float least = r.min_p > 0 ? r.min_p : 0;
  const unsigned per = (size + threads - 1) / threads, first = min(threadIdx.x * per, size),
                 end = min(first + per, size);
  int equals = 0, all_equals = 0;
  if (!left.all)
    for (unsigned i = first; i < end; ++i) equals += weights[i] == left.value;
  const int rank = sum_before(equals, shared.ints, all_equals);
  const auto each = [&](auto visit) {
    int own_rank = rank;
    for (unsigned i = first; i < end; ++i) {
      const float weight = weights[i];
      const bool equal = !left.all && weight == left.value;
      const bool in = left.all || weight > left.value || (equal && own_rank < static_cast<int>(left.equals));
      own_rank += equal;
      if (in && weight > 0 && weight >= least && !visit(i, weight)) return;
    }
  };
  double own = 0, total = 0;
  int last = -1;
  each([&](unsigned i, float weight) {
    own += weight;
    last = static_cast<int>(i);
    return true;
  });
  const double before = sum_before(own, shared.doubles, total);
  const double target = uniform(r.seed, r.position) * total;
  int chosen = INT_MAX;
  if (before + own > target) {
    double sum = before;
    each([&](unsigned i, float weight) {
      sum += weight;
      if (sum > target) chosen = static_cast<int>(i);
      return sum <= target;
    });
  }
  chosen = reduce(chosen, shared.ints, INT_MAX, [](int a, int b) { return a < b ? a : b; });
  if (chosen != INT_MAX) return chosen;
  return reduce(last, shared.ints, -1, [](int a, int b) { return a > b ? a : b; });  // rounding
}

__device__ void add_logprobs(const float* logits, unsigned size, float most, unsigned top,
                             device_choice& choice, device_alternative* to, shared_memory& shared) {
  double own = 0;
  for (unsigned i = threadIdx.x; i < size; i += threads) own += static_cast<double>(expf(logits[i] - most));
  const double normalizer =
      most + log(reduce(own, shared.doubles, 0.0, [](double a, double b) { return a + b; }));
  choice.logprob = static_cast<float>(logits[choice.token] - normalizer);
  float bound = INFINITY;
  int bound_token = -1;
  for (unsigned n = 0; n < top && n < size; ++n) {
    float best = lowest;
    int token = INT_MAX;
    for (unsigned i = threadIdx.x; i < size; i += threads) {
      const float value = logits[i];
      const bool behind = value < bound || (value == bound && static_cast<int>(i) > bound_token);
      if (behind && (value > best || token == INT_MAX)) {
        best = value;
        token = static_cast<int>(i);
      }
    }
    const float most_left = reduce(token == INT_MAX ? lowest : best, shared.floats, lowest,
                                   [](float a, float b) { return fmaxf(a, b); });
    bound_token = reduce(token != INT_MAX && best == most_left ? token : INT_MAX, shared.ints, INT_MAX,
                         [](int a, int b) { return a < b ? a : b; });
    bound = most_left;
    if (threadIdx.x == 0) to[n] = {bound_token, static_cast<float>(bound - normalizer)};
    choice.top_count = static_cast<int>(n) + 1;
  }
}

__global__ void __launch_bounds__(threads)
    choose(const float* all_logits, unsigned size, sampling_lists lists, float* scratch,
           device_choice* choices, std::int32_t* tokens, device_alternative* top, std::size_t top_stride) {
  __shared__ shared_memory shared;
  const device_request r = lists.requests[blockIdx.x];
  const float* logits = all_logits + std::size_t{r.logit_row} * size;
  device_choice choice;
  const peak raw = find_peak(logits, size, shared);
  peak best = raw;
  float* row = r.scratch < 0 ? nullptr : scratch + static_cast<std::size_t>(r.scratch) * size;
  if (raw.finite && r.scored < 0 && row != nullptr) {
    adjust(row, logits, size, r, lists, shared);
    best = find_peak(row, size, shared);
  }
  if (raw.finite && best.finite) {
    choice.finite = 1;
    if (r.scored >= 0) {
      choice.token = r.scored;
    } else if (r.temperature == 0 || r.top_k == 1) {
      choice.token = best.token;
    } else {
      const float scale = fminf(1 / r.temperature, 3.402823466e38f);
      __syncthreads();
      for (unsigned i = threadIdx.x; i < size; i += threads) row[i] = expf((row[i] - best.logit) * scale);
      __syncthreads();
      choice.token = draw(row, size, r, shared);
    }
    if (r.top_logprobs >= 0)
      add_logprobs(logits, size, raw.logit, static_cast<unsigned>(r.top_logprobs), choice,
                   top + blockIdx.x * top_stride, shared);
  }
  if (threadIdx.x != 0) return;
  choices[blockIdx.x] = choice;
  tokens[blockIdx.x] = choice.token;
}

}  // namespace

void sample_cuda(cudaStream_t stream, device_inputs logits, const sampling_lists& lists, std::size_t requests,
                 float* scratch, device_choice* choices, std::int32_t* tokens, device_alternative* top,
                 std::size_t top_stride) {
  if (requests == 0) return;
  choose<<<static_cast<unsigned>(requests), threads, 0, stream>>>(
      logits.data, static_cast<unsigned>(logits.width), lists, scratch, choices, tokens, top, top_stride);
}

}  // namespace troupe::ops
