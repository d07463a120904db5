// Facts, weights, caches, tensors, logits and probes: everything but the ops.
#include <set>

#include "kernel/program/check.hpp"

namespace troupe::program {

namespace {

using shape_type = std::vector<std::uint64_t>;

void check_range(const std::string& where, const char* field, std::uint64_t found, std::uint64_t least,
                 std::uint64_t most) {
  if (found < least || found > most)
    refuse(where, "{}: expected {} to {}, found {}", field, least, most, found);
}

template <class Enum>
void check_enum(const std::string& where, const char* field, Enum value, Enum last) {
  if (value > last)
    refuse(where, "{}: expected a number up to {}, found {}", field, static_cast<unsigned>(last),
           static_cast<unsigned>(value));
}

void check_token_id(const char* field, std::int64_t id, std::int64_t least, std::uint32_t vocabulary) {
  if (id < least || id >= std::int64_t{vocabulary})
    refuse("facts", "{}: expected {} to {}, found {}", field, least, std::int64_t{vocabulary} - 1, id);
}

// A tree: whoever chooses the names could make a hash table slow.
void check_unique(std::set<std::string_view>& names, const std::string& where, std::string_view name) {
  if (!names.insert(name).second) refuse(where, "the name {} comes twice", name);
}

// ---- weights ------------------------------------------------------------------------------------------

// One source against what it must become: `expected` with, for concat, a free first dimension.
// Answers the first dimension of the result, or 0 if only the checkpoint knows it.
std::uint64_t check_source(const std::string& where, const Source& source, const shape_type& expected,
                           bool first_is_free) {
  check_name(where, "tensor", source.tensor());
  shape_type known(expected.size(), 0);  // 0 = only the checkpoint knows
  if (size(source.reshape()) > 0) {
    known = values(source.reshape());
    if (!elements_up_to(known, max_elements))
      refuse(where, "reshape: {} is not a possible shape", shape_text(known));
    if (known.size() != expected.size())
      refuse(where, "reshape: expected {} dimensions, found {}", expected.size(), shape_text(known));
  }
  const auto axis = source.slice_axis();
  if (axis < -1 || axis >= static_cast<std::int64_t>(expected.size()))
    refuse(where, "slice_axis: expected -1 to {}, found {}", expected.size() - 1, axis);
  if (axis >= 0) {
    auto& extent = known[static_cast<std::size_t>(axis)];
    if (source.slice_begin() >= source.slice_end() || source.slice_end() > max_elements ||
        (extent != 0 && source.slice_end() > extent))
      refuse(where, "slice: expected begin < end <= {}, found [{}, {})", extent != 0 ? extent : max_elements,
             source.slice_begin(), source.slice_end());
    extent = source.slice_end() - source.slice_begin();
  } else if (source.slice_begin() != 0 || source.slice_end() != 0) {
    refuse(where, "slice: expected an axis with [{}, {})", source.slice_begin(), source.slice_end());
  }
  if (source.transpose()) {
    if (known.size() < 2) refuse(where, "transpose: expected at least 2 dimensions, found {}", known.size());
    std::swap(known[known.size() - 1], known[known.size() - 2]);
  }
  for (std::size_t i = first_is_free ? 1 : 0; i < expected.size(); ++i)
    if (known[i] != 0 && known[i] != expected[i])
      refuse(where, "expected {} along axis {}, found {}", expected[i], i, known[i]);
  return known[0];
}

void check_spelling(const std::string& where, const Spelling& spelling, const shape_type& shape) {
  check_enum(where, "combine", spelling.combine(), Combine::concat);
  const auto& sources = *spelling.sources();
  const bool stack = spelling.combine() == Combine::stack;
  const bool concat = spelling.combine() == Combine::concat;
  if (sources.size() == 0) refuse(where, "expected at least one source, found none");
  if (stack && shape.size() < 2)
    refuse(where, "stack: expected a weight of at least 2 dimensions, found {}", shape_text(shape));
  if (stack && sources.size() != shape[0])
    refuse(where, "stack: expected {} sources, found {}", shape[0], sources.size());
  if (!stack && !concat && sources.size() != 1)
    refuse(where, "single: expected 1 source, found {}", sources.size());
  const shape_type expected = stack ? shape_type(shape.begin() + 1, shape.end()) : shape;
  std::uint64_t sum = 0;
  bool all_known = true;
  for (std::uint32_t i = 0; i < sources.size(); ++i) {
    const auto first = check_source(fmt::format("{}, source {}", where, i), *sources[i], expected, concat);
    all_known = all_known && first != 0;
    sum += first;
  }
  if (concat && (all_known ? sum != shape[0] : sum >= shape[0]))
    refuse(where, "concat: expected {} along axis 0, found {}{}", shape[0], sum,
           all_known ? "" : " before the last source");
}

void check_weight(const std::string& where, const Weight& weight) {
  const shape_type shape = values(weight.shape());
  if (shape.empty() || shape.size() > 3 || !elements_up_to(shape, max_elements))
    refuse(where, "shape: expected 1 to 3 dimensions of at least 1, {} elements at most, found {}",
           max_elements, shape_text(shape));
  for (const auto dimension : shape) check_range(where, "shape", dimension, 1, max_dimension);
  check_enum(where, "role", weight.role(), WeightRole::bias);
  check_enum(where, "partition", weight.partition(), Partition::experts);
  if (weight.partition() == Partition::columns && shape.size() < 2)
    refuse(where, "partition columns: expected at least 2 dimensions, found {}", shape_text(shape));
  if (weight.partition() == Partition::experts && shape.size() != 3)
    refuse(where, "partition experts: expected 3 dimensions, found {}", shape_text(shape));
  if (weight.spellings()->size() == 0) refuse(where, "expected at least one spelling, found none");
  for (std::uint32_t i = 0; i < weight.spellings()->size(); ++i)
    check_spelling(fmt::format("{}, spelling {}", where, i), *weight.spellings()->Get(i), shape);
}

}  // namespace

void check_name(const std::string& where, const char* field, const flatbuffers::String* name) {
  const auto bytes = text(name);
  bool printable = true;
  for (const char c : bytes) printable = printable && c > ' ' && c < '\x7f';
  if (bytes.empty() || bytes.size() > max_name_bytes || !printable)
    refuse(where, "{}: expected 1 to {} printable ASCII characters without blanks, found {} bytes", field,
           max_name_bytes, bytes.size());
}

void check_facts(const Program& program) {
  const Facts& facts = *program.facts();
  check_name("facts", "architecture", facts.architecture());
  check_range("facts", "vocabulary", facts.vocabulary(), 1, max_dimension);
  check_range("facts", "hidden", facts.hidden(), 1, max_dimension);
  check_range("facts", "layers", facts.layers(), 1, max_layers);
  check_range("facts", "context_tokens", facts.context_tokens(), 1, max_dimension);
  check_token_id("bos_id", facts.bos_id(), -1, facts.vocabulary());
  for (const auto id : values(facts.eos_ids())) check_token_id("eos_ids", id, 0, facts.vocabulary());
}

void check_weights(const Program& program) {
  std::set<std::string_view> names;
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < program.weights()->size(); ++i) {
    const Weight& weight = *program.weights()->Get(i);
    const auto number = fmt::format("weight {}", i);
    check_name(number, "name", weight.name());
    const auto where = fmt::format("{} ({})", number, text(weight.name()));
    check_unique(names, where, text(weight.name()));
    check_weight(where, weight);
    total += *elements_up_to(values(weight.shape()), max_elements);  // at most 2^20 times 2^42: no overflow
  }
  if (total > max_elements)
    refuse("program", "expected weights of {} elements at most, found {}", max_elements, total);
}

void check_caches(const Program& program) {
  std::set<std::string_view> names;
  for (std::uint32_t i = 0; i < program.caches()->size(); ++i) {
    const Cache& cache = *program.caches()->Get(i);
    const auto number = fmt::format("cache {}", i);
    check_name(number, "name", cache.name());
    const auto where = fmt::format("{} ({})", number, text(cache.name()));
    check_unique(names, where, text(cache.name()));
    check_enum(where, "kind", cache.kind(), CacheKind::recurrent);
    check_enum(where, "dtype", cache.dtype(), DType::f16);
    check_range(where, "layers", cache.layers(), 1, max_layers);
    if (cache.kind() == CacheKind::recurrent) {
      if (size(cache.shape()) == 0 || size(cache.shape()) > max_state_dimensions ||
          !elements_up_to(values(cache.shape()), max_dimension))
        refuse(where, "shape: expected 1 to {} dimensions of at least 1, {} elements at most, found {}",
               max_state_dimensions, max_dimension, shape_text(values(cache.shape())));
      if (cache.dtype() != DType::none && cache.dtype() != DType::f32)
        refuse(where, "dtype: expected none or f32, as native ops keep their states, found {}",
               name_of(cache.dtype()));
      if (cache.kv_heads() != 0 || cache.head_dim() != 0 || cache.window() != 0)
        refuse(where, "kv_heads, head_dim and window belong to paged_kv only");
      continue;
    }
    check_range(where, "kv_heads", cache.kv_heads(), 1, max_dimension);
    check_range(where, "head_dim", cache.head_dim(), 1, max_dimension);
    check_range(where, "kv_heads * head_dim", std::uint64_t{cache.kv_heads()} * cache.head_dim(), 1,
                max_dimension);
    if (size(cache.shape()) != 0) refuse(where, "shape belongs to recurrent only");
  }
}

void check_tensors(const Program& program) {
  for (std::uint32_t i = 0; i < program.tensors()->size(); ++i) {
    const Tensor& tensor = *program.tensors()->Get(i);
    auto where = fmt::format("tensor {}", i);
    if (!text(tensor.name()).empty()) {
      check_name(where, "name", tensor.name());
      where += fmt::format(" ({})", text(tensor.name()));
    }
    check_enum(where, "rows", tensor.rows(), Rows::logit_rows);
    const auto shape = values(tensor.shape());
    if (shape.size() != 1)
      refuse(where, "shape: expected 1 dimension after the first, found {}", shape_text(shape));
    check_range(where, "shape", shape[0], 1, max_dimension);
    if (tensor.dtype() != DType::f32 && tensor.dtype() != DType::i32)
      refuse(where, "dtype: expected f32 or i32, found {}", name_of(tensor.dtype()));
  }
}

void check_results(const Program& program, const std::vector<bool>& defined) {
  const auto tensors = program.tensors();
  if (program.logits() >= tensors->size() || !defined[program.logits()])
    refuse("logits", "expected a tensor that an op defines, found {}", program.logits());
  const Tensor& logits = *tensors->Get(program.logits());
  if (logits.rows() != Rows::logit_rows || logits.shape()->Get(0) != program.facts()->vocabulary() ||
      logits.dtype() != DType::f32)
    refuse("logits", "expected [R, {}] f32, found {} {}", program.facts()->vocabulary(), shape_text(logits),
           name_of(logits.dtype()));
  std::set<std::string_view> names;
  for (std::uint32_t i = 0; i < size(program.probes()); ++i) {
    const Probe& probe = *program.probes()->Get(i);
    const auto number = fmt::format("probe {}", i);
    check_name(number, "name", probe.name());
    const auto where = fmt::format("{} ({})", number, text(probe.name()));
    check_unique(names, where, text(probe.name()));
    if (probe.tensor() >= tensors->size() || !defined[probe.tensor()])
      refuse(where, "expected a tensor that an op defines, found {}", probe.tensor());
  }
}

}  // namespace troupe::program
