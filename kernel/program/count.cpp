// What a verified Program costs in numbers.
#include <algorithm>

#include "kernel/program/names.hpp"
#include "kernel/program/program.hpp"

namespace troupe::program {

namespace {

std::uint64_t elements(const Weight& weight) {
  std::uint64_t product = 1;
  for (const auto dimension : *weight.shape()) product *= dimension;
  return product;
}

// Whether `op` multiplies by this weight as by a matrix. Of ops that the kernel does not know the weight's role tells it.
bool is_matrix(const Op& op, const Weight& weight) {
  if (op.kind() == OpKind::embed) return false;
  if (op.kind() == OpKind::experts) return true;
  if (op.kind() == OpKind::linear) return weight.shape()->size() == 2;
  return weight.role() == WeightRole::linear || weight.role() == WeightRole::experts ||
         weight.role() == WeightRole::router || weight.role() == WeightRole::output;
}

// Elements of a weight that one token is multiplied with in one use by `op`.
std::uint64_t touched(const Program& program, const Op& op, const Weight& weight) {
  if (!is_matrix(op, weight)) return 0;
  if (op.kind() != OpKind::experts) return elements(weight);
  const auto top_k = program.tensors()->Get(op.inputs()->Get(1))->shape()->Get(0);
  return elements(weight) / weight.shape()->Get(0) * top_k;
}

}  // namespace

parameter_counts count_parameters(const Program& program) {
  std::vector<std::uint64_t> active(program.weights()->size());
  for (const auto* op : *program.ops())
    for (const auto id : values(op->weights()))
      active[id] = std::max(active[id], touched(program, *op, *program.weights()->Get(id)));
  parameter_counts counts;
  for (const auto* weight : *program.weights()) counts.total += elements(*weight);
  for (const auto count : active) counts.active += count;
  return counts;
}

std::uint64_t kv_bytes_per_token(const Program& program, std::uint32_t element_bytes) {
  std::uint64_t bytes = 0;
  for (const auto* cache : *program.caches())
    if (cache->kind() == CacheKind::paged_kv)
      bytes += std::uint64_t{cache->layers()} * 2 * cache->kv_heads() * cache->head_dim() * element_bytes;
  return bytes;
}

std::uint64_t state_bytes_per_sequence(const Program& program) {
  std::uint64_t bytes = 0;
  for (const auto* cache : *program.caches()) {
    if (cache->kind() != CacheKind::recurrent) continue;
    std::uint64_t elements = cache->layers();
    for (const auto dimension : *cache->shape()) elements *= dimension;
    bytes += elements * sizeof(float);
  }
  return bytes;
}

std::uint32_t size_of(DType type) {
  switch (type) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::none:
      break;
  }
  return 0;
}

}  // namespace troupe::program
