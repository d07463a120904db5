#include "tests/cli/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "kernel/base/argument_pointers.hpp"

namespace troupe::testing {
namespace {

using clock = std::chrono::steady_clock;

int milliseconds_until(clock::time_point end) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - clock::now()).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

void close_all(std::initializer_list<int> descriptors) {
  for (const int d : descriptors) ::close(d);
}

// In the child: never returns.
[[noreturn]] void become(std::vector<std::string> command, const environment& extra) {
  ::signal(SIGHUP, SIG_DFL);  // whatever nohup has made of it
  for (const auto& [name, value] : extra)
    value.empty() ? ::unsetenv(name.c_str()) : ::setenv(name.c_str(), value.c_str(), 1);
  const auto words = argument_pointers(command);
  ::execv(words[0], words.data());
  ::_exit(127);
}

int exit_status(int raw) {
  return WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
}

// The child's end, or -1 after it had to be killed.
int await(pid_t child, clock::time_point end) {
  int raw = 0;
  while (::waitpid(child, &raw, WNOHANG) == 0) {
    if (clock::now() >= end) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &raw, 0);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return exit_status(raw);
}

// Appends what there is; false at the end of the file.
bool drain(int descriptor, std::string& into) {
  char buffer[8192];
  const ssize_t n = ::read(descriptor, buffer, sizeof buffer);
  if (n > 0) into.append(buffer, static_cast<std::size_t>(n));
  return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

// Feeds and reads a child until both of its outputs are closed.
void converse(int in, int out, int err, std::string_view input, outcome& result, clock::time_point end) {
  ::fcntl(in, F_SETFL, O_NONBLOCK);
  bool out_open = true, err_open = true;
  while ((out_open || err_open) && clock::now() < end) {
    if (in >= 0 && input.empty()) ::close(in), in = -1;
    pollfd polls[3] = {{out_open ? out : -1, POLLIN, 0}, {err_open ? err : -1, POLLIN, 0}, {in, POLLOUT, 0}};
    if (::poll(polls, 3, milliseconds_until(end)) <= 0) continue;
    if (polls[0].revents != 0) out_open = drain(out, result.out);
    if (polls[1].revents != 0) err_open = drain(err, result.err);
    if (polls[2].revents != 0) {
      const ssize_t n = ::write(in, input.data(), input.size());
      if (n > 0) input.remove_prefix(static_cast<std::size_t>(n));
      if (n < 0 && errno != EAGAIN) input = {};
    }
  }
  if (in >= 0) ::close(in);
}

outcome run(const std::vector<std::string>& command, std::string_view input, const environment& extra) {
  ::signal(SIGPIPE, SIG_IGN);
  int in[2], out[2], err[2];
  outcome result;
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0 || ::pipe2(err, O_CLOEXEC) != 0)
    return result;
  const auto end = clock::now() + patience;
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    ::signal(SIGPIPE, SIG_DFL);
    become(command, extra);
  }
  close_all({in[0], out[1], err[1]});
  converse(in[1], out[0], err[0], input, result, end);
  close_all({out[0], err[0]});
  result.status = await(child, end);
  return result;
}

std::vector<std::string> with_program(const std::vector<std::string>& arguments) {
  std::vector<std::string> command{troupe_program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

std::string read_file(const std::string& file) {
  std::ifstream in(file);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace

std::string troupe_program() {
  return std::string(TROUPE_BINARY_DIR) + "/bin/troupe";
}

outcome run_troupe(const std::vector<std::string>& arguments, std::string_view input,
                   const environment& extra) {
  return run(with_program(arguments), input, extra);
}

outcome run_shell(const std::string& line, const environment& extra) {
  environment all = extra;
  all["TROUPE"] = troupe_program();
  return run({"/bin/bash", "-c", line}, {}, all);
}

terminal_session::terminal_session(const std::vector<std::string>& arguments, const environment& extra) {
  const auto command = with_program(arguments);
  winsize size{};
  size.ws_row = 40;
  size.ws_col = 200;
  child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
  if (child_ == 0) {
    ::setenv("TERM", "xterm", 1);
    become(command, extra);
  }
}

terminal_session::~terminal_session() {
  if (child_ > 0) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  if (terminal_ >= 0) ::close(terminal_);
}

void terminal_session::type(std::string_view keys) {
  while (!keys.empty()) {
    const ssize_t n = ::write(terminal_, keys.data(), keys.size());
    if (n <= 0) return;
    keys.remove_prefix(static_cast<std::size_t>(n));
  }
}

void terminal_session::signal(int number) const {
  if (child_ > 0) ::kill(child_, number);
}

bool terminal_session::read_more(clock::time_point until) {
  pollfd one{terminal_, POLLIN, 0};
  if (::poll(&one, 1, milliseconds_until(until)) <= 0) return false;
  return drain(terminal_, screen_);
}

bool terminal_session::wait_for(std::string_view text) {
  const auto end = clock::now() + patience;
  while (true) {
    if (const auto at = screen_.find(text, awaited_); at != screen_.npos) {
      awaited_ = at + text.size();
      return true;
    }
    if (!read_more(end)) return false;
  }
}

int terminal_session::wait_for_end() {
  const auto end = clock::now() + patience;
  while (read_more(end)) {
  }
  const int status = await(child_, end);
  child_ = -1;
  return status;
}

served_model::served_model(const std::string& demo, const std::vector<std::string>& more) {
  std::string folder = (std::filesystem::temp_directory_path() / "troupe-test-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return;
  folder_ = folder;
  const std::string ready = folder_ + "/ready";
  std::vector<std::string> arguments{
      "serve",    "--model",           std::string(TROUPE_SOURCE_DIR) + "/demo/" + demo,
      "--listen", "tcp://127.0.0.1:*", "--ready-file",
      ready};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const auto command = with_program(arguments);
  child_ = ::fork();
  if (child_ == 0) {
    const int log = ::open((folder_ + "/log").c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    ::dup2(log, 1);
    ::dup2(log, 2);
    become(command, {});
  }
  const auto end = clock::now() + patience;
  while (!std::filesystem::exists(ready) && clock::now() < end) {
    if (::waitpid(child_, nullptr, WNOHANG) != 0) {
      child_ = -1;  // it has ended: log() tells why
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  endpoint_ = read_file(ready);
  endpoint_ = endpoint_.substr(0, endpoint_.find('\n'));
}

served_model::~served_model() {
  if (child_ > 0) {
    ::kill(child_, SIGTERM);
    await(child_, clock::now() + patience);
  }
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

void served_model::signal(int number) const {
  if (child_ > 0) ::kill(child_, number);
}

std::string served_model::log() const {
  return read_file(folder_ + "/log");
}

outcome served_model::run(std::vector<std::string> arguments, std::string_view input) const {
  arguments.insert(arguments.begin() + 1, {"--endpoint", endpoint_});
  return run_troupe(arguments, input);
}

}  // namespace troupe::testing
