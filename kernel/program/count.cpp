// What a verified Program costs in numbers, and the words for its enumerators.
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

// Elements of a weight that one token touches in one use by `op`.
std::uint64_t touched(const Program& program, const Op& op, const Weight& weight) {
  if (op.kind() == OpKind::embed) return weight.shape()->Get(1);
  if (op.kind() != OpKind::experts) return elements(weight);
  const auto top_k = program.tensors()->Get(op.inputs()->Get(1))->shape()->Get(0);
  return elements(weight) / weight.shape()->Get(0) * top_k;
}

template <class Enum>
std::string or_number(const char* name, Enum value) {
  return name != nullptr && *name != '\0' ? name : fmt::format("{}", static_cast<unsigned>(value));
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

std::string name_of(OpKind kind) {
  return or_number(EnumNameOpKind(kind), kind);
}
std::string name_of(OpAttrs attrs) {
  return attrs == OpAttrs::NONE ? "none" : or_number(EnumNameOpAttrs(attrs), attrs);
}
std::string name_of(DType type) {
  return or_number(EnumNameDType(type), type);
}
std::string name_of(Rows rows) {
  return or_number(EnumNameRows(rows), rows);
}
std::string name_of(WeightRole role) {
  return or_number(EnumNameWeightRole(role), role);
}
std::string name_of(Partition partition) {
  return or_number(EnumNamePartition(partition), partition);
}
std::string name_of(CacheKind kind) {
  return or_number(EnumNameCacheKind(kind), kind);
}
std::string name_of(Activation activation) {
  return or_number(EnumNameActivation(activation), activation);
}
std::string name_of(RopeLayout layout) {
  return or_number(EnumNameRopeLayout(layout), layout);
}
std::string name_of(RouterScore score) {
  return or_number(EnumNameRouterScore(score), score);
}
std::string name_of(RouterNorm norm) {
  return or_number(EnumNameRouterNorm(norm), norm);
}
std::string name_of(Combine combine) {
  return or_number(EnumNameCombine(combine), combine);
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string shape_text(const Tensor& tensor) {
  std::string all = tensor.rows() == Rows::tokens ? "[T" : "[R";
  for (const auto dimension : values(tensor.shape())) all += fmt::format(", {}", dimension);
  return all + "]";
}

}  // namespace troupe::program
