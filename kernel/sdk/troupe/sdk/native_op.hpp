// Native ops in C++: an op is a type that says what it is, and its body reads views instead of C structs.
//
//   struct scale {  // y = factor · x
//     static constexpr const char* name = "scale";
//     static constexpr std::uint32_t version = 1;
//     static constexpr const char* summary = "multiplies by a number";
//     static constexpr native_value inputs[] = {{"x"}}, outputs[] = {{"y"}};  // also weights, states; what is absent is empty
//     static void shapes(native_shapes& s) { s.output(0, s.columns(0)); }
//     static void cpu(const native_step& s) {
//       const float factor = static_cast<float>(s.number("factor"));
//       s.parallel_for(s.rows(), 16, [&](std::size_t begin, std::size_t end, unsigned) {
//         for (std::size_t t = begin; t < end; ++t)
//           for (std::size_t i = 0; i < s.columns(0); ++i) s.output(0, t)[i] = factor * s.input(0, t)[i];
//       });
//     }
//   };
//
// Also understood: `static std::uint64_t workspace(const native_use&, std::uint64_t rows, std::uint32_t sequences,
// std::uint32_t threads)`, in bytes; `static void cuda(const native_step&, void* stream)`, the op's CUDA body, where pointers are the
// device's (and sequence_rows(), positions() and state tables are read there, not here); it may throw native_error.
// TROUPE_MODULE_WITH_NATIVE_OPS (module.hpp) hands the ops to Troupe; builder::native<scale>(...) uses
// one. What the functions must keep to stands in <troupe/module.h>. shapes() may throw native_error; cpu() throws nothing.
#pragma once

#include <troupe/module.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <troupe/sdk/errors.hpp>
#include <type_traits>

namespace troupe::sdk {

// An input, output, weight or state of an op.
struct native_value {
  const char* name;
  troupe_dtype dtype = TROUPE_F32;  // of inputs and outputs: or TROUPE_I32
  bool is_optional = false;         // of weights: a use may leave it out, and then all behind it
};

// Why a use of an op is refused.
struct native_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What shapes(), workspace() and cpu() all may ask: one use of the op. Columns are the width of an operand [T, N].
class native_use {
 public:
  explicit native_use(const troupe_native_use& use) : use_(use) {}

  std::size_t inputs() const { return use_.input_count; }
  std::size_t weights() const { return use_.weight_count; }
  std::size_t columns(std::size_t input) const { return use_.inputs[input].shape[1]; }
  std::size_t output_columns(std::size_t output) const { return use_.outputs[output].shape[1]; }
  const troupe_weight& weight(std::size_t i) const { return use_.weights[i]; }
  const troupe_tensor& state(std::size_t i) const { return use_.states[i]; }

  // The attribute of that name; throws native_error if the use has none.
  double number(std::string_view name) const {
    const double* found = find(name);
    if (found == nullptr) throw native_error("attribute " + std::string(name) + " is missing");
    return *found;
  }
  double number_or(std::string_view name, double absent) const {
    const double* found = find(name);
    return found == nullptr ? absent : *found;
  }

 protected:
  const double* find(std::string_view name) const {
    for (std::uint32_t i = 0; i < use_.attribute_count; ++i)
      if (use_.attributes[i].name == name) return &use_.attributes[i].value;
    return nullptr;
  }
  const troupe_native_use& use_;
};

// For shapes(): checks what comes in, says what goes out.
class native_shapes : public native_use {
 public:
  using native_use::native_use;

  // The output is [T, columns] of that dtype.
  void output(std::size_t i, std::uint64_t columns, troupe_dtype dtype = TROUPE_F32) {
    auto& out = use_.outputs[i];
    out.dtype = dtype;
    out.rank = 2;
    out.shape[0] = 0;
    out.shape[1] = columns;
    out.shape[2] = out.shape[3] = 1;
  }
  void expect_columns(const char* name, std::size_t input, std::uint64_t expected) const {
    if (columns(input) != expected)
      throw native_error(std::string(name) + ": expected [T, " + std::to_string(expected) + "], found [T, " +
                         std::to_string(columns(input)) + "]");
  }
  void expect_weight(const char* name, std::size_t i, std::initializer_list<std::uint64_t> shape) const {
    expect_shape(name, weight(i).rank, weight(i).shape, shape);
  }
  void expect_state(const char* name, std::size_t i, std::initializer_list<std::uint64_t> shape) const {
    expect_shape(name, state(i).rank, state(i).shape, shape);
  }
  // A whole number from `least` to `most`.
  std::uint64_t count(const char* name, std::uint64_t least, std::uint64_t most) const {
    const double value = number(name);
    if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) ||
        value != std::floor(value))
      throw native_error("attribute " + std::string(name) + ": expected a whole number from " +
                         std::to_string(least) + " to " + std::to_string(most) + ", found " +
                         std::to_string(value));
    return static_cast<std::uint64_t>(value);
  }

 private:
  static void expect_shape(const char* name, std::uint32_t rank, const std::uint64_t* found,
                           std::initializer_list<std::uint64_t> expected) {
    bool same = rank == expected.size();
    for (std::uint32_t i = 0; same && i < rank; ++i) same = found[i] == expected.begin()[i];
    if (!same)
      throw native_error(std::string(name) + ": expected " + describe(expected.begin(), expected.size()) +
                         ", found " + describe(found, rank));
  }
  static std::string describe(const std::uint64_t* shape, std::size_t rank) {
    std::string out;
    for (std::size_t i = 0; i < rank; ++i) out += (i == 0 ? "[" : ", ") + std::to_string(shape[i]);
    return out + "]";
  }
};

// For cpu(): one step. Rows of inputs and outputs are pointers to `columns` numbers.
class native_step : public native_use {
 public:
  native_step(const troupe_native_use& use, const troupe_native_step& step) : native_use(use), step_(step) {}

  std::size_t rows() const { return step_.rows; }            // T
  std::size_t sequences() const { return step_.sequences; }  // S
  unsigned threads() const { return step_.threads; }
  std::size_t first_row(std::size_t sequence) const { return step_.sequence_rows[sequence]; }
  std::size_t end_row(std::size_t sequence) const { return step_.sequence_rows[sequence + 1]; }
  // Of the sequence's first row in this step; 0: its states are zeros.
  std::size_t position(std::size_t sequence) const { return step_.positions[sequence]; }

  const float* input(std::size_t i, std::size_t row = 0) const {
    return static_cast<const float*>(use_.inputs[i].data) + row * columns(i);
  }
  const std::int32_t* integers(std::size_t i, std::size_t row = 0) const {
    return static_cast<const std::int32_t*>(use_.inputs[i].data) + row * columns(i);
  }
  float* output(std::size_t i, std::size_t row = 0) const {
    return static_cast<float*>(use_.outputs[i].data) + row * output_columns(i);
  }
  std::int32_t* output_integers(std::size_t i, std::size_t row = 0) const {
    return static_cast<std::int32_t*>(use_.outputs[i].data) + row * output_columns(i);
  }
  float* state(std::size_t i, std::size_t sequence) const { return step_.states[i][sequence]; }
  // As they stand in the step, for a CUDA body: on the device.
  const std::uint32_t* sequence_rows() const { return step_.sequence_rows; }
  const std::uint32_t* positions() const { return step_.positions; }
  float* const* const* states() const { return step_.states; }
  template <class T>
  T* workspace() const {
    return static_cast<T*>(step_.workspace);
  }

  // part(begin, end, worker) for parts that cover [0, count) once; see <troupe/module.h>.
  template <class Part>
  void parallel_for(std::size_t count, std::size_t grain, const Part& part) const {
    step_.parallel_for(
        step_.context, count, grain,
        [](void* context, std::uint64_t begin, std::uint64_t end, std::uint32_t worker) {
          (*static_cast<const Part*>(context))(begin, end, worker);
        },
        const_cast<Part*>(&part));
  }

 private:
  const troupe_native_step& step_;
};

// Numbers [first, first + count) of a weight's plane, as f32.
inline void read_weight(const troupe_weight& weight, std::size_t plane, std::size_t first, std::size_t count,
                        float* out) {
  const auto* bytes = static_cast<const unsigned char*>(weight.planes[plane]);
  if (weight.dtype == TROUPE_F32) {
    std::memcpy(out, bytes + 4 * first, 4 * count);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t half = 0;
    std::memcpy(&half, bytes + 2 * (first + i), 2);
    std::uint32_t bits = std::uint32_t{half} << 16;
    if (weight.dtype == TROUPE_F16) {
      const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16, exponent = (half >> 10) & 0x1f,
                          fraction = half & 0x3ff;
      if (exponent == 0) {  // zero and subnormal numbers
        const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
        std::memcpy(&bits, &magnitude, 4);
        bits |= sign;
      } else {
        bits = sign | (exponent == 31 ? 0xffu : exponent + 112) << 23 | fraction << 13;
      }
    }
    std::memcpy(out + i, &bits, 4);
  }
}

namespace detail {

// The values of an op's kind in the ABI's form; `member` is absent for a kind that the op does not have.
template <std::size_t N>
struct value_table {
  troupe_native_value values[N == 0 ? 1 : N] = {};
  std::uint32_t count = static_cast<std::uint32_t>(N);
  const troupe_native_value* data() const { return N == 0 ? nullptr : values; }
};
template <std::size_t N>
constexpr value_table<N> operands(const native_value (&values)[N]) {
  value_table<N> out;
  for (std::size_t i = 0; i < N; ++i) out.values[i] = {values[i].name, values[i].dtype, 0};
  return out;
}
template <std::size_t N>
constexpr value_table<N> weights(const native_value (&values)[N]) {
  value_table<N> out;
  for (std::size_t i = 0; i < N; ++i)
    out.values[i] = {values[i].name, TROUPE_NONE, values[i].is_optional ? 1u : 0u};
  return out;
}

// Calls body() and turns what it throws into a status.
template <class Body>
troupe_status guarded(const troupe_native_use& use, const Body& body) noexcept {
  try {
    body();
    return TROUPE_OK;
  } catch (const std::exception& e) {
    return use.fail(use.context, e.what());
  } catch (...) {
    return use.fail(use.context, "an exception that is not a std::exception");
  }
}

template <class Op>
constexpr auto inputs_of() {
  if constexpr (requires { Op::inputs; })
    return operands(Op::inputs);
  else
    return value_table<0>();
}
template <class Op>
constexpr auto weights_of() {
  if constexpr (requires { Op::weights; })
    return weights(Op::weights);
  else
    return value_table<0>();
}
template <class Op>
constexpr auto states_of() {
  if constexpr (requires { Op::states; })
    return operands(Op::states);
  else
    return value_table<0>();
}

template <class Op>
struct tables {
  static constexpr auto inputs = inputs_of<Op>();
  static constexpr auto outputs = operands(Op::outputs);
  static constexpr auto weights = weights_of<Op>();
  static constexpr auto states = states_of<Op>();

  static troupe_status shapes(const troupe_native_use* use) {
    return guarded(*use, [use] {
      native_shapes s(*use);
      Op::shapes(s);
    });
  }
  static std::uint64_t workspace(const troupe_native_use* use, std::uint64_t rows, std::uint32_t sequences,
                                 std::uint32_t threads) {
    if constexpr (requires { &Op::workspace; }) {
      std::uint64_t bytes = TROUPE_NO_WORKSPACE;
      guarded(*use, [&] { bytes = Op::workspace(native_use(*use), rows, sequences, threads); });
      return bytes;
    } else {
      return 0;
    }
  }
  static troupe_status cpu(const troupe_native_use* use, const troupe_native_step* step) {
    return guarded(*use, [use, step] { Op::cpu(native_step(*use, *step)); });
  }
  static troupe_status cuda(const troupe_native_use* use, const troupe_native_step* step, void* stream) {
    if constexpr (requires { &Op::cuda; })
      return guarded(*use, [use, step, stream] { Op::cuda(native_step(*use, *step), stream); });
    else
      return use->fail(use->context, "it has no CUDA body");
  }
  static constexpr bool has_cuda = requires { &Op::cuda; };
};

}  // namespace detail

// The op's table; lives as long as the module.
template <class Op>
const troupe_native_op& native_op() {
  using t = detail::tables<Op>;
  static const troupe_native_op table = {
      sizeof(troupe_native_op),
      Op::version,
      Op::name,
      Op::summary,
      t::inputs.data(),
      t::outputs.data(),
      t::weights.data(),
      t::states.data(),
      t::inputs.count,
      t::outputs.count,
      t::weights.count,
      t::states.count,
      &t::shapes,
      &t::workspace,
      &t::cpu,
      t::has_cuda ? &t::cuda : nullptr,
  };
  return table;
}

// The ops that a module brings along: using my_ops = native_op_list<scale, scan>;
template <class... Ops>
struct native_op_list {
  static const troupe_native_op* const* table() {
    static const troupe_native_op* const list[] = {&native_op<Ops>()..., nullptr};
    return list;
  }
};

}  // namespace troupe::sdk
