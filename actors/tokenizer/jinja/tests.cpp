// x is name
#include <fmt/ranges.h>

#include <algorithm>

#include "actors/tokenizer/jinja/filters.hpp"
#include "actors/tokenizer/jinja/operators.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

using test_function = bool (*)(budget&, const value&, const call_arguments&);

template <compare_op Op>
bool compares(budget& b, const value& v, const call_arguments& a) {
  return compare(b, Op, v, bound_arguments("test", a, {"other"}).at(0));
}

bool is_iterable(const value& v) {
  return v.is_undefined() || v.is_string() || v.is_list() || v.is_dict();
}

bool is_sequence(const value& v) {
  // Has a length and takes an index.
  if (v.is_undefined() || v.is_string() || v.is_dict()) return true;
  return v.is_list() && (v.list().kind == list_kind::list || v.list().kind == list_kind::tuple ||
                         v.list().kind == list_kind::range);
}

integer remainder(budget& b, const value& v, integer by) {
  const value rest = binary(b, binary_op::modulo, v, value(by));
  return rest.is_integral() ? rest.whole() : rest.real() == 0 ? 0 : rest.real() == 1 ? 1 : 2;
}

bool cased(budget& b, const value& v, bool upper) {
  const std::string text = to_text(b, v);
  bool any = false;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(utf8::read_valid(rest).bytes)) {
    const char32_t c = utf8::read_valid(rest).value;
    if (upper ? utf8::is_lower(c) : utf8::is_upper(c)) return false;
    any = any || (upper ? utf8::is_upper(c) : utf8::is_lower(c));
  }
  return any;
}

bool same(const value& v, const value& other) {
  if (v.is<bool>() && other.is<bool>()) return v.as<bool>() == other.as<bool>();
  if (v.is<integer>() && other.is<integer>()) return v.as<integer>() == other.as<integer>();
  if (v.is_string() && other.is_string()) return v.text() == other.text();
  if (v.is_list() && other.is_list()) return &v.list() == &other.list();
  if (v.is_dict() && other.is_dict()) return &v.dict() == &other.dict();
  return v.is_none() && other.is_none();
}

struct named_test {
  std::string_view name;
  test_function function;
};

#define TROUPE_TYPE_TEST(expression) \
  [](budget&, [[maybe_unused]] const value& v, const call_arguments&) -> bool { return expression; }

const named_test tests[] = {
    {"boolean", TROUPE_TYPE_TEST(v.is<bool>())},
    {"callable", TROUPE_TYPE_TEST(v.is<callable_ptr>())},
    {"defined", TROUPE_TYPE_TEST(!v.is_undefined())},
    {"divisibleby",
     [](budget& b, const value& v, const call_arguments& a) {
       return remainder(b, v, bound_arguments("divisibleby", a, {"num"}).whole(0, 0)) == 0;
     }},
    {"eq", &compares<compare_op::equal>},
    {"equalto", &compares<compare_op::equal>},
    {"even", [](budget& b, const value& v, const call_arguments&) { return remainder(b, v, 2) == 0; }},
    {"false", TROUPE_TYPE_TEST(v.is<bool>() && !v.as<bool>())},
    {"filter", TROUPE_TYPE_TEST(v.is_string() && is_known_filter(v.text()))},
    {"float", TROUPE_TYPE_TEST(v.is<double>())},
    {"ge", &compares<compare_op::greater_equal>},
    {"greaterthan", &compares<compare_op::greater>},
    {"gt", &compares<compare_op::greater>},
    {"in", &compares<compare_op::in>},
    {"integer", TROUPE_TYPE_TEST(v.is<integer>())},
    {"iterable", TROUPE_TYPE_TEST(is_iterable(v))},
    {"le", &compares<compare_op::less_equal>},
    {"lessthan", &compares<compare_op::less>},
    {"lower", [](budget& b, const value& v, const call_arguments&) { return cased(b, v, false); }},
    {"lt", &compares<compare_op::less>},
    {"mapping", TROUPE_TYPE_TEST(v.is_dict())},
    {"ne", &compares<compare_op::not_equal>},
    {"none", TROUPE_TYPE_TEST(v.is_none())},
    {"number", TROUPE_TYPE_TEST(v.is_number())},
    {"odd", [](budget& b, const value& v, const call_arguments&) { return remainder(b, v, 2) == 1; }},
    {"sameas",
     [](budget&, const value& v, const call_arguments& a) {
       return same(v, bound_arguments("sameas", a, {"other"}).at(0));
     }},
    {"sequence", TROUPE_TYPE_TEST(is_sequence(v))},
    {"string", TROUPE_TYPE_TEST(v.is_string())},
    {"test", TROUPE_TYPE_TEST(v.is_string() && is_known_test(v.text()))},
    {"true", TROUPE_TYPE_TEST(v.is<bool>() && v.as<bool>())},
    {"undefined", TROUPE_TYPE_TEST(v.is_undefined())},
    {"upper", [](budget& b, const value& v, const call_arguments&) { return cased(b, v, true); }}};

#undef TROUPE_TYPE_TEST

const named_test* find_test(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(tests), std::end(tests), [&](const auto& t) { return t.name == name; });
  return found == std::end(tests) ? nullptr : found;
}

}  // namespace

bool is_known_test(std::string_view name) {
  return find_test(name) != nullptr;
}

std::string unknown_test(std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto& t : tests) names.push_back(t.name);
  return fmt::format("no test named '{}'; known are {}", name, fmt::join(names, ", "));
}

bool apply_test(budget& b, std::string_view name, const value& input, const call_arguments& arguments) {
  b.step();
  const named_test* t = find_test(name);
  if (t == nullptr) throw failure{unknown_test(name)};
  return t->function(b, input, arguments);
}

}  // namespace troupe::text::jinja
