// range(), dict(), raise_exception(), strftime_now()
#include <ctime>

#include "actors/tokenizer/jinja/filters.hpp"
#include "actors/tokenizer/jinja/operators.hpp"

namespace troupe::text::jinja {
namespace {

constexpr integer longest_range = 100'000;  // as in Jinja's sandbox

value make_range(budget& b, const call_arguments& a) {
  const bound_arguments p("range", a, {"start", "stop", "step"});
  p.at(0);
  const integer start = p.has(1) ? p.whole(0, 0) : 0;
  const integer stop = p.has(1) ? p.whole(1, 0) : p.whole(0, 0);
  const integer step = p.whole(2, 1);
  if (step == 0) raise("range() arg 3 must not be zero");
  constexpr integer bound = integer{1} << 62;  // keeps the arithmetic below from overflowing
  if (start > bound || start < -bound || stop > bound || stop < -bound || step > bound || step < -bound) {
    raise("range() with numbers beyond 2**62");
  }
  const integer distance = step > 0 ? stop - start : start - stop;
  const integer stride = step > 0 ? step : -step;
  const integer count = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  if (count > longest_range) {
    raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).", longest_range);
  }
  b.step(static_cast<std::size_t>(count));
  auto made = std::make_shared<list_object>();
  made->kind = list_kind::range;
  made->written = step == 1 ? fmt::format("range({}, {})", start, stop)
                            : fmt::format("range({}, {}, {})", start, stop, step);
  for (integer i = 0; i < count; ++i) made->items.emplace_back(start + i * step);
  return value(list_ptr(std::move(made)));
}

value make_dict_from(budget& b, const call_arguments& a) {
  dict_object d;
  if (a.positional.size() > 1) raise("dict expected at most 1 argument, got {}", a.positional.size());
  if (!a.positional.empty() && a.positional[0].is_dict()) {
    b.step(a.positional[0].dict().entries.size());
    for (const auto& [key, item] : a.positional[0].dict().entries) d.set(key, item);
  } else if (!a.positional.empty()) {
    const list_ptr pairs = iterate(b, a.positional[0]);
    for (const auto& pair : pairs->items) {
      const list_ptr both = iterate(b, pair);
      if (both->items.size() != 2) raise("dict() needs pairs of a key and a value");
      d.set(both->items[0], both->items[1]);
    }
  }
  for (const auto& [name, v] : a.named) d.set(value(name), v);
  return make_dict(b, std::move(d));
}

[[noreturn]] void raise_exception(budget& b, const call_arguments& a) {
  const bound_arguments p("raise_exception", a, {"message"});
  throw failure{to_text(b, p.at(0)), 0, true};
}

// Local time.
value strftime_now(budget& b, const call_arguments& a) {
  const bound_arguments p("strftime_now", a, {"format"});
  p.at(0);
  const std::string format = p.text(0, "");
  if (format.empty()) return value(std::string());
  if (format.size() > 1000) raise("strftime_now(): the format is too long");
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::string out(format.size() * 64 + 256, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
  return make_string(b, std::move(out));
}

}  // namespace

value call_function(budget& b, std::string_view name, const call_arguments& arguments) {
  b.step();
  if (name == "range") return make_range(b, arguments);
  if (name == "dict") return make_dict_from(b, arguments);
  if (name == "strftime_now") return strftime_now(b, arguments);
  raise_exception(b, arguments);
}

}  // namespace troupe::text::jinja
