// The ops that take the time, at T = 1, 8 and 128 rows, with bf16 weights, on all cores.
//
//   flops   multiply-adds count two          bytes   weights, keys and values that must be read once
//
// The column CPU adds up all threads. `memory_read` is what this machine's memory gives in the same run:
// compare `bytes` of T = 1 with it.
#include <benchmark/benchmark.h>

#include <atomic>
#include <numeric>
#include <random>
#include <vector>

#include "ops/attention/attention.hpp"
#include "ops/linear/linear.hpp"
#include "ops/moe/experts.hpp"

namespace troupe::ops {
namespace {

execution& context() {
  static thread_pool threads(0);
  static execution one(threads);
  return one;
}

std::vector<float> random_floats(std::size_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(random);
  return values;
}

// bf16 numbers in (-1, 1). Many weights: their values do not matter, only that they are ordinary.
std::vector<std::uint16_t> random_bf16(std::size_t count) {
  std::vector<std::uint16_t> values(count);
  std::uint32_t state = 1;
  for (auto& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<std::uint16_t>((state >> 16 & 0x807f) | 0x3f00);
  }
  return values;
}

weight_matrix matrix(const std::vector<std::uint16_t>& values, std::size_t first, std::size_t rows,
                     std::size_t columns) {
  return {DType::bf16, reinterpret_cast<const std::byte*>(values.data() + first), rows, columns};
}

void report(benchmark::State& state, double flops, double bytes) {
  const auto rounds = static_cast<double>(state.iterations());
  state.counters["flops"] = benchmark::Counter(flops * rounds, benchmark::Counter::kIsRate);
  state.counters["bytes"] = benchmark::Counter(bytes * rounds, benchmark::Counter::kIsRate);
}

void memory_read(benchmark::State& state) {
  const std::vector<std::uint64_t> memory(std::size_t{64} << 20, 1);  // 512 MiB
  std::atomic<std::uint64_t> sink{0};
  while (state.KeepRunning()) {
    context().threads().parallel_for(memory.size(), 1 << 16,
                                     [&](std::size_t begin, std::size_t end, unsigned) {
                                       std::uint64_t sums[8] = {};
                                       for (std::size_t i = begin; i + 8 <= end; i += 8) {
                                         for (std::size_t j = 0; j < 8; ++j) sums[j] += memory[i + j];
                                       }
                                       sink += std::accumulate(sums, sums + 8, std::uint64_t{0});
                                     });
  }
  benchmark::DoNotOptimize(sink.load());
  report(state, 0, static_cast<double>(memory.size()) * 8);
}

// T, N, M
void linear(benchmark::State& state) {
  const auto rows = static_cast<std::size_t>(state.range(0)), n = static_cast<std::size_t>(state.range(1)),
             m = static_cast<std::size_t>(state.range(2));
  const auto x = random_floats(rows * n);
  const auto w = random_bf16(n * m);
  std::vector<float> y(rows * m);
  const linear_map map{matrix(w, 0, m, n), {}, {y.data(), rows, m}};
  while (state.KeepRunning()) linear_cpu(context(), {x.data(), rows, n}, {&map, 1});
  const auto elements = static_cast<double>(n) * static_cast<double>(m);
  report(state, 2 * elements * static_cast<double>(rows), 2 * elements);
}

// T, D, F; 8 experts, 2 per row
void experts(benchmark::State& state) {
  constexpr std::size_t count = 8, k = 2;
  const auto rows = static_cast<std::size_t>(state.range(0)),
             width = static_cast<std::size_t>(state.range(1)),
             hidden = static_cast<std::size_t>(state.range(2));
  const std::size_t size = width * hidden;
  const auto all = random_bf16(3 * count * size);
  std::vector<weight_matrix> gate, up, down;
  for (std::size_t e = 0; e < count; ++e) {
    gate.push_back(matrix(all, 3 * e * size, hidden, width));
    up.push_back(matrix(all, (3 * e + 1) * size, hidden, width));
    down.push_back(matrix(all, (3 * e + 2) * size, width, hidden));
  }
  const auto x = random_floats(rows * width);
  const std::vector<float> share(rows * k, 0.5f);
  std::vector<std::int32_t> chosen;
  for (std::size_t t = 0; t < rows; ++t) {
    chosen.push_back(static_cast<std::int32_t>(t % count));
    chosen.push_back(static_cast<std::int32_t>((t + 3) % count));
  }
  std::vector<float> y(rows * width);
  while (state.KeepRunning()) {
    experts_cpu(context(), {y.data(), rows, width}, {x.data(), rows, width}, {share.data(), rows, k},
                {chosen.data(), rows, k}, {gate, up, down, activation::silu});
  }
  const auto expert_elements = 3 * static_cast<double>(size);
  const auto used = static_cast<double>(std::min(count, rows * k));
  report(state, 2 * expert_elements * static_cast<double>(rows * k), 2 * expert_elements * used);
}

// T, sequences, context, H, K, Dh: each sequence's T / sequences last positions
void attention(benchmark::State& state) {
  const auto arg = [&](int i) { return static_cast<std::size_t>(state.range(i)); };
  const std::size_t rows = arg(0), sequences = arg(1), length = arg(2);
  const attention_shape shape{arg(3), arg(4), arg(5), 0.1f, 0};
  constexpr std::size_t block_tokens = 16;
  const std::size_t layer = 2 * shape.kv_heads * shape.head_dim * block_tokens,
                    blocks = length / block_tokens;
  auto pool = random_floats(sequences * blocks * layer + 16);
  const kv_cache cache{pool.data(), layer, 0, block_tokens, shape.kv_heads, shape.head_dim};
  const auto q = random_floats(rows * shape.heads * shape.head_dim);
  const auto kv = random_floats(rows * shape.kv_heads * shape.head_dim);
  std::vector<std::uint32_t> ids(sequences * blocks), starts{0};
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<std::span<const std::uint32_t>> tables;
  std::vector<std::int32_t> positions;
  double pairs = 0;
  for (std::size_t s = 0; s < sequences; ++s) {
    tables.push_back(std::span(ids).subspan(s * blocks, blocks));
    for (std::size_t p = length - rows / sequences; p < length; ++p) {
      positions.push_back(static_cast<std::int32_t>(p));
      pairs += static_cast<double>(p + 1);
    }
    starts.push_back(static_cast<std::uint32_t>(positions.size()));
  }
  std::vector<float> y(q.size());
  while (state.KeepRunning()) {
    attention_cpu(
        context(), {y.data(), rows, shape.heads * shape.head_dim},
        {q.data(), rows, shape.heads * shape.head_dim}, {kv.data(), rows, shape.kv_heads * shape.head_dim},
        {kv.data(), rows, shape.kv_heads * shape.head_dim}, cache, {positions, starts, tables}, shape);
  }
  report(state, 4 * pairs * static_cast<double>(shape.heads * shape.head_dim),
         static_cast<double>(sequences * length * 2 * shape.kv_heads * shape.head_dim * sizeof(float)));
}

BENCHMARK(memory_read)->MeasureProcessCPUTime()->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(linear)
    ->ArgNames({"T", "N", "M"})
    ->ArgsProduct({{1, 8, 128}, {4096}, {4096}})
    ->ArgsProduct({{1, 8, 128}, {256}, {4096}})  // the demo model's output layer
    ->MeasureProcessCPUTime()
    ->UseRealTime();
BENCHMARK(experts)
    ->ArgNames({"T", "D", "F"})
    ->ArgsProduct({{1, 8, 128}, {2048}, {3584}})
    ->ArgsProduct({{1, 8, 128}, {256}, {128}})  // the demo model's layer
    ->MeasureProcessCPUTime()
    ->UseRealTime();
BENCHMARK(attention)
    ->ArgNames({"T", "S", "context", "H", "K", "Dh"})
    ->Args({1, 1, 2048, 32, 8, 128})
    ->Args({8, 8, 2048, 32, 8, 128})
    ->Args({128, 1, 2048, 32, 8, 128})
    ->Args({128, 1, 2048, 8, 2, 32})  // the demo model's layer
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace troupe::ops
