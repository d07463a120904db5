// config.json and generation_config.json.
#include <boost/json.hpp>
#include <cmath>

#include "kernel/checkpoint/checkpoint.hpp"
#include "kernel/checkpoint/mapped_file.hpp"

namespace troupe::checkpoint {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

// Typed look-ups in one JSON file. A key that is absent or null leaves its target as it is; the first one of
// a wrong type or range is remembered as the error.
class reader {
 public:
  reader(const fs::path& file, const json::object& object) : file_(file.string()), object_(object) {}

  void read(const char* key, std::optional<float>& out) {
    const json::value* value = find(key);
    if (value == nullptr) return;
    boost::system::error_code ec;
    const double number = value->is_number() ? value->to_number<double>(ec) : std::nan("");
    if (ec || !std::isfinite(number)) return expected(key, "a number", *value);
    out = static_cast<float>(number);
  }
  void read(const char* key, std::optional<bool>& out) {
    const json::value* value = find(key);
    if (value == nullptr) return;
    if (!value->is_bool()) return expected(key, "true or false", *value);
    out = value->get_bool();
  }
  template <class Integer>
  void read(const char* key, std::optional<Integer>& out) {
    const json::value* value = find(key);
    if (value != nullptr) out = integer<Integer>(key, *value);
  }
  // One id or a list of them.
  void read_ids(const char* key, std::vector<std::int32_t>& out) {
    const json::value* value = find(key);
    if (value == nullptr) return;
    out.clear();
    if (!value->is_array()) {
      if (const auto id = integer<std::int32_t>(key, *value)) out.push_back(*id);
      return;
    }
    for (const auto& element : value->get_array())
      if (const auto id = integer<std::int32_t>(key, element)) out.push_back(*id);
  }

  const std::optional<error>& problem() const { return problem_; }

 private:
  const json::value* find(const char* key) const {
    const json::value* value = object_.if_contains(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  template <class Integer>
  std::optional<Integer> integer(const char* key, const json::value& value) {
    boost::system::error_code ec;
    const auto number = value.is_number() ? value.to_number<Integer>(ec) : Integer{};
    if (!value.is_number() || ec || number < Integer{}) {
      expected(key, "an integer from 0 up", value);
      return std::nullopt;
    }
    return number;
  }
  void expected(const char* key, const char* what, const json::value& found) {
    if (problem_) return;
    std::string text = json::serialize(found);
    if (text.size() > 40) text = text.substr(0, 40) + "...";
    problem_ = error{error_code::bad_checkpoint,
                     fmt::format("{}: {}: expected {}, found {}", file_, key, what, text)};
  }

  std::string file_;
  const json::object& object_;
  std::optional<error> problem_;
};

result<json::object> parse_object(const fs::path& file, std::string_view text) {
  boost::system::error_code ec;
  json::value root = json::parse(text, ec);
  if (ec) return fail(error_code::bad_checkpoint, "{}: not valid JSON: {}", file.string(), ec.message());
  if (!root.is_object()) return fail(error_code::bad_checkpoint, "{}: expected a JSON object", file.string());
  return std::move(root.get_object());
}

result<std::string> read_architecture(const fs::path& file, const json::object& config) {
  const json::value* list = config.if_contains("architectures");
  if (list == nullptr)
    return fail(error_code::bad_checkpoint, "{}: architectures: the key is missing", file.string());
  if (!list->is_array() || list->get_array().empty() || !list->get_array()[0].is_string() ||
      list->get_array()[0].get_string().empty())
    return fail(error_code::bad_checkpoint, "{}: architectures: expected a list with at least one name",
                file.string());
  const auto& name = list->get_array()[0].get_string();
  return std::string(name.data(), name.size());
}

void read_token_ids(reader& in, generation_defaults& out) {
  in.read_ids("eos_token_id", out.eos_ids);
  in.read("bos_token_id", out.bos_id);
}

result<void> read_generation(const fs::path& file, generation_defaults& out) {
  std::error_code code;
  if (!fs::exists(file, code)) return {};
  const auto text = read_text(file);
  if (!text) return fail(text.error());
  const auto object = parse_object(file, *text);
  if (!object) return fail(object.error());
  reader in(file, *object);
  read_token_ids(in, out);
  in.read("temperature", out.temperature);
  in.read("top_p", out.top_p);
  in.read("min_p", out.min_p);
  in.read("repetition_penalty", out.repetition_penalty);
  in.read("top_k", out.top_k);
  in.read("max_new_tokens", out.max_new_tokens);
  in.read("do_sample", out.do_sample);
  if (in.problem()) return fail(*in.problem());
  return {};
}

result<checkpoint_config> read_file(const fs::path& file) {
  checkpoint_config config;
  config.folder = file.parent_path();
  auto text = read_text(file);
  if (!text) return fail(std::move(text.error()));
  const auto object = parse_object(file, *text);
  if (!object) return fail(object.error());
  auto architecture = read_architecture(file, *object);
  if (!architecture) return fail(std::move(architecture.error()));
  config.config_json = std::move(*text);
  config.architecture = std::move(*architecture);

  reader in(file, *object);
  read_token_ids(in, config.generation);  // generation_config.json, where it says so, overrules
  if (in.problem()) return fail(*in.problem());
  return config;
}

}  // namespace

result<checkpoint_config> read_config(const fs::path& folder) {
  std::error_code code;
  if (fs::is_regular_file(folder, code)) return read_file(folder);
  if (!fs::is_directory(folder, code))
    return fs::exists(folder, code)
               ? fail(error_code::not_found, "{}: expected a folder or a regular file, found something else",
                      folder.string())
               : fail(error_code::not_found, "{}: no such folder or file{}", folder.string(),
                      code ? " (" + code.message() + ")" : "");
  auto config = read_file(folder / "config.json");
  if (!config) return config;
  config->folder = folder;
  if (auto ok = read_generation(folder / "generation_config.json", config->generation); !ok)
    return fail(std::move(ok.error()));
  return config;
}

}  // namespace troupe::checkpoint
