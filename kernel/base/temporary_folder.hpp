// A folder for the time being, removed with the object.
#pragma once

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "kernel/base/result.hpp"

namespace troupe {

class temporary_folder {
 public:
  // <folder for temporary files>/<name>-XXXXXX. Error: not_found with the reason.
  static result<temporary_folder> make(const std::string& name) {
    std::error_code problem;
    const auto above = std::filesystem::temp_directory_path(problem);
    std::string path = ((problem ? std::filesystem::path("/tmp") : above) / (name + "-XXXXXX")).string();
    if (::mkdtemp(path.data()) == nullptr)
      return fail(error_code::not_found, "{}: cannot be created: {}", path,
                  std::generic_category().message(errno));
    return temporary_folder(std::move(path));
  }
  ~temporary_folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  temporary_folder(temporary_folder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  temporary_folder& operator=(temporary_folder&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  explicit temporary_folder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace troupe
