// The ops that make the CPU backend, in their two versions.
#pragma once

#include "ops/attention/attention.hpp"
#include "ops/linear/linear.hpp"
#include "ops/moe/experts.hpp"
#include "ops/moe/router.hpp"
#include "ops/norm/rms_norm.hpp"
#include "ops/rope/rope.hpp"
#include "ops/rows/rows.hpp"

namespace troupe::ops::cpu {

struct op_set {
  decltype(&embed_ref) embed;
  decltype(&linear_ref) linear;
  decltype(&rms_norm_ref) rms_norm;
  decltype(&add_ref) add;
  decltype(&rope_ref) rope;
  decltype(&attention_ref) attention;
  decltype(&router_ref) router;
  decltype(&experts_ref) experts;
  decltype(&select_rows_ref) select_rows;
};

inline constexpr op_set reference_ops{embed_ref,     linear_ref, rms_norm_ref, add_ref,        rope_ref,
                                      attention_ref, router_ref, experts_ref,  select_rows_ref};
inline constexpr op_set fast_ops{embed_cpu,     linear_cpu, rms_norm_cpu, add_cpu,        rope_cpu,
                                 attention_cpu, router_cpu, experts_cpu,  select_rows_cpu};

}  // namespace troupe::ops::cpu
