// Configurations made from a given one: its neighbours, its mistakes, and a small relative that can be run.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::conformance {

enum class change : std::uint8_t {
  other_value,  // one that a configuration may have: what it changes shows whether the key is read
  missing,
  other_type,
  negative,
  fraction,  // of a whole number
  extreme
};

struct variant {
  std::string name;  // "hidden_size = -1", "without rope_theta"
  std::string key;   // what was changed, with the objects around it: "rope_parameters.rope_theta"
  change what{};
  boost::json::value config;
};

// "rope_theta" of "rope_parameters.rope_theta".
std::string_view last_part(std::string_view key);

// Each whole number, twice and half as large. A module builds these, or says why not.
std::vector<variant> neighbours(const boost::json::value& config);

// Each number twice as large, each true false and the other way round.
std::vector<variant> other_values(const boost::json::value& config);

// Each key missing, of another type, negative, fractional. A module that reads the key says so; others may not care.
std::vector<variant> mistakes(const boost::json::value& config);

// Each number 0, as large as 32 bits get and beyond, and at both ends of what a double can be. Some may be right for some keys.
std::vector<variant> extremes(const boost::json::value& config);

// What may be left of a number when a configuration is made small: enough that nothing becomes trivial.
std::uint64_t small_enough(std::uint64_t number);

// Makes the whole numbers of `config` smaller, one by one, as long as `accepts` the result.
boost::json::value shrink(boost::json::value config,
                          const std::function<bool(const boost::json::value&)>& accepts);

}  // namespace troupe::conformance
