// A valid Program of two mixture-of-experts layers, as an object that a test may spoil, and its bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "troupe/schemas/program_generated.h"

namespace troupe::test {

class tiny_program {
 public:
  static constexpr std::uint32_t vocabulary = 32, hidden = 16, layers = 2, heads = 4, kv_heads = 2,
                                 head_dim = 4, experts = 4, top_k = 2, expert_hidden = 8;

  static program::ProgramT make() { return tiny_program().build(); }

  static std::vector<std::uint8_t> bytes(const program::ProgramT& program) {
    flatbuffers::FlatBufferBuilder builder;
    program::FinishProgramBuffer(builder, program::Program::Pack(builder, &program));
    return {builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize()};
  }

 private:
  using kind = program::OpKind;

  program::ProgramT build() {
    p_.facts = std::make_unique<program::FactsT>();
    p_.facts->architecture = "TinyForCausalLM";
    p_.facts->vocabulary = vocabulary;
    p_.facts->hidden = hidden;
    p_.facts->layers = layers;
    p_.facts->context_tokens = 64;
    p_.facts->bos_id = 1;
    p_.facts->eos_ids = {2};
    auto cache = std::make_unique<program::CacheT>();
    cache->name = "kv";
    cache->layers = layers;
    cache->kv_heads = kv_heads;
    cache->head_dim = head_dim;
    p_.caches.push_back(std::move(cache));

    auto x = op(kind::embed, {}, hidden, {weight("embed", {vocabulary, hidden})});
    for (std::uint32_t i = 0; i < layers; ++i) x = layer(i, x);
    scope_.clear();
    x = norm(x, "norm");
    x = op(kind::select_rows, {x}, hidden, {}, program::Rows::logit_rows);
    p_.logits = op(kind::linear, {x}, vocabulary, {weight("lm_head", {vocabulary, hidden})},
                   program::Rows::logit_rows);
    probe("hidden", x);
    probe("logits", p_.logits);
    return std::move(p_);
  }

  std::uint32_t layer(std::uint32_t i, std::uint32_t x) {
    scope_ = "layers." + std::to_string(i);
    auto h = norm(x, "norm_1");
    const auto q = rope(linear(h, "q", heads * head_dim));
    const auto k = rope(linear(h, "k", kv_heads * head_dim));
    const auto v = linear(h, "v", kv_heads * head_dim);
    h = op(kind::attention, {q, k, v}, heads * head_dim, {});
    program::AttentionAttrsT a;
    a.heads = heads;
    a.kv_heads = kv_heads;
    a.head_dim = head_dim;
    a.scale = 0.5f;
    a.cache_layer = i;
    p_.ops.back()->attrs.Set(std::move(a));
    p_.ops.back()->cache = 0;
    x = op(kind::add, {x, linear(h, "o", hidden)}, hidden, {});
    h = norm(x, "norm_2");
    return op(kind::add, {x, moe(h)}, hidden, {});
  }

  std::uint32_t moe(std::uint32_t h) {
    const auto logits = linear(h, "router", experts);
    const auto weights = op(kind::router, {logits}, top_k, {});
    const auto chosen = tensor(top_k, program::Rows::tokens, program::DType::i32);
    p_.ops.back()->outputs.push_back(chosen);
    program::RouterAttrsT r;
    r.experts = experts;
    r.top_k = top_k;
    r.norm = program::RouterNorm::sum;
    p_.ops.back()->attrs.Set(std::move(r));
    const auto out =
        op(kind::experts, {h, weights, chosen}, hidden,
           {weight("gate", {experts, expert_hidden, hidden}), weight("up", {experts, expert_hidden, hidden}),
            weight("down", {experts, hidden, expert_hidden})});
    p_.ops.back()->attrs.Set(program::ExpertsAttrsT());
    return out;
  }

  std::uint32_t norm(std::uint32_t x, const std::string& name) {
    const auto out = op(kind::rms_norm, {x}, hidden, {weight(name, {hidden})});
    program::NormAttrsT a;
    a.eps = 1e-5f;
    p_.ops.back()->attrs.Set(std::move(a));
    return out;
  }

  std::uint32_t linear(std::uint32_t x, const std::string& name, std::uint64_t out) {
    return op(kind::linear, {x}, out, {weight(name, {out, p_.tensors[x]->shape[0]})});
  }

  std::uint32_t rope(std::uint32_t x) {
    const auto out = op(kind::rope, {x}, p_.tensors[x]->shape[0], {});
    program::RopeAttrsT a;
    a.head_dim = head_dim;
    a.rotary_dim = head_dim;
    a.theta = 10000;
    p_.ops.back()->attrs.Set(std::move(a));
    return out;
  }

  std::uint32_t weight(const std::string& name, std::vector<std::uint64_t> shape) {
    auto source = std::make_unique<program::SourceT>();
    source->tensor = scope_.empty() ? name : scope_ + "." + name;
    auto spelling = std::make_unique<program::SpellingT>();
    auto w = std::make_unique<program::WeightT>();
    w->name = source->tensor;
    w->shape = std::move(shape);
    spelling->sources.push_back(std::move(source));
    w->spellings.push_back(std::move(spelling));
    p_.weights.push_back(std::move(w));
    return static_cast<std::uint32_t>(p_.weights.size() - 1);
  }

  std::uint32_t tensor(std::uint64_t columns, program::Rows rows, program::DType type = program::DType::f32) {
    auto t = std::make_unique<program::TensorT>();
    t->shape = {columns};
    t->rows = rows;
    t->dtype = type;
    p_.tensors.push_back(std::move(t));
    return static_cast<std::uint32_t>(p_.tensors.size() - 1);
  }

  std::uint32_t op(kind what, std::vector<std::uint32_t> inputs, std::uint64_t columns,
                   std::vector<std::uint32_t> weights, program::Rows rows = program::Rows::tokens) {
    auto o = std::make_unique<program::OpT>();
    o->kind = what;
    o->inputs = std::move(inputs);
    o->outputs = {tensor(columns, rows)};
    o->weights = std::move(weights);
    o->scope = scope_;
    p_.ops.push_back(std::move(o));
    return p_.ops.back()->outputs[0];
  }

  void probe(const std::string& name, std::uint32_t tensor_id) {
    auto p = std::make_unique<program::ProbeT>();
    p->name = name;
    p->tensor = tensor_id;
    p_.probes.push_back(std::move(p));
  }

  program::ProgramT p_;
  std::string scope_;
};

}  // namespace troupe::test
