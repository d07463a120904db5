// Words and small questions that the verifier and the printers share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/text.hpp"
#include "troupe/schemas/program_generated.h"

namespace troupe::program {

// An optional FlatBuffers vector of numbers as it is: absent is empty.
template <class T>
std::vector<T> values(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr ? std::vector<T>{} : std::vector<T>(vector->begin(), vector->end());
}

template <class T>
std::uint32_t size(const flatbuffers::Vector<T>* vector) {
  return vector == nullptr ? 0 : vector->size();
}

inline std::string_view text(const flatbuffers::String* string) {
  return string == nullptr ? std::string_view() : string->string_view();
}

// Product of the dimensions; nothing if one is 0 or the product exceeds `limit`.
template <class Dimensions>
std::optional<std::uint64_t> elements_up_to(const Dimensions& dimensions, std::uint64_t limit) {
  std::uint64_t product = 1;
  for (const std::uint64_t dimension : dimensions) {
    if (dimension == 0 || dimension > limit / product) return std::nullopt;
    product *= dimension;
  }
  return product;
}

// Enumerators by name; their number if the schema has no such one.
std::string name_of(OpKind kind);
std::string name_of(OpAttrs attrs);
std::string name_of(DType type);
std::string name_of(Rows rows);
std::string name_of(WeightRole role);
std::string name_of(Partition partition);
std::string name_of(CacheKind kind);
std::string name_of(Activation activation);
std::string name_of(RopeLayout layout);
std::string name_of(RouterScore score);
std::string name_of(RouterNorm norm);
std::string name_of(Combine combine);

using troupe::shape_text;
// A tensor's shape with its symbolic first dimension: "[T, 256]"
std::string shape_text(const Tensor& tensor);

}  // namespace troupe::program
