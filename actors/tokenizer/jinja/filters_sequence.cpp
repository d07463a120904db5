// Filters of lists and dicts.
#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "actors/tokenizer/jinja/filter_table.hpp"
#include "actors/tokenizer/jinja/operators.hpp"
#include "actors/tokenizer/jinja/strings.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text::jinja {
namespace {

value items_of(budget& b, std::vector<value> items) {
  return make_list(b, std::move(items), list_kind::generator);
}

value by_path(budget& b, const value& item, const value& path, const value* otherwise) {
  if (path.is_integral()) return subscript(b, item, path);
  if (!path.is_string()) raise("an attribute must be a string or an integer, not '{}'", type_name(path));
  value v = item;
  for (const auto& part : split_at(path.text(), '.')) {
    const bool number =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    must_be_defined(v);
    if (number) {
      v = subscript(b, v, value(static_cast<integer>(std::stol(part))));
    } else if (v.is_dict()) {
      v = subscript(b, v, value(part));  // a key before a method, as in item access
    } else {
      v = attribute(b, v, part);
    }
    if (v.is_undefined() && otherwise != nullptr) v = *otherwise;
  }
  return v;
}

// Sorting and comparing ignore case unless told otherwise.
value fold(const value& v, bool case_sensitive) {
  return v.is_string() && !case_sensitive ? value(utf8::to_lower(v.text())) : v;
}

value f_batch(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("batch", a, {"linecount", "fill_with"});
  p.at(0);
  const integer count = p.whole(0, 0);
  std::vector<value> lines;
  std::vector<value> line;
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items) {
    if (static_cast<integer>(line.size()) == count) lines.push_back(make_list(b, std::exchange(line, {})));
    line.push_back(item);
  }
  if (!line.empty()) {
    const bool fill = p.has(1) && !p.at(1).is_none();
    for (; fill && static_cast<integer>(line.size()) < count; b.step()) line.push_back(p.at(1));
    lines.push_back(make_list(b, std::move(line)));
  }
  return items_of(b, std::move(lines));
}

value f_dictsort(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("dictsort", a, {"case_sensitive", "by", "reverse"});
  must_be_defined(in);
  if (!in.is_dict()) raise("dictsort() needs a dict, not '{}'", type_name(in));
  const std::string by = p.text(1, "key");
  if (by != "key" && by != "value") raise("You can only sort by either \"key\" or \"value\"");
  std::vector<std::pair<value, value>> keyed;
  const auto pairs = iterate(b, dict_items(b, in, list_kind::list));
  for (const auto& pair : pairs->items) {
    keyed.emplace_back(fold(pair.list().items[by == "key" ? 0 : 1], p.flag(0, false)), pair);
  }
  const bool reverse = p.flag(2, false);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    b.step();
    return reverse ? less(b, y.first, x.first) : less(b, x.first, y.first);
  });
  std::vector<value> out;
  out.reserve(keyed.size());
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return make_list(b, std::move(out));
}

value f_first(budget& b, const value& in, const call_arguments& a) {
  take_none("first", a);
  const list_ptr items = iterate(b, in);
  return items->items.empty() ? value::missing("No first item, sequence was empty.") : items->items.front();
}

value f_last(budget& b, const value& in, const call_arguments& a) {
  take_none("last", a);
  if (in.is_list() && in.list().kind == list_kind::generator) raise("'generator' object is not reversible");
  const list_ptr items = iterate(b, in);
  return items->items.empty() ? value::missing("No last item, sequence was empty.") : items->items.back();
}

value make_group(budget& b, value key, std::vector<value> members) {
  auto group = std::make_shared<list_object>(
      make_list(b, {std::move(key), make_list(b, std::move(members))}, list_kind::tuple).list());
  group->is_group = true;
  return value(list_ptr(std::move(group)));
}

// Sorted by the attribute; a group is named by the spelling of its first item.
value f_groupby(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("groupby", a, {"attribute", "default", "case_sensitive"});
  const value* otherwise = p.has(1) && !p.at(1).is_none() ? &p.at(1) : nullptr;
  std::vector<std::pair<value, value>> keyed;
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items)
    keyed.emplace_back(fold(by_path(b, item, p.at(0), otherwise), p.flag(2, false)), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    b.step();
    return less(b, x.first, y.first);
  });
  std::vector<value> groups;
  for (std::size_t i = 0; i < keyed.size();) {
    const value name = by_path(b, keyed[i].second, p.at(0), otherwise);
    const std::size_t first = i;
    std::vector<value> members;
    for (; i < keyed.size() && equals(b, keyed[i].first, keyed[first].first); ++i)
      members.push_back(keyed[i].second);
    if (members.empty()) members.push_back(keyed[i++].second);  // equal to nothing, not even to itself
    groups.push_back(make_group(b, name, std::move(members)));
  }
  return make_list(b, std::move(groups));
}

value f_items(budget& b, const value& in, const call_arguments& a) {
  take_none("items", a);
  if (in.is_undefined()) return items_of(b, {});
  if (!in.is_dict()) raise("Can only get item pairs from a mapping.");
  return dict_items(b, in, list_kind::generator);
}

value f_join(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("join", a, {"d", "attribute"});
  const std::string between = p.has(0) ? to_text(b, p.at(0)) : std::string();
  std::string out;
  bool first = true;
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items) {
    if (!first) out += between;
    first = false;
    out += to_text(b, p.has(1) && !p.at(1).is_none() ? by_path(b, item, p.at(1), nullptr) : item);
    b.fits(out.size());
  }
  return make_string(b, std::move(out));
}

value f_list(budget& b, const value& in, const call_arguments& a) {
  take_none("list", a);
  return make_list(b, iterate(b, in)->items);
}

value f_map(budget& b, const value& in, const call_arguments& a) {
  std::vector<value> out;
  if (!truth(in)) return items_of(b, {});
  const list_ptr all = iterate(b, in);
  if (a.positional.empty()) {
    const bound_arguments p("map", a, {"attribute", "default"});
    const value* otherwise = p.has(1) ? &p.at(1) : nullptr;
    for (const auto& item : all->items) out.push_back(by_path(b, item, p.at(0), otherwise));
    return items_of(b, std::move(out));
  }
  if (!a.positional[0].is_string()) raise("map() needs the name of a filter");
  call_arguments rest = a;
  rest.positional.erase(rest.positional.begin());
  for (const auto& item : all->items) out.push_back(apply_filter(b, a.positional[0].text(), item, rest));
  return items_of(b, std::move(out));
}

value extreme(budget& b, const value& in, const call_arguments& a, std::string_view name, bool greatest) {
  const bound_arguments p(name, a, {"case_sensitive", "attribute"});
  const list_ptr all = iterate(b, in);
  const value* best = nullptr;
  value best_key;
  for (const auto& item : all->items) {
    value key = fold(p.has(1) ? by_path(b, item, p.at(1), nullptr) : item, p.flag(0, false));
    if (best != nullptr && !(greatest ? less(b, best_key, key) : less(b, key, best_key))) continue;
    best = &item;
    best_key = std::move(key);
  }
  return best != nullptr ? *best : value::missing("No aggregated item, sequence was empty.");
}

value f_max(budget& b, const value& in, const call_arguments& a) {
  return extreme(b, in, a, "max", true);
}
value f_min(budget& b, const value& in, const call_arguments& a) {
  return extreme(b, in, a, "min", false);
}

value f_reverse(budget& b, const value& in, const call_arguments& a) {
  take_none("reverse", a);
  const value minus_one(integer{-1});
  if (in.is_string()) return slice(b, in, value(), value(), minus_one);
  if (!in.is_undefined() && !in.is_list() && !in.is_dict()) raise("argument must be iterable");
  std::vector<value> items = iterate(b, in)->items;
  std::reverse(items.begin(), items.end());
  return items_of(b, std::move(items));
}

value f_sort(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("sort", a, {"reverse", "case_sensitive", "attribute"});
  const bool by_attribute = p.has(2) && !p.at(2).is_none();
  std::vector<std::pair<std::vector<value>, value>> keyed;
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items) {
    std::vector<value> keys;
    if (!by_attribute) {
      keys.push_back(fold(item, p.flag(1, false)));
    } else if (p.at(2).is_string()) {
      for (const auto& path : split_at(p.at(2).text(), ',')) {
        keys.push_back(fold(by_path(b, item, value(path), nullptr), p.flag(1, false)));
      }
    } else {
      keys.push_back(fold(by_path(b, item, p.at(2), nullptr), p.flag(1, false)));
    }
    keyed.emplace_back(std::move(keys), item);
  }
  const bool reverse = p.flag(0, false);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    const auto& l = reverse ? y.first : x.first;
    const auto& r = reverse ? x.first : y.first;
    for (std::size_t i = 0; i < l.size(); ++i) {
      b.step();
      if (less(b, l[i], r[i])) return true;
      if (i + 1 < l.size() && less(b, r[i], l[i])) return false;
    }
    return false;
  });
  std::vector<value> out;
  out.reserve(keyed.size());
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return make_list(b, std::move(out));
}

value f_sum(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("sum", a, {"attribute", "start"});
  value total = p.has(1) ? p.at(1) : value(integer{0});
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items) {
    total = binary(b, binary_op::add, total,
                   p.has(0) && !p.at(0).is_none() ? by_path(b, item, p.at(0), nullptr) : item);
  }
  return total;
}

value f_unique(budget& b, const value& in, const call_arguments& a) {
  const bound_arguments p("unique", a, {"case_sensitive", "attribute"});
  std::vector<value> out;
  std::unordered_set<std::string> seen;
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items) {
    const bool by_attribute = p.has(1) && !p.at(1).is_none();
    const value key = fold(by_attribute ? by_path(b, item, p.at(1), nullptr) : item, p.flag(0, false));
    if (key.is_list() && key.list().kind == list_kind::list) raise("unhashable type: 'list'");
    if (key.is_dict()) raise("unhashable type: 'dict'");
    const bool number = key.is_number() && !(key.is<double>() && key.real() != std::floor(key.real()));
    const std::string mark =
        number && std::fabs(key.real()) < 1e15 ? fmt::format("{:.0f}", key.real()) : repr(b, key);
    if (seen.insert(mark).second) out.push_back(item);
  }
  return items_of(b, std::move(out));
}

value pick(budget& b, const value& in, const call_arguments& a, std::string_view name, bool by_attribute,
           bool keep) {
  if (!a.named.empty()) raise("{}() takes no named arguments", name);
  std::size_t used = 0;
  if (by_attribute && a.positional.empty()) raise("{}() needs the name of an attribute", name);
  const value path = by_attribute ? a.positional[used++] : value();
  const bool tested = used < a.positional.size();
  const value test = tested ? a.positional[used++] : value();
  if (tested && !test.is_string()) raise("{}() needs the name of a test", name);
  call_arguments rest;
  rest.positional.assign(a.positional.begin() + static_cast<std::ptrdiff_t>(used), a.positional.end());
  std::vector<value> out;
  if (!truth(in)) return items_of(b, {});
  const list_ptr all = iterate(b, in);
  for (const auto& item : all->items) {
    const value subject = by_attribute ? by_path(b, item, path, nullptr) : item;
    const bool passes = tested ? apply_test(b, test.text(), subject, rest) : truth(subject);
    if (passes == keep) out.push_back(item);
  }
  return items_of(b, std::move(out));
}

value f_select(budget& b, const value& in, const call_arguments& a) {
  return pick(b, in, a, "select", false, true);
}
value f_reject(budget& b, const value& in, const call_arguments& a) {
  return pick(b, in, a, "reject", false, false);
}
value f_selectattr(budget& b, const value& in, const call_arguments& a) {
  return pick(b, in, a, "selectattr", true, true);
}
value f_rejectattr(budget& b, const value& in, const call_arguments& a) {
  return pick(b, in, a, "rejectattr", true, false);
}

constexpr named_filter table[] = {{"batch", &f_batch},
                                  {"dictsort", &f_dictsort},
                                  {"first", &f_first},
                                  {"groupby", &f_groupby},
                                  {"items", &f_items},
                                  {"join", &f_join},
                                  {"last", &f_last},
                                  {"list", &f_list},
                                  {"map", &f_map},
                                  {"max", &f_max},
                                  {"min", &f_min},
                                  {"reject", &f_reject},
                                  {"rejectattr", &f_rejectattr},
                                  {"reverse", &f_reverse},
                                  {"select", &f_select},
                                  {"selectattr", &f_selectattr},
                                  {"sort", &f_sort},
                                  {"sum", &f_sum},
                                  {"unique", &f_unique}};

}  // namespace

std::span<const named_filter> sequence_filters() {
  return table;
}

}  // namespace troupe::text::jinja
