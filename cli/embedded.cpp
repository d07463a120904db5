#include "cli/embedded.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "actors/server/server.hpp"
#include "cli/output.hpp"

namespace troupe::cli {
namespace {

namespace fs = std::filesystem;

// Gone with its object.
class private_folder {
 public:
  static result<std::unique_ptr<private_folder>> make() {
    std::string name = (fs::temp_directory_path() / "troupe-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      return fail(error_code::not_found, "{}: cannot be made: {}", name, std::strerror(errno));
    return std::unique_ptr<private_folder>(new private_folder(name));
  }
  ~private_folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  private_folder(const private_folder&) = delete;
  private_folder& operator=(const private_folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  explicit private_folder(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

struct parts {
  std::unique_ptr<private_folder> folder;
  std::unique_ptr<server> running;  // stops before its folder goes
};

}  // namespace

result<embedded_server> start_embedded(const context& shared, const fs::path& model) {
  auto folder = private_folder::make();
  if (!folder) return fail(folder.error());
  server_options o;
  o.paths = shared.paths;
  o.show_progress = is_terminal(STDERR_FILENO);
  o.config.server.listen = {"ipc://" + ((*folder)->path() / "socket").string()};
  o.config.models.push_back({.path = fs::absolute(model)});
  auto running = server::start(std::move(o));
  if (!running) return fail(running.error());
  auto all = std::make_shared<parts>();
  all->folder = std::move(*folder);
  all->running = std::move(*running);
  const std::string endpoint = all->running->endpoints().front();
  const std::string name = all->running->models().front()->name;
  return embedded_server{std::move(all), endpoint, name};
}

}  // namespace troupe::cli
