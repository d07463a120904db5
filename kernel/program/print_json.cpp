#include <boost/json.hpp>

#include "kernel/program/names.hpp"
#include "kernel/program/op_attributes.hpp"
#include "kernel/program/print.hpp"

namespace troupe::program {

namespace {

namespace json = boost::json;

json::string_view view(const flatbuffers::String* string) {
  return {text(string).data(), text(string).size()};
}

template <class T>
json::array list(const flatbuffers::Vector<T>* vector) {
  json::array out;
  for (const auto value : values(vector)) out.emplace_back(value);
  return out;
}

json::object facts_json(const Program& program) {
  const Facts& facts = *program.facts();
  const auto counts = count_parameters(program);
  return {{"architecture", view(facts.architecture())},
          {"vocabulary", facts.vocabulary()},
          {"hidden", facts.hidden()},
          {"layers", facts.layers()},
          {"context_tokens", facts.context_tokens()},
          {"bos_id", facts.bos_id()},
          {"eos_ids", list(facts.eos_ids())},
          {"chat_template", facts.chat_template() == nullptr ? json::value() : view(facts.chat_template())},
          {"parameters", counts.total},
          {"active_parameters", counts.active},
          {"weight_bytes_bf16", 2 * counts.total},
          {"cache_bytes_per_token_f32", kv_bytes_per_token(program, 4)},
          {"cache_bytes_per_token_bf16", kv_bytes_per_token(program, 2)},
          {"state_bytes_per_sequence", state_bytes_per_sequence(program)}};
}

json::object source_json(const Source& source) {
  json::object out{{"tensor", view(source.tensor())}};
  if (size(source.reshape()) > 0) out["reshape"] = list(source.reshape());
  if (source.slice_axis() >= 0)
    out["slice"] = {
        {"axis", source.slice_axis()}, {"begin", source.slice_begin()}, {"end", source.slice_end()}};
  if (source.transpose()) out["transpose"] = true;
  return out;
}

json::object weight_json(const Weight& weight) {
  json::array spellings;
  for (const auto* spelling : *weight.spellings()) {
    json::array sources;
    for (const auto* source : *spelling->sources()) sources.emplace_back(source_json(*source));
    spellings.emplace_back(
        json::object{{"combine", name_of(spelling->combine())}, {"sources", std::move(sources)}});
  }
  return {{"name", view(weight.name())},
          {"shape", list(weight.shape())},
          {"role", name_of(weight.role())},
          {"quantizable", weight.quantizable()},
          {"partition", name_of(weight.partition())},
          {"spellings", std::move(spellings)}};
}

json::object cache_json(const Cache& cache) {
  json::object out{{"name", view(cache.name())},
                   {"kind", name_of(cache.kind())},
                   {"layers", cache.layers()},
                   {"dtype", name_of(cache.dtype())}};
  if (cache.kind() == CacheKind::recurrent) {
    out["shape"] = list(cache.shape());
    return out;
  }
  out["kv_heads"] = cache.kv_heads();
  out["head_dim"] = cache.head_dim();
  out["window"] = cache.window();
  return out;
}

json::object tensor_json(const Tensor& tensor) {
  json::object out{
      {"rows", name_of(tensor.rows())}, {"shape", list(tensor.shape())}, {"dtype", name_of(tensor.dtype())}};
  if (size(tensor.name()) > 0) out["name"] = view(tensor.name());
  return out;
}

json::object native_json(const NativeAttrs& a) {
  json::object attributes;
  for (std::uint32_t i = 0; i < size(a.attributes()); ++i)
    attributes[view(a.attributes()->Get(i)->name())] = a.attributes()->Get(i)->value();
  json::array states;
  for (std::uint32_t i = 0; i < size(a.states()); ++i)
    states.emplace_back(
        json::object{{"cache", a.states()->Get(i)->cache()}, {"layer", a.states()->Get(i)->layer()}});
  return {{"op", view(a.op())},
          {"version", a.version()},
          {"attributes", std::move(attributes)},
          {"states", std::move(states)}};
}

json::object attrs_json(const Op& op) {
  if (const auto* a = op.attrs_as_NativeAttrs()) return native_json(*a);
  json::object out;
  for (const auto& one : attributes_of(op))
    out[one.name] = std::visit([](const auto& value) { return json::value_from(value); }, one.value);
  return out;
}

json::object op_json(const Op& op) {
  return {{"kind", name_of(op.kind())},    {"scope", view(op.scope())},     {"inputs", list(op.inputs())},
          {"outputs", list(op.outputs())}, {"weights", list(op.weights())}, {"cache", op.cache()},
          {"attributes", attrs_json(op)}};
}

}  // namespace

std::string print_json(const Program& program) {
  json::array weights, caches, tensors, ops, probes;
  for (const auto* weight : *program.weights()) weights.emplace_back(weight_json(*weight));
  for (const auto* cache : *program.caches()) caches.emplace_back(cache_json(*cache));
  for (const auto* tensor : *program.tensors()) tensors.emplace_back(tensor_json(*tensor));
  for (const auto* op : *program.ops()) ops.emplace_back(op_json(*op));
  if (program.probes() != nullptr)
    for (const auto* probe : *program.probes())
      probes.emplace_back(json::object{{"name", view(probe->name())}, {"tensor", probe->tensor()}});
  return json::serialize(
      json::object{{"version", fmt::format("{}.{}", program.version_major(), program.version_minor())},
                   {"facts", facts_json(program)},
                   {"weights", std::move(weights)},
                   {"caches", std::move(caches)},
                   {"tensors", std::move(tensors)},
                   {"ops", std::move(ops)},
                   {"logits", program.logits()},
                   {"probes", std::move(probes)}});
}

}  // namespace troupe::program
