// FlatBuffers may share: a thousand ops may point to the same million numbers. What is counted here is what the other checks, and
// whoever walks the Program later, will look at.
#include "kernel/program/check.hpp"

namespace troupe::program {

namespace {

class visits {
 public:
  explicit visits(std::uint64_t budget) : budget_(budget) {}

  // A table with these texts and vectors.
  template <class... Vectors>
  void spend(const Vectors*... vectors) {
    spent_ += (std::uint64_t{1} + ... + std::uint64_t{size_of_one(vectors)});
    if (spent_ > budget_)
      refuse("program",
             "expected at most {} tables, numbers and letters, each counted wherever it is used, found more: "
             "too much is shared",
             budget_);
  }

 private:
  template <class Vector>
  static std::uint32_t size_of_one(const Vector* vector) {
    return vector == nullptr ? 0 : vector->size();
  }

  std::uint64_t budget_;
  std::uint64_t spent_ = 0;
};

void visit(visits& v, const Weight& weight) {
  v.spend(weight.name(), weight.shape());
  for (const auto* spelling : *weight.spellings()) {
    v.spend();
    for (const auto* source : *spelling->sources()) v.spend(source->tensor(), source->reshape());
  }
}

void visit(visits& v, const Op& op) {
  v.spend(op.inputs(), op.outputs(), op.weights(), op.scope());
  if (const auto* rope = op.attrs_as_RopeAttrs()) v.spend(rope->frequencies());
  const auto* native = op.attrs_as_NativeAttrs();
  if (native == nullptr) return;
  v.spend(native->op(), native->states());
  for (std::uint32_t i = 0; i < size(native->attributes()); ++i)
    v.spend(native->attributes()->Get(i)->name());
}

}  // namespace

void check_visits(const Program& program, std::size_t bytes) {
  visits v(shared_visits + bytes);
  v.spend(program.facts()->architecture(), program.facts()->eos_ids(), program.facts()->chat_template());
  for (const auto* weight : *program.weights()) visit(v, *weight);
  for (const auto* cache : *program.caches()) v.spend(cache->name(), cache->shape());
  for (const auto* tensor : *program.tensors()) v.spend(tensor->name(), tensor->shape());
  for (const auto* op : *program.ops()) visit(v, *op);
  for (std::uint32_t i = 0; i < size(program.probes()); ++i) v.spend(program.probes()->Get(i)->name());
}

}  // namespace troupe::program
