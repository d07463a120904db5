#include "kernel/modules/native_table.hpp"

#include <cstddef>
#include <optional>
#include <string_view>

namespace troupe::modules {

namespace {

constexpr std::size_t max_ops = 256;
constexpr std::uint32_t max_values = 32;  // of each kind
constexpr std::size_t max_name_bytes = 128;

// What the structs had in version 1.1: all that is read without a look at their size.
constexpr std::size_t table_bytes_1_1 =
    offsetof(troupe_module, native_ops) + sizeof(troupe_module::native_ops);
constexpr std::size_t op_bytes_1_1 = offsetof(troupe_native_op, cuda) + sizeof(troupe_native_op::cuda);

using problem = std::optional<std::string>;  // none = fine

bool is_name(const char* text) {
  if (text == nullptr || *text == '\0') return false;
  std::size_t bytes = 0;
  for (; text[bytes] != '\0'; ++bytes)
    if (bytes >= max_name_bytes || text[bytes] <= ' ' || text[bytes] > '~') return false;
  return true;
}

enum class kind { operand, weight, state };

bool is_dtype(kind what, troupe_dtype found) {
  if (what == kind::operand) return found == TROUPE_F32 || found == TROUPE_I32;
  return found == (what == kind::weight ? TROUPE_NONE : TROUPE_F32);
}

problem check_values(const char* field, kind what, const troupe_native_value* values, std::uint32_t count) {
  if (count > max_values) return fmt::format("{}: expected at most {}, found {}", field, max_values, count);
  if (count > 0 && values == nullptr) return fmt::format("{}: expected {}, found null", field, count);
  bool optional = false;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto& value = values[i];
    if (!is_name(value.name))
      return fmt::format("{}: value {}: expected a name of printable ASCII without blanks", field, i);
    if (!is_dtype(what, value.dtype))
      return fmt::format("{}: {}: expected dtype {}, found {}", field, value.name,
                         what == kind::operand  ? "TROUPE_F32 or TROUPE_I32"
                         : what == kind::weight ? "TROUPE_NONE"
                                                : "TROUPE_F32",
                         value.dtype);
    if (value.is_optional > 1 || (value.is_optional == 1 && what != kind::weight))
      return fmt::format("{}: {}: is_optional: expected 0{}, found {}", field, value.name,
                         what == kind::weight ? " or 1" : "", value.is_optional);
    if (optional && value.is_optional == 0)
      return fmt::format("{}: {}: expected optional ones last", field, value.name);
    optional = value.is_optional == 1;
  }
  return std::nullopt;
}

problem check_op(const troupe_native_op& op) {
  if (op.version == 0) return "version: expected 1 or more, found 0";
  if (op.summary == nullptr || *op.summary == '\0') return "the field summary is empty";
  if (op.shapes == nullptr) return "the field shapes is empty";
  if (op.cpu == nullptr) return "the field cpu is empty";
  if (op.output_count == 0) return "outputs: expected at least 1, found none";
  if (auto p = check_values("inputs", kind::operand, op.inputs, op.input_count)) return p;
  if (auto p = check_values("outputs", kind::operand, op.outputs, op.output_count)) return p;
  if (auto p = check_values("weights", kind::weight, op.weights, op.weight_count)) return p;
  return check_values("states", kind::state, op.states, op.state_count);
}

}  // namespace

result<std::vector<const troupe_native_op*>> read_native_ops(const troupe_module& table) {
  std::vector<const troupe_native_op*> ops;
  if (table.struct_size < table_bytes_1_1 || table.native_ops == nullptr) return ops;
  for (std::size_t i = 0; table.native_ops[i] != nullptr; ++i) {
    const troupe_native_op& op = *table.native_ops[i];
    if (i == max_ops)
      return fail(error_code::bad_module, "native_ops: more than {}: is the list ended by null?", max_ops);
    if (op.struct_size < op_bytes_1_1)
      return fail(error_code::bad_module,
                  "native op {}: its table has {} bytes, expected at least {}: rebuild the module", i,
                  op.struct_size, op_bytes_1_1);
    if (!is_name(op.name))
      return fail(error_code::bad_module, "native op {}: expected a name of printable ASCII without blanks",
                  i);
    if (const auto p = check_op(op)) return fail(error_code::bad_module, "native op {}: {}", op.name, *p);
    for (const auto* other : ops)
      if (std::string_view(other->name) == op.name && other->version == op.version)
        return fail(error_code::bad_module, "native op {} version {} comes twice", op.name, op.version);
    ops.push_back(&op);
  }
  return ops;
}

}  // namespace troupe::modules
