#include "sandbox/conformance/configs.hpp"

#include <fmt/format.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <map>

namespace troupe::conformance {

namespace {

namespace json = boost::json;

constexpr int max_rounds = 4;

// Calls `see` for each value that is no object, with the object that holds it.
template <class See>
void visit(json::value& config, const See& see, const std::string& path = {}) {
  if (!config.is_object()) return;
  std::vector<std::string> keys;
  for (const auto& member : config.get_object()) keys.emplace_back(member.key());
  for (const auto& key : keys) {
    const std::string name = path.empty() ? key : fmt::format("{}.{}", path, key);
    json::value& value = config.get_object().at(key);
    if (value.is_object())
      visit(value, see, name);
    else
      see(config.get_object(), key, name);
  }
}

std::optional<std::int64_t> whole_number(const json::value& v) {
  if (v.is_int64()) return v.get_int64();
  if (v.is_uint64() && v.get_uint64() <= INT64_MAX) return static_cast<std::int64_t>(v.get_uint64());
  return std::nullopt;
}

json::value of_another_type(const json::value& v) {
  if (v.is_string()) return 7;
  if (v.is_bool()) return "yes";
  return "text";
}

class variant_maker {
 public:
  explicit variant_maker(const json::value& config) : config_(config) {}

  void without(json::object& holder, const std::string& key, const std::string& name) {
    json::value kept = holder.at(key);
    holder.erase(key);
    made_.push_back({"without " + name, name, change::missing, config_});
    holder.emplace(key, std::move(kept));
  }
  void with(json::object& holder, const std::string& key, const std::string& name, change what,
            json::value value) {
    json::value kept = std::exchange(holder.at(key), std::move(value));
    made_.push_back({fmt::format("{} = {}", name, json::serialize(holder.at(key))), name, what, config_});
    holder.at(key) = std::move(kept);
  }
  json::value& config() { return config_; }
  std::vector<variant> take() { return std::move(made_); }

 private:
  json::value config_;
  std::vector<variant> made_;
};

}  // namespace

std::string_view last_part(std::string_view key) {
  return key.substr(key.rfind('.') + 1);  // npos + 1 is 0
}

std::vector<variant> neighbours(const json::value& config) {
  variant_maker m(config);
  visit(m.config(), [&](json::object& holder, const std::string& key, const std::string& name) {
    const auto n = whole_number(holder.at(key));
    if (!n || *n <= 0 || *n > INT32_MAX / 2) return;
    m.with(holder, key, name, change::other_value, 2 * *n);
    if (*n > 1) m.with(holder, key, name, change::other_value, *n / 2);
  });
  return m.take();
}

std::vector<variant> other_values(const json::value& config) {
  variant_maker m(config);
  visit(m.config(), [&](json::object& holder, const std::string& key, const std::string& name) {
    const json::value& value = holder.at(key);
    if (value.is_bool()) m.with(holder, key, name, change::other_value, !value.get_bool());
    if (const auto n = whole_number(value); n && *n < INT32_MAX / 2)
      m.with(holder, key, name, change::other_value, *n == 0 ? 1 : 2 * *n);
    if (value.is_double())
      m.with(holder, key, name, change::other_value, value.get_double() == 0 ? 1.0 : 2 * value.get_double());
  });
  return m.take();
}

std::vector<variant> mistakes(const json::value& config) {
  variant_maker m(config);
  visit(m.config(), [&](json::object& holder, const std::string& key, const std::string& name) {
    m.without(holder, key, name);
    m.with(holder, key, name, change::other_type, of_another_type(holder.at(key)));
    if (const auto n = whole_number(holder.at(key))) {
      m.with(holder, key, name, change::negative, -1 - std::abs(*n));
      m.with(holder, key, name, change::fraction, static_cast<double>(*n) + 0.5);
    } else if (holder.at(key).is_double()) {
      m.with(holder, key, name, change::negative, -1 - std::abs(holder.at(key).get_double()));
    }
  });
  return m.take();
}

std::vector<variant> extremes(const json::value& config) {
  variant_maker m(config);
  visit(m.config(), [&](json::object& holder, const std::string& key, const std::string& name) {
    const bool whole = whole_number(holder.at(key)).has_value();
    if (!whole && !holder.at(key).is_double()) return;
    m.with(holder, key, name, change::extreme, 0);
    if (whole) {
      m.with(holder, key, name, change::extreme, std::int64_t{1} << 31);
      m.with(holder, key, name, change::extreme, (std::int64_t{1} << 32) - 1);
    }
    for (const double end : {1e300, 1e-300}) m.with(holder, key, name, change::extreme, end);
  });
  return m.take();
}

std::uint64_t small_enough(std::uint64_t number) {
  if (number >= 1024) return 64;
  if (number >= 128) return 32;
  if (number >= 32) return 8;
  if (number >= 12) return 4;
  return number >= 4 ? number / 2 : number;
}

json::value shrink(json::value config, const std::function<bool(const json::value&)>& accepts) {
  std::map<std::string, std::int64_t> least;
  visit(config, [&](json::object& holder, const std::string& key, const std::string& name) {
    if (const auto n = whole_number(holder.at(key)); n && *n > 0)
      least[name] = static_cast<std::int64_t>(small_enough(static_cast<std::uint64_t>(*n)));
  });
  bool smaller = true;
  for (int round = 0; smaller && round < max_rounds; ++round) {
    smaller = false;
    visit(config, [&](json::object& holder, const std::string& key, const std::string& name) {
      const auto n = whole_number(holder.at(key));
      if (!n || !least.contains(name)) return;
      for (std::int64_t size = least[name]; size < *n && size <= 4 * least[name]; size *= 2) {
        holder.at(key) = size;
        if (accepts(config)) {
          smaller = true;
          return;
        }
      }
      holder.at(key) = *n;
    });
  }
  return config;
}

}  // namespace troupe::conformance
