#include "kernel/program/native_ops.hpp"

#include <algorithm>
#include <exception>

#include "kernel/base/clean_text.hpp"
#include "kernel/program/check.hpp"

namespace troupe::program {

namespace {

static_assert(TROUPE_NONE == static_cast<int>(DType::none) && TROUPE_F32 == static_cast<int>(DType::f32) &&
              TROUPE_BF16 == static_cast<int>(DType::bf16) && TROUPE_F16 == static_cast<int>(DType::f16) &&
              TROUPE_I32 == static_cast<int>(DType::i32));
static_assert(TROUPE_TOKENS == static_cast<int>(Rows::tokens) &&
              TROUPE_LOGIT_ROWS == static_cast<int>(Rows::logit_rows));
static_assert(max_state_dimensions == TROUPE_MAX_DIMENSIONS);

template <class Table>
void set_shape(Table& table, std::initializer_list<std::uint64_t> leading,
               const flatbuffers::Vector<std::uint64_t>& shape) {
  std::fill(std::begin(table.shape), std::end(table.shape), 1);
  auto* next = std::copy(leading.begin(), leading.end(), table.shape);
  std::copy(shape.begin(), shape.end(), next);
  table.rank = static_cast<std::uint32_t>(leading.size()) + shape.size();
}

troupe_tensor operand(const Program& program, std::uint32_t id) {
  const Tensor& tensor = *program.tensors()->Get(id);
  troupe_tensor out = {};
  out.dtype = static_cast<troupe_dtype>(tensor.dtype());
  set_shape(out, {0}, *tensor.shape());
  return out;
}

troupe_tensor state(const Program& program, const StateUse& use) {
  troupe_tensor out = {};
  out.dtype = TROUPE_F32;
  set_shape(out, {}, *program.caches()->Get(use.cache())->shape());
  return out;
}

troupe_weight weight(const Program& program, std::uint32_t id) {
  troupe_weight out = {};
  set_shape(out, {}, *program.weights()->Get(id)->shape());
  return out;
}

std::uint32_t least_weights(const troupe_native_op& op) {
  std::uint32_t least = 0;
  while (least < op.weight_count && op.weights[least].is_optional == 0) ++least;
  return least;
}

// Checks one use of `op`, which stands at `where`.
class use_checker {
 public:
  use_checker(const Program& program, const Op& op, const troupe_native_op& native, std::string where)
      : use_(program, op), native_(native), where_(std::move(where)) {}

  void run() {
    const auto& t = use_.table();
    check_count("inputs", native_.input_count, native_.input_count, t.input_count);
    check_count("outputs", native_.output_count, native_.output_count, t.output_count);
    check_count("weights", least_weights(native_), native_.weight_count, t.weight_count);
    check_count("states", native_.state_count, native_.state_count, t.state_count);
    check_types("input", native_.inputs, use_.inputs());
    check_types("output", native_.outputs, use_.outputs());
    check_shapes();
  }

 private:
  void check_count(const char* what, std::uint32_t least, std::uint32_t most, std::uint32_t found) const {
    if (found >= least && found <= most) return;
    refuse(where_, "expected {} {}, found {}",
           least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most), what, found);
  }

  void check_types(const char* what, const troupe_native_value* declared,
                   std::span<const troupe_tensor> found) const {
    for (std::size_t i = 0; i < found.size(); ++i)
      if (found[i].dtype != declared[i].dtype)
        refuse(where_, "{} {}: expected {}, found {}", what, declared[i].name,
               name_of(static_cast<DType>(declared[i].dtype)), name_of(static_cast<DType>(found[i].dtype)));
  }

  void check_shapes() {
    const std::vector<troupe_tensor> expected(use_.outputs().begin(), use_.outputs().end());
    for (auto& output : use_.outputs()) output = {};
    troupe_status status = TROUPE_OK;
    try {
      status = native_.shapes(&use_.table());
    } catch (const std::exception& e) {
      refuse(where_, "an exception crossed the interface: {}", clean_text(e.what(), longest_message));
    } catch (...) {
      refuse(where_, "an exception crossed the interface");
    }
    const auto problem = use_.take_problem();
    if (status != TROUPE_OK || !problem.empty())
      refuse(where_, "{}", problem.empty() ? "the op refuses its operands without a reason" : problem);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto& answer = use_.outputs()[i];
      if (answer.rank != 2 || answer.dtype != expected[i].dtype || answer.shape[1] != expected[i].shape[1])
        refuse(where_, "output {}: the op gives [{}, {}] {}, the Program says [{}, {}] {}",
               native_.outputs[i].name, rows_letter(), answer.shape[1],
               name_of(static_cast<DType>(answer.dtype)), rows_letter(), expected[i].shape[1],
               name_of(static_cast<DType>(expected[i].dtype)));
    }
  }

  const char* rows_letter() const { return use_.table().rows_of == TROUPE_TOKENS ? "T" : "R"; }

  native_use use_;
  const troupe_native_op& native_;
  std::string where_;
};

std::string known_text(const native_ops& known) {
  std::string all;
  for (const auto* op : known.all())
    all += fmt::format("{}{} version {}", all.empty() ? "" : ", ", op->name, op->version);
  return all.empty() ? "none" : all;
}

}  // namespace

const troupe_native_op* native_ops::find(std::string_view name, std::uint32_t version) const {
  const auto found = std::ranges::find_if(
      ops_, [&](const troupe_native_op* op) { return op->name == name && op->version == version; });
  return found == ops_.end() ? nullptr : *found;
}

native_use::native_use(const Program& program, const Op& op) {
  const NativeAttrs& attrs = *op.attrs_as_NativeAttrs();
  for (const auto id : values(op.inputs())) inputs_.push_back(operand(program, id));
  for (const auto id : values(op.outputs())) outputs_.push_back(operand(program, id));
  for (const auto id : values(op.weights())) weights_.push_back(weight(program, id));
  for (std::uint32_t i = 0; i < size(attrs.states()); ++i)
    states_.push_back(state(program, *attrs.states()->Get(i)));
  for (std::uint32_t i = 0; i < size(attrs.attributes()); ++i) {
    const Attribute& one = *attrs.attributes()->Get(i);
    attributes_.push_back({one.name()->c_str(), one.value()});
  }
  table_.struct_size = sizeof table_;
  table_.rows_of = static_cast<std::uint32_t>(program.tensors()->Get(op.outputs()->Get(0))->rows());
  table_.input_count = static_cast<std::uint32_t>(inputs_.size());
  table_.output_count = static_cast<std::uint32_t>(outputs_.size());
  table_.weight_count = static_cast<std::uint32_t>(weights_.size());
  table_.state_count = static_cast<std::uint32_t>(states_.size());
  table_.attribute_count = static_cast<std::uint32_t>(attributes_.size());
  table_.inputs = inputs_.data();
  table_.outputs = outputs_.data();
  table_.weights = weights_.data();
  table_.states = states_.data();
  table_.attributes = attributes_.data();
  table_.context = this;
  table_.fail = &on_fail;
}

// Called from the module: nothing may escape, not even for want of memory.
troupe_status native_use::on_fail(void* context, const char* text) noexcept {
  try {
    auto& problem = static_cast<native_use*>(context)->problem_;
    problem = text == nullptr ? "" : clean_text(text, longest_message);
    if (problem.empty()) problem = "without a reason";
  } catch (const std::exception&) {
    return TROUPE_FAILED;  // without a text
  }
  return TROUPE_FAILED;
}

std::string native_op_text(const Program& program, std::uint32_t op) {
  const Op& one = *program.ops()->Get(op);
  const auto scope = text(one.scope());
  return fmt::format("op {} (native {}{}{})", op, text(one.attrs_as_NativeAttrs()->op()),
                     scope.empty() ? "" : ", ", scope);
}

bool has_native_ops(const Program& program) {
  return std::ranges::any_of(*program.ops(), [](const Op* op) { return op->kind() == OpKind::native; });
}

result<void> check_native_ops(const Program& program, const native_ops& known) {
  try {
    for (std::uint32_t i = 0; i < program.ops()->size(); ++i) {
      const Op& op = *program.ops()->Get(i);
      if (op.kind() != OpKind::native) continue;
      const auto where = native_op_text(program, i);
      const NativeAttrs& attrs = *op.attrs_as_NativeAttrs();
      const auto* native = known.find(text(attrs.op()), attrs.version());
      if (native == nullptr)
        refuse(where, "expected a native op of the module in version {}; it has: {}", attrs.version(),
               known_text(known));
      use_checker(program, op, *native, where).run();
    }
  } catch (const refusal& why) {
    return fail(error_code::bad_program, "{}", why.text);
  }
  return {};
}

}  // namespace troupe::program
