// Configurations made from a given one: its neighbours, its mistakes, and a small relative that can be run.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace troupe::conformance {

struct variant {
  std::string name;  // "hidden_size = -1", "without rope_theta"
  std::string key;   // the last part of what was changed
  boost::json::value config;
};

// Each whole number, twice and half as large. A module builds these, or says why not.
std::vector<variant> neighbours(const boost::json::value& config);

// Each key missing, of another type, negative, fractional. A module that reads the key says so; others may not care.
std::vector<variant> mistakes(const boost::json::value& config);

// What may be left of a number when a configuration is made small: enough that nothing becomes trivial.
std::uint64_t small_enough(std::uint64_t number);

// Makes the whole numbers of `config` smaller, one by one, as long as `accepts` the result.
boost::json::value shrink(boost::json::value config,
                          const std::function<bool(const boost::json::value&)>& accepts);

}  // namespace troupe::conformance
