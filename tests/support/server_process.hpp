// A real `troupe serve` as a child process on a free loopback port, with its log in a temporary folder.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/base/argument_pointers.hpp"
#include "tests/support/temp_folder.hpp"

extern char** environ;

namespace troupe::test {

class server_process {
 public:
  // `arguments` come behind `serve --listen tcp://127.0.0.1:* --ready-file ...`. Throws with the log if the server
  // does not become ready.
  explicit server_process(std::vector<std::string> arguments = {"--model",
                                                                TROUPE_SOURCE_DIR "/demo/mixtral-demo"}) {
    std::vector<std::string> words = {TROUPE_BINARY_DIR "/bin/troupe",
                                      "serve",
                                      "--listen",
                                      "tcp://127.0.0.1:*",
                                      "--ready-file",
                                      ready_file()};
    words.insert(words.end(), arguments.begin(), arguments.end());
    start(words);
    wait_until_ready();
  }
  ~server_process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  server_process(const server_process&) = delete;
  server_process& operator=(const server_process&) = delete;

  const std::string& endpoint() const { return endpoint_; }
  pid_t pid() const { return pid_; }

  void signal(int number) const { ::kill(pid_, number); }

  // Waits for its end; the exit status, or 128 + signal.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  int terminate() {
    signal(SIGTERM);
    return wait();
  }

  std::uint64_t resident_bytes() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/statm");
    std::uint64_t total = 0;
    std::uint64_t resident = 0;
    file >> total >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  std::size_t open_files() const {
    const std::filesystem::directory_iterator files("/proc/" + std::to_string(pid_) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }

  std::string log() const {
    std::ifstream file(folder_.path() / "log");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  std::string ready_file() const { return (folder_.path() / "ready").string(); }

  void start(std::vector<std::string>& words) {
    const auto argv = argument_pointers(words);
    const std::string log_file = (folder_.path() / "log").string();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log_file.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    const int problem = posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (problem != 0) throw std::runtime_error("cannot start " + words[0]);
  }

  void wait_until_ready() {
    for (int i = 0; i < 1200; ++i) {
      std::ifstream file(ready_file());
      if (std::getline(file, endpoint_) && !endpoint_.empty()) return;
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
        pid_ = -1;
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    throw std::runtime_error("the server did not become ready; its log:\n" + log());
  }

  temp_folder folder_;
  pid_t pid_ = -1;
  std::string endpoint_;
};

}  // namespace troupe::test
