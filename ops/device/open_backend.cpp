#include "ops/device/open_backend.hpp"

#include <boost/dll/shared_library.hpp>

namespace troupe::ops {
namespace {

constexpr const char* symbol = "troupe_open_backend";

// The library's backend, and the library: members go in reverse order, the backend before its code.
class loaded_backend final : public backend {
 public:
  loaded_backend(boost::dll::shared_library library, std::unique_ptr<backend> device)
      : library_(std::move(library)), device_(std::move(device)) {}

  device_info info() const override { return device_->info(); }
  result<std::unique_ptr<model>> load(const program::verified_program& program,
                                      std::shared_ptr<const checkpoint::weights> files,
                                      const load_options& options) override {
    return device_->load(program, std::move(files), options);
  }

 private:
  boost::dll::shared_library library_;
  std::unique_ptr<backend> device_;
};

}  // namespace

result<std::unique_ptr<backend>> open_backend(const std::filesystem::path& library,
                                              const backend_options& options) {
  std::error_code missing;
  if (!std::filesystem::is_regular_file(library, missing)) {
    return fail(error_code::not_found, "{}: no such backend library", library.string());
  }
  boost::dll::fs::error_code problem;
  boost::dll::shared_library loaded;
  loaded.load(boost::dll::fs::path(library.native()), problem,
              boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local);
  if (problem) {
    return fail(error_code::bad_config, "{}: not a shared library of this machine: {}", library.string(),
                problem.message());
  }
  if (!loaded.has(symbol)) {
    return fail(error_code::bad_config, "{}: not a backend: it does not export {}", library.string(), symbol);
  }
  auto device = loaded.get_alias<open_backend_function>(symbol)(options);
  if (!device) return fail(std::move(device.error()));
  return std::make_unique<loaded_backend>(std::move(loaded), std::move(*device));
}

}  // namespace troupe::ops
