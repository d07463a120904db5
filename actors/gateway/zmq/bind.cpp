#include "actors/gateway/zmq/bind.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace troupe::gateway {
namespace {

constexpr std::string_view ipc = "ipc://";

// Binding to the path of a living server would take it over without a word: ZeroMQ removes the file first.
bool somebody_listens(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;  // bind says so
  std::ranges::copy(path, address.sun_path);
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return false;
  const bool answered = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(probe);
  return answered;
}

// ZeroMQ takes a port modulo 65536.
bool port_is_one(std::string_view endpoint) {
  if (!endpoint.starts_with("tcp://")) return true;
  const auto port = endpoint.substr(endpoint.rfind(':') + 1);
  return port == "*" || (port.size() <= 5 && port.find_first_not_of("0123456789") == std::string_view::npos &&
                         std::atoi(std::string(port).c_str()) <= 65535);
}

tl::unexpected<error> in_use(const std::string& endpoint) {
  return fail(error_code::address_in_use,
              "{}: another process listens there (another troupe?): stop it, or listen elsewhere "
              "(server.listen, --listen)",
              endpoint);
}

}  // namespace

result<std::string> bind_endpoint(zmq::socket_t& socket, const std::string& endpoint) {
  if (endpoint.starts_with(ipc) && somebody_listens(endpoint.substr(ipc.size()))) return in_use(endpoint);
  if (!port_is_one(endpoint))
    return fail(error_code::bad_config, "{}: the port is not a number from 0 to 65535, or *", endpoint);
  try {
    socket.bind(endpoint);
    return socket.get(zmq::sockopt::last_endpoint);
  } catch (const zmq::error_t& e) {
    switch (e.num()) {
      case EADDRINUSE:
        return in_use(endpoint);
      case EACCES:
        return fail(error_code::bad_config,
                    "{}: no permission to listen there: choose a port above 1023 or another folder",
                    endpoint);
      case ENODEV:
      case EADDRNOTAVAIL:
        return fail(error_code::bad_config, "{}: this machine has no such address", endpoint);
      case ENOENT:
      case ENOTDIR:
        return fail(error_code::bad_config, "{}: its folder does not exist", endpoint);
      default:
        return fail(error_code::bad_config,
                    "{}: cannot listen there ({}): expected tcp://host:port or ipc:///path", endpoint,
                    e.what());
    }
  }
}

std::optional<socket_file> socket_file_of(const std::string& endpoint) {
  if (!endpoint.starts_with(ipc)) return std::nullopt;
  socket_file file{endpoint.substr(ipc.size()), 0, 0};
  struct stat is {};
  if (stat(file.path.c_str(), &is) != 0 || !S_ISSOCK(is.st_mode)) return std::nullopt;
  file.device = is.st_dev;
  file.number = is.st_ino;
  return file;
}

void remove(const socket_file& file) {
  const auto now = socket_file_of(std::string(ipc) + file.path);
  if (now && now->device == file.device && now->number == file.number) unlink(file.path.c_str());
}

}  // namespace troupe::gateway
