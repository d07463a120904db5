// What a module throws; TROUPE_MODULE turns each into its status and hands on the text.
#pragma once

#include <troupe/module.h>

#include <stdexcept>
#include <string>

namespace troupe::sdk {

class module_error : public std::runtime_error {
 public:
  module_error(troupe_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  troupe_status status() const { return status_; }

 private:
  troupe_status status_;
};

// config.json lacks a key or has an impossible value. The text begins with the key: "hidden_size: the key is missing".
struct config_error : module_error {
  explicit config_error(const std::string& text) : module_error(TROUPE_BAD_CONFIG, text) {}
};

// config.json is fine, but asks for something that the module does not build.
struct unsupported_error : module_error {
  explicit unsupported_error(const std::string& text) : module_error(TROUPE_UNSUPPORTED, text) {}
};

// The module uses the builder wrongly. The text begins with the scope: "model.layers.3: linear: expected ...".
struct program_error : module_error {
  explicit program_error(const std::string& text) : module_error(TROUPE_FAILED, text) {}
};

}  // namespace troupe::sdk
