#include "bench/cuda/workload.hpp"

#include <algorithm>
#include <set>

#include "kernel/program/names.hpp"

namespace troupe::bench {
namespace {

using program::OpKind;

double elements(const program::Weight& w) {
  double product = 1;
  for (const std::uint64_t size : *w.shape()) product *= static_cast<double>(size);
  return product;
}

double bytes_of(const program::Weight& w, bool int8) {
  if (w.shape()->size() == 1) return 4 * elements(w);
  if (!int8 || !w.quantizable()) return 2 * elements(w);
  const auto columns = static_cast<double>(w.shape()->Get(w.shape()->size() - 1));
  return elements(w) * (1 + 4 / columns);
}

class counter {
 public:
  counter(const program::Program& program, bool int8, const step_shape& step, std::span<const double> chosen)
      : p_(program), int8_(int8), step_(step), chosen_(chosen) {}

  workload run() {
    for (const auto* op : *p_.ops()) add(*op);
    out_.state = 2 * step_.sequences * static_cast<double>(program::state_bytes_per_sequence(p_));
    out_.operations += step_.tokens * 9 * static_cast<double>(program::state_bytes_per_sequence(p_)) / 4;
    return out_;
  }

 private:
  const program::Weight& weight(const program::Op& op, unsigned i) const {
    return *p_.weights()->Get(op.weights()->Get(i));
  }
  double all_bytes(const program::Op& op) const {
    double sum = 0;
    for (unsigned i = 0; i < program::size(op.weights()); ++i) sum += bytes_of(weight(op, i), int8_);
    return sum;
  }

  void add(const program::Op& op) {
    switch (op.kind()) {
      case OpKind::embed:
        out_.other += step_.tokens * 2 * static_cast<double>(weight(op, 0).shape()->Get(1));
        return;
      case OpKind::linear:
        out_.linear += all_bytes(op);
        out_.operations += 2 * rows(op) * elements(weight(op, 0));
        return;
      case OpKind::experts:
        add_experts(op);
        return;
      case OpKind::attention:
        add_attention(op);
        return;
      default:
        out_.other += all_bytes(op);
    }
  }
  double rows(const program::Op& op) const {
    const auto& out = *p_.tensors()->Get(op.outputs()->Get(0));
    return out.rows() == program::Rows::logit_rows ? step_.logit_rows : step_.tokens;
  }
  void add_experts(const program::Op& op) {
    const auto experts = static_cast<double>(weight(op, 0).shape()->Get(0));
    const auto top_k = static_cast<double>(p_.tensors()->Get(op.inputs()->Get(2))->shape()->Get(0));
    out_.experts += all_bytes(op) * chosen_[experts_++] / experts;
    for (unsigned i = 0; i < 3; ++i)
      out_.operations += 2 * step_.tokens * top_k * elements(weight(op, i)) / experts;
  }
  void add_attention(const program::Op& op) {
    const auto& attrs = *op.attrs_as_AttentionAttrs();
    const double pair = 2.0 * 2 * attrs.kv_heads() * attrs.head_dim();  // key and value, bf16
    out_.cache += (step_.read + step_.tokens) * pair;
    out_.operations += 4.0 * attrs.heads() * attrs.head_dim() * step_.seen;
  }

  const program::Program& p_;
  bool int8_;
  step_shape step_;
  std::span<const double> chosen_;
  std::size_t experts_ = 0;  // ops of experts that came by: one behind each router
  workload out_;
};

}  // namespace

double workload::seconds(const ceilings& on) const {
  return std::max(bytes() / on.reads, operations / on.operations);
}

workload work_of(const program::Program& program, bool int8, const step_shape& step,
                 std::span<const double> chosen) {
  return counter(program, int8, step, chosen).run();
}

double weight_bytes(const program::Program& program, bool int8) {
  double sum = 0;
  for (const auto* w : *program.weights()) sum += bytes_of(*w, int8);
  return sum;
}

}  // namespace troupe::bench
