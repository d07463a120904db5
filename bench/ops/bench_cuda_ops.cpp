// What the CUDA ops reach on this device, beside what it can: one table. Weights are random numbers; each figure is the median of
// several runs over data that is larger than the caches. Shapes are those of Mixtral 8x7B, DBRX and Jamba.
//
//   R   bytes/s of a kernel that only reads, over 8 GiB (or what is free)
//   G   operations/s of cuBLASLt, bf16, 8192 x 8192 x 8192
//   share   the greater of bytes / R and operations / G, over the time taken
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "bench/ops/bench_cuda_layer.hpp"
#include "bench/ops/bench_cuda_linear.hpp"
#include "bench/ops/cuda_timing.hpp"
#include "ops/attention/attention_cuda.hpp"
#include "ops/backends/cuda/gemm.hpp"
#include "ops/moe/experts_cuda.hpp"

namespace {

using namespace troupe;
using namespace troupe::ops;
using namespace troupe::bench;

struct mixture {
  const char* name;
  std::size_t experts, top_k, width, hidden;
};

void bench_experts(const mixture& m, bool int8, const device_limits& limits) {
  std::vector<const void*> planes[3];
  std::vector<const float*> scales[3];
  const std::size_t numbers = m.width * m.hidden;
  char* stacks[3];
  const std::size_t stride = numbers * (int8 ? 1 : 2);
  for (int i = 0; i < 3; ++i) {
    stacks[i] = take<char>(m.experts * stride);
    for (std::size_t e = 0; e < m.experts; ++e) {
      planes[i].push_back(stacks[i] + e * stride);
      scales[i].push_back(take<float>(std::max(m.width, m.hidden)));
    }
  }
  device_experts mlp{put(planes[0]), put(planes[1]), put(planes[2])};
  if (int8) {
    mlp.gate_scales = put(scales[0]);
    mlp.up_scales = put(scales[1]);
    mlp.down_scales = put(scales[2]);
  }
  mlp.experts = m.experts;
  mlp.hidden = m.hidden;
  mlp.gate_stack = {stacks[0], stride};
  mlp.up_stack = {stacks[1], stride};
  mlp.down_stack = {stacks[2], stride};
  for (const std::size_t rows : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 8192u}) {
    std::mt19937 random(1);
    std::vector<std::vector<std::int32_t>> lists;
    std::vector<std::int32_t*> choices;
    double touched = 0;
    for (int set = 0; set < 11; ++set) {
      std::vector<std::int32_t> all(m.experts), chosen;
      std::vector<bool> used(m.experts);
      for (std::size_t e = 0; e < m.experts; ++e) all[e] = static_cast<std::int32_t>(e);
      for (std::size_t t = 0; t < rows; ++t) {
        std::shuffle(all.begin(), all.end(), random);
        for (std::size_t i = 0; i < m.top_k; ++i) {
          chosen.push_back(all[i]);
          used[static_cast<std::size_t>(all[i])] = true;
        }
      }
      touched += static_cast<double>(std::count(used.begin(), used.end(), true)) / 11;
      choices.push_back(put(chosen));
    }
    auto* x = take<float>(rows * m.width);
    auto* y = take<float>(rows * m.width, false);
    auto* w = take<float>(rows * m.top_k);
    const std::size_t usual = mlp.wide_from;
    mlp.wide_from = 1;
    const std::size_t of_wide = experts_workspace(rows, m.width, m.top_k, mlp);
    mlp.wide_from = usual;
    auto* workspace = take<char>(std::max(of_wide, experts_workspace(rows, m.width, m.top_k, mlp)), false);
    for (const bool wide : {false, true}) {
      const bool both = rows >= 128 && rows <= 1024;
      if (!both && wide) continue;
      if (both) mlp.wide_from = wide ? 1 : rows;
      const double s = time_of([&](int i) {
        experts_cuda(on, {y, rows, m.width}, {x, rows, m.width}, {w, rows, m.top_k},
                     {choices[static_cast<std::size_t>(i)], rows, m.top_k}, mlp, workspace, limits);
      });
      mlp.wide_from = usual;
      char text[80];
      std::snprintf(text, sizeof text, "experts %s %s, %zu rows%s", m.name, int8 ? "int8" : "bf16", rows,
                    !both  ? ""
                    : wide ? ", wide"
                           : ", tiles");
      row(text, s, touched * 3 * static_cast<double>(numbers) * (int8 ? 1 : 2),
          6.0 * static_cast<double>(rows * m.top_k * numbers));
    }
    for (void* p :
         {static_cast<void*>(x), static_cast<void*>(y), static_cast<void*>(w), static_cast<void*>(workspace)})
      cudaFree(p);
    for (auto* p : choices) cudaFree(p);
  }
  for (char* p : stacks) cudaFree(p);
}

// 32 query heads, 8 key/value heads of 128.
void bench_attention(const device_limits& limits) {
  const device_attention shape{32, 8, 128, 0.088f, 0, 0};
  constexpr unsigned block_tokens = 64;
  for (const auto& [sequences, length, rows] : {std::tuple{1u, 1024u, 1u},
                                                {1u, 8192u, 1u},
                                                {1u, 32768u, 1u},
                                                {1u, 262144u, 1u},
                                                {8u, 1024u, 1u},
                                                {8u, 8192u, 1u},
                                                {32u, 8192u, 1u},
                                                {64u, 1024u, 1u},
                                                {64u, 8192u, 1u},
                                                {1u, 1024u, 1024u},
                                                {1u, 8192u, 8192u},
                                                {1u, 32768u, 4096u}}) {
    const std::size_t per_sequence = length / block_tokens, blocks = sequences * per_sequence;
    const std::size_t stride = std::size_t{2} * shape.kv_heads * shape.head_dim * block_tokens;
    std::vector<std::int32_t> positions;
    std::vector<std::uint32_t> row_sequences, starts, tables(blocks);
    std::vector<decode_part> parts;
    std::vector<query_tile> tiles;
    for (std::size_t i = 0; i < blocks; ++i) tables[i] = static_cast<std::uint32_t>(i);
    std::shuffle(tables.begin(), tables.end(), std::mt19937(1));
    for (unsigned s = 0; s < sequences; ++s) {
      starts.push_back(static_cast<std::uint32_t>(s * per_sequence));
      for (unsigned r = 0; r < rows; ++r) {
        positions.push_back(static_cast<std::int32_t>(length - rows + r));
        row_sequences.push_back(s);
      }
      if (rows == 1) add_decode_parts(parts, s, 0, length);
      for (unsigned t = 0; rows > 1 && t < rows; t += tile_tokens(shape))
        tiles.push_back({s * rows + t, std::min(tile_tokens(shape), rows - t)});
    }
    const std::size_t all = positions.size(), width = shape.heads * shape.head_dim;
    auto* pool = take<__nv_bfloat16>(blocks * stride);
    auto* q = take<float>(all * width);
    auto* y = take<float>(all * width, false);
    auto* partials =
        take<float>(std::max<std::size_t>(1, parts.size()) * shape.heads * (shape.head_dim + 2), false);
    const device_kv cache{pool, stride, 0, block_tokens};
    const device_tables tables_there{
        put(positions), put(row_sequences),
        put(starts),    put(tables),
        put(parts),     put(std::vector<std::uint32_t>{static_cast<std::uint32_t>(parts.size())}),
        put(tiles)};
    const double s = time_of([&](int) {
      attend_alone_cuda(on, {y, all, width}, {q, all, width}, cache, tables_there, shape, parts.size(),
                        partials, limits);
      attend_tiles_cuda(on, {y, all, width}, {q, all, width}, cache, tables_there, shape, tiles.size());
    });
    char text[80];
    std::snprintf(text, sizeof text, "attention %u x %u positions, %u rows", sequences, length, rows);
    const double seen = rows == 1 ? length : length - rows / 2.0;
    row(text, s, static_cast<double>(blocks * stride * 2), 4.0 * static_cast<double>(all * width) * seen);
    for (void* p : {static_cast<void*>(pool), static_cast<void*>(q), static_cast<void*>(y),
                    static_cast<void*>(partials)})
      cudaFree(p);
  }
}

}  // namespace

// Arguments: which tables (linear, joined, layers, experts-bf16, experts-int8, attention); none = all.
int main(int argc, char** argv) {
  const auto wanted = [&](std::string_view name) {
    return argc < 2 || std::find(argv + 1, argv + argc, name) != argv + argc;
  };
  cudaDeviceProp device = {};
  check(cudaGetDeviceProperties(&device, 0), "no CUDA device");
  const device_limits limits{device.multiProcessorCount, device.sharedMemPerBlockOptin};
  check(cudaStreamCreateWithFlags(&on, cudaStreamNonBlocking), "cudaStreamCreate");
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  const std::size_t bytes = std::min(std::size_t{8} << 30, free / 2);
  {
    auto* data = take<std::uint32_t>(bytes / 4);
    auto* out = take<unsigned>(1);
    const double s = time_of([&](int) { bench::read_all(data, bytes, out, limits.processors, on); });
    reads = static_cast<double>(bytes) / s;
    cudaFree(data);
  }
  auto library = cuda::gemm::open();
  if (!library) {
    std::fprintf(stderr, "bench_cuda_ops: %s\n", library.error().text.c_str());
    return 1;
  }
  {
    constexpr std::size_t size = 8192;
    auto* a = take<__nv_bfloat16>(size * size);
    auto* b = take<__nv_bfloat16>(size * size);
    auto* c = take<float>(size * size, false);
    const double s = time_of([&](int) {
      if (auto done = (*library)->multiply(on, {c, size, size}, {a, size, size}, {b, nullptr, size, size});
          !done)
        std::fprintf(stderr, "%s\n", done.error().text.c_str());
    });
    operations = 2.0 * size * size * size / s;
    cudaFree(a);
    cudaFree(b);
    cudaFree(c);
  }
  std::printf("%s: R %.2f TB/s, G %.0f TFLOP/s\n", device.name, reads / 1e12, operations / 1e12);
  if (wanted("linear")) bench_linear(**library, limits);
  if (wanted("joined")) bench_joined(limits);
  if (wanted("layers"))
    for (const bool int8 : {false, true}) bench_layers(**library, limits, int8);
  const mixture mixtral{"mixtral", 8, 2, 4096, 14336}, dbrx{"dbrx", 16, 4, 6144, 10752},
      jamba{"jamba", 16, 2, 4096, 14336};
  for (const bool int8 : {false, true})
    for (const auto& one : {mixtral, dbrx, jamba})
      if (wanted(int8 ? "experts-int8" : "experts-bf16")) bench_experts(one, int8, limits);
  if (wanted("attention")) bench_attention(limits);
  return 0;
}
