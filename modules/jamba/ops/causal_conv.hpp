// A causal depthwise convolution along a sequence, and its activation:
//
//   y[t, n] = silu(bias[n] + sum over k of weight[n, k] · u[t - (K-1) + k, n])
//
// T tokens, N channels, K taps; u of positions before the sequence is 0. The last tap multiplies the token itself.
// State: the sequence's last K-1 rows of u, oldest first, [K-1, N].
#pragma once

#include <troupe/sdk/native_op.hpp>

namespace jamba {

struct causal_conv {
  static constexpr const char* name = "causal_conv";
  static constexpr std::uint32_t version = 1;
  static constexpr const char* summary = "causal depthwise convolution along the sequence, then SiLU";
  static constexpr troupe::sdk::native_value inputs[] = {{"u"}};                         // [T, N]
  static constexpr troupe::sdk::native_value outputs[] = {{"y"}};                        // [T, N]
  static constexpr troupe::sdk::native_value weights[] = {{"weight"},                    // [N, K], K >= 2
                                                          {"bias", TROUPE_NONE, true}};  // [N]
  static constexpr troupe::sdk::native_value states[] = {{"columns"}};                   // [K-1, N]

  static constexpr std::size_t max_taps = 64;

  static void shapes(troupe::sdk::native_shapes& s);
  static std::uint64_t workspace(const troupe::sdk::native_use& use, std::uint64_t rows,
                                 std::uint32_t sequences, std::uint32_t threads);
  static void cpu(const troupe::sdk::native_step& s);
#ifdef TROUPE_MODULE_CUDA
  static void cuda(const troupe::sdk::native_step& s, void* stream);
#endif
};

}  // namespace jamba
