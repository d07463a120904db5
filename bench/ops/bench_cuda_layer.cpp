#include "bench/ops/bench_cuda_layer.hpp"

#include <random>

#include "bench/ops/cuda_timing.hpp"
#include "ops/attention/attention_cuda.hpp"
#include "ops/elementwise/elementwise_cuda.hpp"
#include "ops/linear/linear_cuda.hpp"
#include "ops/moe/experts_cuda.hpp"
#include "ops/moe/router_cuda.hpp"
#include "ops/norm/norm_cuda.hpp"
#include "ops/rope/rope_cuda.hpp"

namespace troupe::bench {
namespace {

using namespace ops;

struct layer_shape {
  const char* name;
  std::size_t experts, top_k, width, hidden;
  unsigned heads, kv_heads;
};
constexpr unsigned head_dim = 128, block_tokens = 64;

class layer {
 public:
  layer(const layer_shape& shape, bool int8, std::size_t rows, unsigned context)
      : s_(shape), int8_(int8), rows_(rows), attention_{shape.heads, shape.kv_heads, head_dim, 0.088f, 0, 0} {
    take_weights();
    take_cache(context);
    const std::size_t queries = std::size_t{s_.heads} * head_dim, keys = std::size_t{s_.kv_heads} * head_dim;
    for (auto* to : {&x_, &h_, &sum_, &y_}) *to = {take<float>(rows * s_.width), rows, s_.width};
    for (auto* to : {&q_, &mixed_}) *to = {take<float>(rows * queries), rows, queries};
    for (auto* to : {&k_, &v_}) *to = {take<float>(rows * keys), rows, keys};
    for (auto* to : {&cosines_, &sines_}) *to = {take<float>(rows * head_dim / 2), rows, head_dim / 2};
    logits_ = {take<float>(rows * s_.experts), rows, s_.experts};
    shares_ = {take<float>(rows * s_.top_k), rows, s_.top_k};
    chosen_ = {take<std::int32_t>(rows * s_.top_k), rows, s_.top_k};
    half_ = take<__nv_bfloat16>(rows * std::max(s_.width, queries));
    workspace_ = take<char>(experts_workspace(rows, s_.width, s_.top_k, mlp_), false);
  }

  void launch(cuda::gemm& library, const device_limits& limits) {
    const device_linear qkv[] = {{q_weight_, nullptr, q_},
                                 {k_weight_, nullptr, k_},
                                 {v_weight_, nullptr, v_}},
                        out[] = {{o_weight_, nullptr, h_}};
    rms_norm_cuda(on, h_, in(x_), norm_, 1e-5f);
    multiply(library, limits, in(h_), qkv);
    rope_cuda(on, q_, in(q_), in(cosines_), in(sines_), head_dim, false);
    rope_cuda(on, k_, in(k_), in(cosines_), in(sines_), head_dim, false);
    write_kv_cuda(on, cache_, in(k_), in(v_), tables_, attention_);
    attend_alone_cuda(on, mixed_, in(q_), cache_, tables_, attention_, parts_, partials_, limits);
    multiply(library, limits, in(mixed_), out);
    add_cuda(on, sum_, in(x_), in(h_));
    rms_norm_cuda(on, h_, in(sum_), norm_, 1e-5f);
    linear_exact_cuda(on, in(h_), {router_, nullptr, logits_});
    router_cuda(on, shares_, chosen_, in(logits_), nullptr, {s_.top_k});
    experts_cuda(on, y_, in(h_), in(shares_), {chosen_.data, chosen_.rows, chosen_.width}, mlp_, workspace_,
                 limits);
    add_cuda(on, y_, in(y_), in(sum_));
  }

  // What must be read at least: the experts that were chosen, the other matrices, the cache.
  double bytes() const {
    std::vector<std::int32_t> chosen(rows_ * s_.top_k);
    check(cudaMemcpy(chosen.data(), chosen_.data, chosen.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
    std::vector<bool> used(s_.experts);
    for (const auto e : chosen) used[static_cast<std::size_t>(e)] = true;
    const auto experts = static_cast<double>(std::count(used.begin(), used.end(), true));
    const double dense =
        2.0 * static_cast<double>((q_weight_.rows + k_weight_.rows * 2) * s_.width +
                                  o_weight_.rows * o_weight_.columns + s_.experts * s_.width);
    return experts * 3 * static_cast<double>(s_.width * s_.hidden) * (int8_ ? 1 : 2) + dense + cache_bytes_;
  }

 private:
  static device_inputs in(const device_floats& t) { return {t.data, t.rows, t.width}; }
  device_matrix matrix(std::size_t rows, std::size_t columns) {
    return {take<__nv_bfloat16>(rows * columns), nullptr, rows, columns};
  }
  void take_weights() {
    const std::size_t queries = std::size_t{s_.heads} * head_dim, keys = std::size_t{s_.kv_heads} * head_dim;
    q_weight_ = matrix(queries, s_.width);
    k_weight_ = matrix(keys, s_.width);
    v_weight_ = matrix(keys, s_.width);
    o_weight_ = matrix(s_.width, queries);
    router_ = matrix(s_.experts, s_.width);
    norm_ = take<float>(s_.width);
    std::vector<const void*> planes[3];
    std::vector<const float*> scales;
    const std::size_t stride = s_.width * s_.hidden * (int8_ ? 1 : 2);
    for (auto& list : planes) {
      auto* stack = take<char>(s_.experts * stride);
      for (std::size_t e = 0; e < s_.experts; ++e) list.push_back(stack + e * stride);
    }
    for (std::size_t e = 0; e < s_.experts; ++e) scales.push_back(take<float>(std::max(s_.width, s_.hidden)));
    mlp_ = {put(planes[0]), put(planes[1]), put(planes[2])};
    if (int8_) mlp_.gate_scales = mlp_.up_scales = mlp_.down_scales = put(scales);
    mlp_.gate_stack = {planes[0][0], stride};
    mlp_.up_stack = {planes[1][0], stride};
    mlp_.down_stack = {planes[2][0], stride};
    mlp_.experts = s_.experts;
    mlp_.hidden = s_.hidden;
  }
  void take_cache(unsigned context) {
    const std::size_t per_sequence = context / block_tokens, blocks = rows_ * per_sequence;
    const std::size_t stride = std::size_t{2} * s_.kv_heads * head_dim * block_tokens;
    std::vector<std::int32_t> positions(rows_, static_cast<std::int32_t>(context) - 1);
    std::vector<std::uint32_t> sequences, starts, blocks_of(blocks);
    std::vector<decode_part> parts;
    for (std::size_t i = 0; i < blocks; ++i) blocks_of[i] = static_cast<std::uint32_t>(i);
    std::shuffle(blocks_of.begin(), blocks_of.end(), std::mt19937(1));
    for (std::uint32_t r = 0; r < rows_; ++r) {
      sequences.push_back(r);
      starts.push_back(static_cast<std::uint32_t>(r * per_sequence));
      add_decode_parts(parts, r, 0, context);
    }
    parts_ = parts.size();
    cache_ = {take<__nv_bfloat16>(blocks * stride), stride, 0, block_tokens};
    cache_bytes_ = static_cast<double>(blocks * stride * 2);
    partials_ = take<float>(parts_ * s_.heads * (head_dim + 2), false);
    tables_ = {put(positions), put(sequences),
               put(starts),    put(blocks_of),
               put(parts),     put(std::vector<std::uint32_t>{static_cast<std::uint32_t>(parts_)})};
  }
  void multiply(cuda::gemm& library, const device_limits& limits, device_inputs x,
                std::span<const device_linear> maps) {
    if (rows_ <= few_rows) return linear_few_cuda(on, x, maps, limits);
    to_bf16_cuda(on, half_, x);
    for (const auto& one : maps)
      if (auto done = library.multiply(on, one.y, {half_, x.rows, x.width}, one.weight); !done)
        std::fprintf(stderr, "%s\n", done.error().text.c_str());
  }

  layer_shape s_;
  bool int8_;
  std::size_t rows_, parts_ = 0;
  device_attention attention_;
  device_matrix q_weight_, k_weight_, v_weight_, o_weight_, router_;
  float *norm_ = nullptr, *partials_ = nullptr;
  device_experts mlp_;
  device_kv cache_;
  double cache_bytes_ = 0;
  device_tables tables_;
  device_floats x_, y_, h_, sum_, q_, k_, v_, mixed_, cosines_, sines_, logits_, shares_;
  device_rows<std::int32_t> chosen_;
  __nv_bfloat16* half_ = nullptr;
  char* workspace_ = nullptr;
};

}  // namespace

void bench_layers(ops::cuda::gemm& library, const ops::device_limits& limits, bool int8) {
  constexpr unsigned context = 1024;
  for (const layer_shape& shape :
       {layer_shape{"mixtral", 8, 2, 4096, 14336, 32, 8}, layer_shape{"dbrx", 16, 4, 6144, 10752, 48, 8}})
    for (const std::size_t rows : {1u, 8u, 64u}) {
      taken().clear();
      layer one(shape, int8, rows, context);
      const double s = time_of([&](int) { one.launch(library, limits); });
      char text[80];
      std::snprintf(text, sizeof text, "layer %s %s, %zu x %u positions", shape.name, int8 ? "int8" : "bf16",
                    rows, context);
      row(text, s, one.bytes(), 0);
      for (void* p : taken()) cudaFree(p);
      taken().clear();
    }
}

}  // namespace troupe::bench
