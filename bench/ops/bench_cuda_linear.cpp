#include "bench/ops/bench_cuda_linear.hpp"

#include <algorithm>
#include <vector>

#include "bench/ops/cuda_timing.hpp"
#include "ops/linear/linear_cuda.hpp"

namespace troupe::bench {

using namespace ops;

// int8 maps of one tensor in one launch, beside the streaming kernel.
void bench_joined(const device_limits& limits) {
  struct maps {
    const char* name;
    std::size_t n;
    std::vector<std::size_t> outputs;
  };
  for (const maps& one : {maps{"qkv", 4096, {4096, 1024, 1024}},
                          {"o", 4096, {4096}},
                          {"jamba in", 4096, {16384}},
                          {"jamba x", 8192, {288}},
                          {"jamba dt", 256, {8192}},
                          {"jamba out", 8192, {4096}},
                          {"gate, up", 4096, {14336, 14336}},
                          {"down", 14336, {4096}},
                          {"dbrx qkv", 6144, {6144, 1024, 1024}}}) {
    std::size_t numbers = 0;
    for (const std::size_t m : one.outputs) numbers += m * one.n;
    const std::size_t copies = std::max<std::size_t>(2, (std::size_t{200} << 20) / numbers);
    auto* weights = take<std::int8_t>(numbers * copies);
    auto* scales = take<float>(16384);
    for (const std::size_t rows : {1u, 4u, 8u, 16u, 32u, 64u, 128u}) {
      auto* x = take<float>(rows * one.n);
      auto* half = take<__nv_bfloat16>(rows * one.n);
      std::vector<float*> y;
      for (const std::size_t m : one.outputs) y.push_back(take<float>(rows * m, false));
      const auto list = [&](int i) {
        std::vector<device_linear> all;
        auto* w = weights + static_cast<std::size_t>(i) % copies * numbers;
        for (std::size_t p = 0; p < one.outputs.size(); ++p) {
          const std::size_t m = one.outputs[p];
          all.push_back({{w, scales, m, one.n}, nullptr, {y[p], rows, m}});
          w += m * one.n;
        }
        return all;
      };
      const auto tell = [&](const char* how, double s) {
        char text[80];
        std::snprintf(text, sizeof text, "int8 %s %s, %zu rows", one.name, how, rows);
        row(text, s, static_cast<double>(numbers), 2.0 * static_cast<double>(rows * numbers));
      };
      if (rows <= few_rows)
        tell("few", time_of([&](int i) { linear_few_cuda(on, {x, rows, one.n}, list(i), limits); }));
      tell("joined", time_of([&](int i) {
             to_bf16_cuda(on, half, {x, rows, one.n}, true);
             linear_joined_cuda(on, {half, rows, one.n}, list(i), limits);
           }));
      for (auto* p : y) cudaFree(p);
      cudaFree(x);
      cudaFree(half);
    }
    cudaFree(weights);
    cudaFree(scales);
  }
}

void bench_linear(cuda::gemm& library, const device_limits& limits) {
  constexpr std::size_t n = 4096, m = 4096, copies = 6;
  std::vector<__nv_bfloat16*> weights;
  for (std::size_t i = 0; i < copies; ++i) weights.push_back(take<__nv_bfloat16>(n * m));
  for (const std::size_t rows : {1u, 4u, 8u, 16u, 32u, 64u, 256u, 1024u, 4096u}) {
    auto* x = take<float>(rows * n);
    auto* half = take<__nv_bfloat16>(rows * n);
    auto* y = take<float>(rows * m, false);
    const auto map = [&](int i) {
      return device_linear{
          {weights[static_cast<std::size_t>(i) % copies], nullptr, m, n}, nullptr, {y, rows, m}};
    };
    const auto tell = [&](const char* how, double s) {
      char text[80];
      std::snprintf(text, sizeof text, "linear 4096 x 4096 %s, %zu rows", how, rows);
      row(text, s, 2.0 * n * m, 2.0 * static_cast<double>(rows) * n * m);
    };
    if (rows <= few_rows)
      tell("few", time_of([&](int i) {
             const device_linear one[] = {map(i)};
             linear_few_cuda(on, {x, rows, n}, one, limits);
           }));
    tell("tiles", time_of([&](int i) { linear_tiles_cuda(on, {half, rows, n}, map(i), limits); }));
    tell("cuBLASLt", time_of([&](int i) {
           if (auto done = library.multiply(on, {y, rows, m}, {half, rows, n}, map(i).weight); !done)
             std::fprintf(stderr, "%s\n", done.error().text.c_str());
         }));
    cudaFree(x);
    cudaFree(half);
    cudaFree(y);
  }
  for (auto* p : weights) cudaFree(p);
}

}  // namespace troupe::bench
