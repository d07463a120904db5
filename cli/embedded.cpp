#include "cli/embedded.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "actors/server/server.hpp"
#include "cli/output.hpp"

namespace troupe::cli {
namespace {

namespace fs = std::filesystem;

// Where the socket of a private folder lies, for a handler of signals.
std::array<char, 4096> folder_name{};
std::array<char, 4096> socket_name{};

extern "C" void remove_names(int signal) {
  ::unlink(socket_name.data());
  ::rmdir(folder_name.data());
  ::raise(signal);  // the handler is gone: the process ends as it would have without one
}

void write_down(const std::string& name, std::array<char, 4096>& to) {
  to.fill('\0');
  name.copy(to.data(), to.size() - 1);
}

// A folder that only this user can enter, for one socket. Gone with its object, and with a process that is told to end
// meanwhile. One at a time.
class private_folder {
 public:
  static result<std::unique_ptr<private_folder>> make() {
    auto made = std::unique_ptr<private_folder>(new private_folder);
    write_down((fs::temp_directory_path() / "troupe-XXXXXX").string(), folder_name);
    if (::mkdtemp(folder_name.data()) == nullptr)
      return fail(error_code::not_found, "{}: cannot be made: {}", folder_name.data(), std::strerror(errno));
    write_down(socket(), socket_name);
    return made;
  }
  ~private_folder() {
    ::unlink(socket_name.data());
    ::rmdir(folder_name.data());
    for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &before_[i], nullptr);
  }
  private_folder(const private_folder&) = delete;
  private_folder& operator=(const private_folder&) = delete;
  static std::string socket() { return std::string(folder_name.data()) + "/socket"; }

 private:
  static constexpr std::array signals{SIGINT, SIGTERM, SIGHUP};

  private_folder() {
    struct sigaction action {};
    action.sa_handler = remove_names;
    sigemptyset(&action.sa_mask);
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < signals.size(); ++i) {
      ::sigaction(signals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) ::sigaction(signals[i], &action, nullptr);  // nohup's wish counts
    }
  }

  std::array<struct sigaction, signals.size()> before_{};
};

}  // namespace

result<embedded_server> start_embedded(const context& shared, const fs::path& model) {
  const auto folder = private_folder::make();
  if (!folder) return fail(folder.error());
  server_options o;
  o.paths = shared.paths;
  o.show_progress = is_terminal(STDERR_FILENO);
  o.config.server.listen = {"ipc://" + private_folder::socket()};
  o.config.models.push_back({.path = fs::absolute(model)});
  auto running = server::start(std::move(o));
  if (!running) return fail(running.error());
  const std::string name = (*running)->models().front()->name;
  auto connection = client::connect((*running)->endpoints().front());
  return embedded_server{std::move(*running), std::move(connection), name};
}

}  // namespace troupe::cli
