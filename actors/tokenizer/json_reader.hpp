// Reads the settings of tokenizer.json and keeps track of where they stand, so that every complaint names its
// key. Used only while a tokenizer is loaded: the functions here throw `malformed`, which load_tokenizer
// turns into bad_checkpoint.
#pragma once

#include <fmt/format.h>

#include <boost/json/value.hpp>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::text {

struct malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One value in a JSON file. Borrows the parsed document.
class setting {
 public:
  setting(const boost::json::value& v, std::string path) : value_(&v), path_(std::move(path)) {}

  const boost::json::value& json() const { return *value_; }
  const std::string& path() const { return path_; }
  bool is_null() const { return value_->is_null(); }
  bool is_string() const { return value_->is_string(); }

  // Throws malformed: "<path>: <what>".
  [[noreturn]] void refuse(const std::string& what) const;

  bool has(std::string_view key) const;       // present and not null
  setting at(std::string_view key) const;     // must be present
  std::vector<setting> items() const;         // must be an array
  const boost::json::object& object() const;  // must be an object

  std::string string() const;
  bool boolean() const;
  std::int32_t token_id() const;  // 0 .. 2^31-2
  std::size_t count() const;      // 0 .. 2^31-1
  char32_t character() const;     // a string of one code point

  std::string string_or(std::string_view key, std::string_view otherwise) const;
  bool boolean_or(std::string_view key, bool otherwise) const;

  // The component's "type", which must be one of `known`.
  std::string type(std::initializer_list<std::string_view> known) const;
  [[noreturn]] void unknown(std::string_view key, std::string_view found,
                            std::initializer_list<std::string_view> known) const;

 private:
  const boost::json::value* value_;
  std::string path_;
};

// Errors: not_found; bad_checkpoint with file, line and column.
result<boost::json::value> read_json_file(const std::filesystem::path& file);

// Error: not_found.
result<std::string> read_text_file(const std::filesystem::path& file);

}  // namespace troupe::text
