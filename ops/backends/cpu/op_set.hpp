// The ops that make the CPU backend, in their two versions.
#pragma once

#include "ops/activation/activation.hpp"
#include "ops/attention/attention.hpp"
#include "ops/elementwise/elementwise.hpp"
#include "ops/linear/linear.hpp"
#include "ops/moe/experts.hpp"
#include "ops/moe/router.hpp"
#include "ops/norm/layer_norm.hpp"
#include "ops/norm/rms_norm.hpp"
#include "ops/rope/rope.hpp"
#include "ops/rows/rows.hpp"

namespace troupe::ops::cpu {

struct op_set {
  decltype(&embed_ref) embed;
  decltype(&linear_ref) linear;
  decltype(&rms_norm_ref) rms_norm;
  decltype(&layer_norm_ref) layer_norm;
  decltype(&add_ref) add;
  decltype(&mul_ref) mul;
  decltype(&clamp_ref) clamp;
  decltype(&activation_ref) activation;
  decltype(&rope_ref) rope;
  decltype(&attention_ref) attention;
  decltype(&router_ref) router;
  decltype(&experts_ref) experts;
  decltype(&select_rows_ref) select_rows;
  decltype(&split_ref) split;
  decltype(&concat_ref) concat;
};

inline constexpr op_set reference_ops{embed_ref,  linear_ref,  rms_norm_ref,    layer_norm_ref, add_ref,
                                      mul_ref,    clamp_ref,   activation_ref,  rope_ref,       attention_ref,
                                      router_ref, experts_ref, select_rows_ref, split_ref,      concat_ref};
inline constexpr op_set fast_ops{embed_cpu,  linear_cpu,  rms_norm_cpu,    layer_norm_cpu, add_cpu,
                                 mul_cpu,    clamp_cpu,   activation_cpu,  rope_cpu,       attention_cpu,
                                 router_cpu, experts_cpu, select_rows_cpu, split_cpu,      concat_cpu};

}  // namespace troupe::ops::cpu
