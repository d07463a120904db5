#include "kernel/program/names.hpp"

#include <fmt/format.h>

namespace troupe::program {

namespace {

template <class Enum>
std::string or_number(const char* name, Enum value) {
  return name != nullptr && *name != '\0' ? name : fmt::format("{}", static_cast<unsigned>(value));
}

}  // namespace

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

std::string shape_text(const Tensor& tensor) {
  std::string all = tensor.rows() == Rows::tokens ? "[T" : "[R";
  for (const auto dimension : values(tensor.shape())) all += fmt::format(", {}", dimension);
  return all + "]";
}

}  // namespace troupe::program
