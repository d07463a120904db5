#include "kernel/program/outline.hpp"

#include <algorithm>

#include "kernel/program/names.hpp"
#include "kernel/program/op_attributes.hpp"

namespace troupe::program {

namespace {

// End of the first component that is a number, or npos.
std::size_t end_of_number(std::string_view scope) {
  std::size_t begin = 0;
  while (begin < scope.size()) {
    const auto end = std::min(scope.find('.', begin), scope.size());
    const auto component = scope.substr(begin, end - begin);
    if (!component.empty() && component.find_first_not_of("0123456789") == component.npos) return end;
    begin = end + 1;
  }
  return std::string_view::npos;
}

// "selective_scan version 1, eps 1e-06, state ssm"
std::string native_attributes(const Program& program, const NativeAttrs& a) {
  auto out = fmt::format("{} version {}", text(a.op()), a.version());
  for (std::uint32_t i = 0; i < size(a.attributes()); ++i)
    out += fmt::format(", {} {}", text(a.attributes()->Get(i)->name()), a.attributes()->Get(i)->value());
  for (std::uint32_t i = 0; i < size(a.states()); ++i)
    out += fmt::format(", state {}", text(program.caches()->Get(a.states()->Get(i)->cache())->name()));
  return out;
}

// Everything that makes two layers alike: kinds, shapes, attributes, weights by their names within the layer,
// and which tensors flow where, counted from the layer's first own tensor.
std::string signature(const Program& program, const op_run& run) {
  std::string all;
  const auto tensor = [&](std::uint32_t id, std::uint32_t base) {
    const Tensor& t = *program.tensors()->Get(id);
    return fmt::format("{}{}{};", static_cast<std::int64_t>(id) - base, shape_text(t), name_of(t.dtype()));
  };
  const auto base = program.ops()->Get(run.first)->outputs()->Get(0);
  for (std::uint32_t i = run.first; i < run.first + run.count; ++i) {
    const Op& op = *program.ops()->Get(i);
    all += fmt::format("{}|{}|{}|", name_of(op.kind()), attributes(program, op),
                       text(op.scope()).substr(run.scope.size()));
    for (const auto id : values(op.inputs())) all += tensor(id, base);
    for (const auto id : values(op.outputs())) all += tensor(id, base);
    for (const auto id : values(op.weights())) {
      const Weight& weight = *program.weights()->Get(id);
      all += without_layer(text(weight.name())) + shape_text(values(weight.shape())) + name_of(weight.role());
    }
    all += '\n';
  }
  return all;
}

}  // namespace

std::string_view layer_scope(std::string_view scope) {
  const auto end = end_of_number(scope);
  return end == scope.npos ? std::string_view() : scope.substr(0, end);
}

std::string without_layer(std::string_view name) {
  const auto end = end_of_number(name);
  if (end == name.npos) return std::string(name);
  const auto dot = name.substr(0, end).rfind('.');
  const auto begin = dot == name.npos ? 0 : dot + 1;
  return fmt::format("{}*{}", name.substr(0, begin), name.substr(end));
}

std::vector<op_run> outline(const Program& program, bool fold_layers) {
  std::vector<op_run> runs;
  for (std::uint32_t i = 0; i < program.ops()->size(); ++i) {
    const auto scope = layer_scope(text(program.ops()->Get(i)->scope()));
    if (runs.empty() || runs.back().scope != scope)
      runs.push_back({std::string(scope), i, 0, 1, std::string(scope)});
    ++runs.back().count;
  }
  if (!fold_layers) return runs;
  std::vector<op_run> folded;
  std::string last;
  for (auto& run : runs) {
    std::string mine = run.scope.empty() ? std::string() : signature(program, run);
    if (!folded.empty() && !mine.empty() && mine == last) {
      ++folded.back().alike;
      folded.back().last_scope = run.scope;
      continue;
    }
    last = std::move(mine);
    folded.push_back(std::move(run));
  }
  return folded;
}

std::string cache_text(const Cache& cache) {
  auto out = cache.kind() == CacheKind::paged_kv
                 ? fmt::format("paged_kv, {} layers, {} heads x {}{}", cache.layers(), cache.kv_heads(),
                               cache.head_dim(),
                               cache.window() == 0 ? "" : fmt::format(", window {}", cache.window()))
                 : fmt::format("{}, {} layers, {}", name_of(cache.kind()), cache.layers(),
                               shape_text(values(cache.shape())));
  return cache.dtype() == DType::none ? out : fmt::format("{}, {}", out, name_of(cache.dtype()));
}

std::string source_text(const Source& source, bool fold_layers) {
  auto out = fold_layers ? without_layer(text(source.tensor())) : source.tensor()->str();
  if (size(source.reshape()) > 0) out += " as " + shape_text(values(source.reshape()));
  if (source.slice_axis() >= 0)
    out +=
        fmt::format(" [{} to {} of axis {}]", source.slice_begin(), source.slice_end(), source.slice_axis());
  return source.transpose() ? out + ", transposed" : out;
}

std::string spelling_text(const Spelling& spelling, bool fold_layers) {
  const auto count = spelling.sources()->size();
  auto first = source_text(*spelling.sources()->Get(0), fold_layers);
  if (spelling.combine() == Combine::single) return first;
  return fmt::format(
      "{} of {}: {}{}", name_of(spelling.combine()), count, first,
      count == 1 ? "" : " to " + source_text(*spelling.sources()->Get(count - 1), fold_layers));
}

std::string attributes(const Program& program, const Op& op) {
  if (const auto* a = op.attrs_as_NativeAttrs()) return native_attributes(program, *a);
  std::string all;
  for (const auto& one : attributes_of(op))
    if (!one.of_layer) all += fmt::format("{}{} {}", all.empty() ? "" : ", ", one.name, text_of(one.value));
  if (op.cache() >= 0)
    all += fmt::format(", cache {}",
                       text(program.caches()->Get(static_cast<std::uint32_t>(op.cache()))->name()));
  return all;
}

}  // namespace troupe::program
