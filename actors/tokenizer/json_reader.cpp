#include "actors/tokenizer/json_reader.hpp"

#include <fmt/ranges.h>

#include <boost/json/parser.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace json = boost::json;
namespace {

std::string_view kind_name(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "nothing";
}

std::string place(std::string_view text, std::size_t at) {
  at = std::min(at, text.size());
  std::size_t line = 1;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < at; ++i) {
    if (text[i] != '\n') continue;
    ++line;
    begin = i + 1;
  }
  return fmt::format("line {}, column {}", line, at - begin + 1);
}

}  // namespace

void setting::refuse(const std::string& what) const {
  throw malformed(path_.empty() ? what : fmt::format("{}: {}", path_, what));
}

bool setting::has(std::string_view key) const {
  const auto* found = object().if_contains(key);
  return found != nullptr && !found->is_null();
}

setting setting::at(std::string_view key) const {
  const auto* found = object().if_contains(key);
  if (found == nullptr) refuse(fmt::format("key '{}' is missing", key));
  return {*found, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key)};
}

std::vector<setting> setting::items() const {
  if (!value_->is_array()) refuse(fmt::format("expected an array, found {}", kind_name(*value_)));
  std::vector<setting> out;
  for (const auto& v : value_->get_array()) out.emplace_back(v, fmt::format("{}[{}]", path_, out.size()));
  return out;
}

const json::object& setting::object() const {
  if (!value_->is_object()) refuse(fmt::format("expected an object, found {}", kind_name(*value_)));
  return value_->get_object();
}

std::string setting::string() const {
  if (!value_->is_string()) refuse(fmt::format("expected a string, found {}", kind_name(*value_)));
  return std::string(value_->get_string());
}

bool setting::boolean() const {
  if (!value_->is_bool()) refuse(fmt::format("expected true or false, found {}", kind_name(*value_)));
  return value_->get_bool();
}

std::size_t setting::count() const {
  if (!value_->is_int64() || value_->get_int64() < 0 ||
      value_->get_int64() > std::numeric_limits<std::int32_t>::max()) {
    refuse("expected a whole number from 0 to 2147483647");
  }
  return static_cast<std::size_t>(value_->get_int64());
}

std::int32_t setting::token_id() const {
  const std::size_t id = count();
  if (id == static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    refuse("token id is too large");
  return static_cast<std::int32_t>(id);
}

char32_t setting::character() const {
  const std::string text = string();
  if (utf8::length(text) != 1) refuse(fmt::format("expected a single character, found '{}'", text));
  return utf8::read_valid(text).value;
}

std::string setting::string_or(std::string_view key, std::string_view otherwise) const {
  return has(key) ? at(key).string() : std::string(otherwise);
}

bool setting::boolean_or(std::string_view key, bool otherwise) const {
  return has(key) ? at(key).boolean() : otherwise;
}

std::string setting::type(std::initializer_list<std::string_view> known) const {
  std::string found = at("type").string();
  for (const auto k : known) {
    if (k == found) return found;
  }
  unknown("type", found, known);
}

void setting::unknown(std::string_view key, std::string_view found,
                      std::initializer_list<std::string_view> known) const {
  throw malformed(fmt::format("{}.{}: '{}' is not supported; supported are {}", path_, key, found,
                              fmt::join(known.begin(), known.end(), ", ")));
}

result<std::string> read_text_file(const std::filesystem::path& file) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> f(std::fopen(file.c_str(), "rb"), &std::fclose);
  if (!f) return fail(error_code::not_found, "{}: {}", file.string(), std::strerror(errno));
  std::string text;
  char block[1 << 16];
  while (const std::size_t n = std::fread(block, 1, sizeof block, f.get())) text.append(block, n);
  if (std::ferror(f.get()) != 0) return fail(error_code::not_found, "{}: cannot be read", file.string());
  return text;
}

result<json::value> read_json_file(const std::filesystem::path& file) {
  const auto text = read_text_file(file);
  if (!text) return fail(text.error());
  json::parse_options options;
  options.max_depth = 64;
  json::parser parser({}, options);
  json::error_code ec;
  const std::size_t used = parser.write_some(*text, ec);
  if (ec) {
    return fail(error_code::bad_checkpoint, "{}: {}: not JSON: {}", file.string(), place(*text, used),
                ec.message());
  }
  if (text->find_first_not_of(" \t\r\n", used) != std::string::npos) {
    return fail(error_code::bad_checkpoint, "{}: {}: text after the end of the JSON value", file.string(),
                place(*text, used));
  }
  return parser.release();
}

}  // namespace troupe::text
