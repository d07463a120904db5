#include "actors/tokenizer/jinja/arguments.hpp"

#include <algorithm>

namespace troupe::text::jinja {

bound_arguments::bound_arguments(std::string_view function, const call_arguments& given,
                                 std::initializer_list<std::string_view> parameters)
    : function_(function), parameters_(parameters), values_(parameters.size(), nullptr) {
  if (given.positional.size() > parameters_.size()) {
    raise("{}() takes at most {} argument(s), {} given", function, parameters_.size(),
          given.positional.size());
  }
  for (std::size_t i = 0; i < given.positional.size(); ++i) values_[i] = &given.positional[i];
  for (const auto& [name, v] : given.named) {
    const auto found = std::find(parameters_.begin(), parameters_.end(), name);
    if (found == parameters_.end()) raise("{}() got an unexpected keyword argument '{}'", function, name);
    const value*& slot = values_[static_cast<std::size_t>(found - parameters_.begin())];
    if (slot != nullptr) raise("{}() got multiple values for argument '{}'", function, name);
    slot = &v;
  }
}

const value& bound_arguments::at(std::size_t i) const {
  if (values_[i] == nullptr) raise("{}() is missing the argument '{}'", function_, parameters_[i]);
  return *values_[i];
}

integer bound_arguments::whole(std::size_t i, integer otherwise) const {
  if (!has(i)) return otherwise;
  must_be_defined(at(i));
  if (!at(i).is_integral()) {
    raise("{}(): '{}' must be an integer, not '{}'", function_, parameters_[i], type_name(at(i)));
  }
  return at(i).whole();
}

bool bound_arguments::flag(std::size_t i, bool otherwise) const {
  return has(i) ? truth(at(i)) : otherwise;
}

std::string bound_arguments::text(std::size_t i, std::string_view otherwise) const {
  if (!has(i)) return std::string(otherwise);
  must_be_defined(at(i));
  if (!at(i).is_string()) {
    raise("{}(): '{}' must be a string, not '{}'", function_, parameters_[i], type_name(at(i)));
  }
  return at(i).text();
}

}  // namespace troupe::text::jinja
