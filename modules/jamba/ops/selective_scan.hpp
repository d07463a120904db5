// The recurrence of Mamba, with what comes before and behind it:
//
//   d[t, n]    = softplus(dt[t, n] + dt_bias[n])
//   h[t, s, n] = exp(-exp(A_log[n, s]) · d[t, n]) · h[t-1, s, n] + d[t, n] · u[t, n] · B[t, s]
//   y[t, n]    = (sum over s of h[t, s, n] · C[t, s] + D[n] · u[t, n]) · silu(z[t, n])
//
// T tokens, N channels, S numbers of state per channel; h before the sequence is 0. State: h of the sequence's last token,
// [S, N]: channels side by side, so that a vector holds channels and no sum crosses its lanes.
#pragma once

#include <troupe/sdk/native_op.hpp>

namespace jamba {

struct selective_scan {
  static constexpr const char* name = "selective_scan";
  static constexpr std::uint32_t version = 1;
  static constexpr const char* summary = "Mamba's gated recurrence along the sequence";
  // u, dt [T, N], B, C [T, S], z [T, N]
  static constexpr troupe::sdk::native_value inputs[] = {{"u"}, {"dt"}, {"B"}, {"C"}, {"z"}};
  static constexpr troupe::sdk::native_value outputs[] = {{"y"}};  // [T, N]
  // [N, S], [N], [N]
  static constexpr troupe::sdk::native_value weights[] = {{"A_log"}, {"D"}, {"dt_bias"}};
  static constexpr troupe::sdk::native_value states[] = {{"ssm"}};  // [S, N]

  static constexpr std::size_t max_state = 256;  // S

  static void shapes(troupe::sdk::native_shapes& s);
  static std::uint64_t workspace(const troupe::sdk::native_use& use, std::uint64_t rows,
                                 std::uint32_t sequences, std::uint32_t threads);
  static void cpu(const troupe::sdk::native_step& s);
#ifdef TROUPE_MODULE_CUDA
  static void cuda(const troupe::sdk::native_step& s, void* stream);
#endif
};

}  // namespace jamba
