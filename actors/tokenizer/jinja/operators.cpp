#include "actors/tokenizer/jinja/operators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "actors/tokenizer/jinja/formatting.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

constexpr const char* symbol(binary_op op) {
  constexpr const char* symbols[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
  return symbols[static_cast<int>(op)];
}

[[noreturn]] void unsupported(binary_op op, const value& left, const value& right) {
  if (op == binary_op::add && (left.is_string() || left.is_list())) {
    raise("can only concatenate {0} (not \"{1}\") to {0}", type_name(left), type_name(right));
  }
  raise("unsupported operand type(s) for {}: '{}' and '{}'", symbol(op), type_name(left), type_name(right));
}

[[noreturn]] void too_large() {
  raise("the result of integer arithmetic is too large");
}

integer floor_div(integer a, integer b) {
  const integer q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

value integer_power(integer base, integer exponent) {
  if (exponent < 0) {
    if (base == 0) raise("0.0 cannot be raised to a negative power");
    return value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  integer out = 1;
  if (base == 0 || base == 1) return value(exponent == 0 ? out : base);
  if (base == -1) return value(exponent % 2 == 0 ? out : base);
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(out, base, &out)) too_large();
  }
  return value(out);
}

value on_integers(binary_op op, integer a, integer b) {
  integer out = 0;
  switch (op) {
    case binary_op::add:
      if (__builtin_add_overflow(a, b, &out)) too_large();
      return value(out);
    case binary_op::subtract:
      if (__builtin_sub_overflow(a, b, &out)) too_large();
      return value(out);
    case binary_op::multiply:
      if (__builtin_mul_overflow(a, b, &out)) too_large();
      return value(out);
    case binary_op::power:
      return integer_power(a, b);
    default:
      break;
  }
  if (b == 0) {
    raise("{}", op == binary_op::divide ? "division by zero" : "integer division or modulo by zero");
  }
  if (op == binary_op::divide) return value(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) return on_integers(binary_op::multiply, op == binary_op::modulo ? 0 : a, -1);
  return value(op == binary_op::floor_divide ? floor_div(a, b) : a - floor_div(a, b) * b);
}

value on_reals(binary_op op, double a, double b) {
  switch (op) {
    case binary_op::add:
      return value(a + b);
    case binary_op::subtract:
      return value(a - b);
    case binary_op::multiply:
      return value(a * b);
    case binary_op::power:
      return value(std::pow(a, b));
    default:
      break;
  }
  if (b == 0) raise("{}", op == binary_op::divide ? "float division by zero" : "float modulo");
  if (op == binary_op::divide) return value(a / b);
  if (op == binary_op::floor_divide) return value(std::floor(a / b));
  const double rest = std::fmod(a, b);
  return value(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
}

value repeat(budget& b, const value& v, integer times) {
  const std::size_t size = v.is_string() ? v.text().size() : v.list().items.size();
  if (times <= 0 || size == 0) times = 0;
  if (times > (1 << 30) ||
      static_cast<std::size_t>(times) * std::max<std::size_t>(size, 1) > (std::size_t{1} << 30)) {
    raise("a repeated string or list is too long");
  }
  const auto n = static_cast<std::size_t>(times);
  if (v.is_string()) {
    b.make_bytes(n * size);
    std::string out;
    out.reserve(n * size);
    for (std::size_t i = 0; i < n; ++i) out += v.text();
    return value(std::move(out));
  }
  b.step(n * size);
  std::vector<value> out;
  for (std::size_t i = 0; i < n; ++i) out.insert(out.end(), v.list().items.begin(), v.list().items.end());
  return make_list(b, std::move(out), v.list().kind);
}

bool is_real_list(const value& v) {
  return v.is_list() && (v.list().kind == list_kind::list || v.list().kind == list_kind::tuple);
}

value add_sequences(budget& b, const value& left, const value& right) {
  if (left.is_string()) {
    b.make_bytes(left.text().size() + right.text().size());
    return value(left.text() + right.text());
  }
  b.step(left.list().items.size());
  std::vector<value> out = left.list().items;
  out.insert(out.end(), right.list().items.begin(), right.list().items.end());
  return make_list(b, std::move(out), left.list().kind);
}

int compare_numbers(const value& a, const value& b) {
  if (a.is_integral() && b.is_integral()) return a.whole() < b.whole() ? -1 : a.whole() > b.whole() ? 1 : 0;
  return a.real() < b.real() ? -1 : a.real() > b.real() ? 1 : 0;
}

bool lists_equal(budget& b, const list_object& left, const list_object& right) {
  if (left.kind != right.kind || left.items.size() != right.items.size()) return false;
  for (std::size_t i = 0; i < left.items.size(); ++i) {
    if (!equals(b, left.items[i], right.items[i])) return false;
  }
  return true;
}

bool dicts_equal(budget& b, const dict_object& left, const dict_object& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, v] : left.entries) {
    const value* other = right.find(key);
    if (other == nullptr || !equals(b, v, *other)) return false;
  }
  return true;
}

[[noreturn]] void not_ordered(const char* op, const value& left, const value& right) {
  raise("'{}' not supported between instances of '{}' and '{}'", op, type_name(left), type_name(right));
}

// left < right, or right < left if `swapped`: then the error names the operands as they were written.
bool ordered(budget& b, const value& left, const value& right, const char* op, bool swapped) {
  must_be_defined(left);
  must_be_defined(right);
  if (left.is_number() && right.is_number()) return compare_numbers(left, right) < 0;
  if (left.is_string() && right.is_string()) {
    b.bytes(std::min(left.text().size(), right.text().size()));
    return left.text() < right.text();
  }
  if (is_real_list(left) && is_real_list(right) && left.list().kind == right.list().kind) {
    const auto& l = left.list().items;
    const auto& r = right.list().items;
    for (std::size_t i = 0; i < l.size() && i < r.size(); ++i) {
      if (!equals(b, l[i], r[i])) return ordered(b, l[i], r[i], op, swapped);
    }
    return l.size() < r.size();
  }
  swapped ? not_ordered(op, right, left) : not_ordered(op, left, right);
}

// The Python object that an index means: negative ones count from the end. Empty if out of range.
const value* item_at(const std::vector<value>& items, integer index) {
  const auto size = static_cast<integer>(items.size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? nullptr : &items[static_cast<std::size_t>(index)];
}

value no_element(const value& v, const value& index, budget& b) {
  const std::string owner = v.is_none() ? "None" : fmt::format("{} object", type_name(v));
  if (index.is_string())
    return value::missing(fmt::format("'{}' has no attribute {}", owner, repr(b, index)));
  return value::missing(fmt::format("{} has no element {}", owner, repr(b, index)));
}

struct range {
  integer start = 0, stop = 0, step = 1;
};

// Python's slice.indices().
range resolve(const value& start, const value& stop, const value& step, integer size) {
  const auto given = [](const value& v) { return !v.is_undefined() && !v.is_none(); };
  for (const value* v : {&start, &stop, &step}) {
    if (given(*v) && !v->is_integral()) raise("slice indices must be integers or None");
  }
  range r;
  r.step = given(step) ? step.whole() : 1;
  if (r.step == 0) raise("slice step cannot be zero");
  const integer low = r.step < 0 ? -1 : 0;
  const integer high = r.step < 0 ? size - 1 : size;
  const auto bound = [&](const value& v, integer otherwise) {
    if (!given(v)) return otherwise;
    const integer i = v.whole() < 0 ? v.whole() + size : v.whole();
    return std::clamp(i, low, high);
  };
  r.start = bound(start, r.step < 0 ? high : low);
  r.stop = bound(stop, r.step < 0 ? low : high);
  r.step = std::clamp(r.step, -size - 1, size + 1);
  return r;
}

value slice_string(budget& b, const std::string& text, const range& r, bool ascii) {
  if (r.step == 1) {
    if (r.start >= r.stop) return value(std::string());
    const auto at = [&](integer i) {
      return ascii ? static_cast<std::size_t>(i) : utf8::offset(text, static_cast<std::size_t>(i));
    };
    const std::size_t begin = at(r.start);
    return make_string(b, text.substr(begin, at(r.stop) - begin));
  }
  std::vector<std::string_view> letters;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(letters.back().size())) {
    letters.push_back(rest.substr(0, utf8::read_valid(rest).bytes));
  }
  std::string out;
  for (integer i = r.start; r.step > 0 ? i < r.stop : i > r.stop; i += r.step) {
    out += letters[static_cast<std::size_t>(i)];
  }
  return make_string(b, std::move(out));
}

}  // namespace

value binary(budget& b, binary_op op, const value& left, const value& right) {
  must_be_defined(left);
  must_be_defined(right);
  if (left.is_integral() && right.is_integral()) return on_integers(op, left.whole(), right.whole());
  if (left.is_number() && right.is_number()) return on_reals(op, left.real(), right.real());
  if (op == binary_op::add && left.is_string() && right.is_string()) return add_sequences(b, left, right);
  if (op == binary_op::add && is_real_list(left) && is_real_list(right) &&
      left.list().kind == right.list().kind) {
    return add_sequences(b, left, right);
  }
  if (op == binary_op::multiply) {
    if ((left.is_string() || is_real_list(left)) && right.is_integral())
      return repeat(b, left, right.whole());
    if ((right.is_string() || is_real_list(right)) && left.is_integral())
      return repeat(b, right, left.whole());
  }
  if (op == binary_op::modulo && left.is_string()) {
    call_arguments values;
    if (right.is_list() && right.list().kind == list_kind::tuple) {
      values.positional = right.list().items;
    } else {
      values.positional = {right};
    }
    if (right.is_dict())
      for (const auto& [key, v] : right.dict().entries)
        if (key.is_string()) values.named.emplace_back(key.text(), v);
    return make_string(b, format_percent(b, left.text(), values));
  }
  unsupported(op, left, right);
}

value negative(const value& v) {
  must_be_defined(v);
  if (v.is_integral()) return on_integers(binary_op::multiply, v.whole(), -1);
  if (v.is<double>()) return value(-v.as<double>());
  raise("bad operand type for unary -: '{}'", type_name(v));
}

value positive(const value& v) {
  must_be_defined(v);
  if (v.is_integral()) return value(v.whole());
  if (v.is<double>()) return v;
  raise("bad operand type for unary +: '{}'", type_name(v));
}

bool equals(budget& b, const value& left, const value& right) {
  b.step();
  const budget::level nested(b);
  if (left.is_number() && right.is_number()) return compare_numbers(left, right) == 0;
  if (left.is_string() && right.is_string()) {
    if (left.text().size() != right.text().size()) return false;
    b.bytes(left.text().size());
    return left.text() == right.text();
  }
  if (left.is_list() && right.is_list()) return lists_equal(b, left.list(), right.list());
  if (left.is_dict() && right.is_dict()) return dicts_equal(b, left.dict(), right.dict());
  if (left.is<namespace_object*>() && right.is<namespace_object*>()) {
    return left.as<namespace_object*>() == right.as<namespace_object*>();
  }
  return (left.is_none() && right.is_none()) || (left.is_undefined() && right.is_undefined());
}

bool less(budget& b, const value& left, const value& right) {
  return ordered(b, left, right, "<", false);
}

bool contains(budget& b, const value& container, const value& item) {
  if (container.is_undefined()) return false;
  if (container.is_string()) {
    if (!item.is_string()) {
      must_be_defined(item);
      raise("'in <string>' requires string as left operand, not {}", type_name(item));
    }
    b.bytes(container.text().size());
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.is_dict()) {
    if (item.is_list() || item.is_dict()) raise("unhashable type: '{}'", type_name(item));
    return container.dict().find(item) != nullptr;
  }
  if (!container.is_list()) raise("argument of type '{}' is not iterable", type_name(container));
  for (const auto& v : container.list().items) {
    if (equals(b, v, item)) return true;
  }
  return false;
}

bool compare(budget& b, compare_op op, const value& left, const value& right) {
  switch (op) {
    case compare_op::equal:
      return equals(b, left, right);
    case compare_op::not_equal:
      return !equals(b, left, right);
    case compare_op::in:
      return contains(b, right, left);
    case compare_op::not_in:
      return !contains(b, right, left);
    case compare_op::less:
      return ordered(b, left, right, "<", false);
    case compare_op::greater:
      return ordered(b, right, left, ">", true);
    // With NaN neither of two numbers is less: an order that is not total must be asked twice.
    case compare_op::less_equal:
      return ordered(b, left, right, "<=", false) || equals(b, left, right);
    case compare_op::greater_equal:
      return ordered(b, right, left, ">=", true) || equals(b, left, right);
  }
  return false;
}

std::size_t length(budget& b, const value& v) {
  if (v.is_undefined()) return 0;
  if (v.is_string()) {
    b.bytes(v.text().size());
    return utf8::length(v.text());
  }
  if (v.is_dict()) return v.dict().entries.size();
  if (v.is<loop_ptr>()) return v.as<loop_ptr>()->items->items.size();
  if (!v.is_list() || v.list().kind == list_kind::generator)
    raise("object of type '{}' has no len()", type_name(v));
  return v.list().items.size();
}

list_ptr iterate(budget& b, const value& v) {
  if (v.is_list()) return v.as<list_ptr>();
  std::vector<value> items;
  if (v.is_dict()) {
    for (const auto& entry : v.dict().entries) items.push_back(entry.first);
  } else if (v.is_string()) {
    b.step(v.text().size());
    for (std::string_view rest = v.text(); !rest.empty();) {
      const std::size_t n = utf8::read_valid(rest).bytes;
      items.emplace_back(rest.substr(0, n));
      rest.remove_prefix(n);
    }
  } else if (!v.is_undefined()) {
    raise("'{}' object is not iterable", type_name(v));
  }
  return make_list(b, std::move(items)).as<list_ptr>();
}

value subscript(budget& b, const value& v, const value& index) {
  must_be_defined(v);
  if (v.is_dict()) {
    const value* found = v.dict().find(index);
    return found != nullptr ? *found : no_element(v, index, b);
  }
  if (index.is_integral() && v.is_list()) {
    const auto kind = v.list().kind;
    const bool indexable = kind == list_kind::list || kind == list_kind::tuple || kind == list_kind::range;
    const value* found = indexable ? item_at(v.list().items, index.whole()) : nullptr;
    return found != nullptr ? *found : no_element(v, index, b);
  }
  if (index.is_integral() && v.is_string()) {
    const auto size = static_cast<integer>(length(b, v));
    const integer i = index.whole() < 0 ? index.whole() + size : index.whole();
    if (i < 0 || i >= size) return no_element(v, index, b);
    const std::size_t at = utf8::offset(v.text(), static_cast<std::size_t>(i));
    return value(v.text().substr(at, utf8::read_valid(std::string_view(v.text()).substr(at)).bytes));
  }
  return no_element(v, index, b);
}

value slice(budget& b, const value& v, const value& start, const value& stop, const value& step) {
  must_be_defined(v);
  if (v.is_string()) {
    const std::size_t size = length(b, v);
    return slice_string(b, v.text(), resolve(start, stop, step, static_cast<integer>(size)),
                        size == v.text().size());
  }
  if (!v.is_list() || v.list().kind == list_kind::generator)
    return no_element(v, value(std::string("slice")), b);
  const auto& items = v.list().items;
  const range r = resolve(start, stop, step, static_cast<integer>(items.size()));
  std::vector<value> out;
  for (integer i = r.start; r.step > 0 ? i < r.stop : i > r.stop; i += r.step) {
    out.push_back(items[static_cast<std::size_t>(i)]);
  }
  return make_list(b, std::move(out), v.list().kind);
}

}  // namespace troupe::text::jinja
