// What the tests of the text library share.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "actors/tokenizer/tokenizer.hpp"

namespace troupe::text {

inline std::string read_whole(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline std::filesystem::path demo_folder(const std::string& model) {
  return std::filesystem::path(TROUPE_SOURCE_DIR) / "demo" / (model + "-demo");
}

// A folder of its own, gone at the end.
class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "troupe-text-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~temporary_folder() { std::filesystem::remove_all(path_); }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name) << text; }

 private:
  std::filesystem::path path_;
};

// A demo tokenizer.json with other values for some keys; those of "model" are replaced one by one.
inline boost::json::value changed_tokenizer(const std::string& base, const boost::json::object& change) {
  boost::json::value document = boost::json::parse(read_whole(demo_folder(base) / "tokenizer.json"));
  for (const auto& [key, value] : change) {
    if (key != "model") {
      document.as_object()[key] = value;
      continue;
    }
    for (const auto& [inner, setting] : value.as_object()) document.at("model").as_object()[inner] = setting;
  }
  return document;
}

inline result<tokenizer_ptr> load_document(const boost::json::value& document) {
  const temporary_folder folder;
  folder.write("tokenizer.json", boost::json::serialize(document));
  return load_tokenizer(folder.path());
}

inline std::vector<std::int32_t> ids_of(const boost::json::value& v) {
  return boost::json::value_to<std::vector<std::int32_t>>(v);
}

inline std::string decode_by_steps(const tokenizer_ptr& t, const std::vector<std::int32_t>& ids,
                                   bool skip_special) {
  incremental_decoder decoder(t, skip_special);
  std::string text;
  for (const auto id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

}  // namespace troupe::text
