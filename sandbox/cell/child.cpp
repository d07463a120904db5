#include "sandbox/cell/child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <thread>

#include "kernel/base/argument_pointers.hpp"
#include "kernel/base/limits.hpp"
#include "sandbox/cell/sanitized.hpp"

namespace troupe::sandbox {

namespace {

namespace fs = std::filesystem;
using clock = std::chrono::steady_clock;

constexpr std::size_t kept_output_bytes = 4096;
constexpr int first_free_descriptor = 16;  // above those that the cell expects

std::string reason(int code) {
  return std::generic_category().message(code);
}

class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int value) : value_(value) {}
  ~descriptor() { close(); }
  descriptor(descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  int get() const { return value_; }
  explicit operator bool() const { return value_ >= 0; }
  void close() {
    if (value_ >= 0) ::close(std::exchange(value_, -1));
  }

 private:
  int value_ = -1;
};

// Out of the way of the numbers that the cell's own descriptors will have.
descriptor moved_up(descriptor from) {
  return from ? descriptor(::fcntl(from.get(), F_DUPFD_CLOEXEC, first_free_descriptor)) : descriptor();
}

struct pipe_ends {
  descriptor read, write;
};

result<pipe_ends> make_pipe() {
  std::array<int, 2> ends = {-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(error_code::internal, "no pipe: {}", reason(errno));
  pipe_ends made{descriptor(ends[0]), moved_up(descriptor(ends[1]))};
  if (!made.write) return fail(error_code::internal, "no pipe: {}", reason(errno));
  ::fcntl(made.read.get(), F_SETFL, O_NONBLOCK);
  return made;
}

result<descriptor> config_file(std::string_view text) {
  descriptor file = moved_up(descriptor(::memfd_create("config.json", MFD_CLOEXEC)));
  if (!file) return fail(error_code::internal, "no memory for the configuration: {}", reason(errno));
  while (!text.empty()) {
    const ssize_t n = ::write(file.get(), text.data(), text.size());
    if (n <= 0) return fail(error_code::internal, "no memory for the configuration: {}", reason(errno));
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return file;
}

// posix_spawn: safe in a process with threads, where fork() is not.
class spawn_plan {
 public:
  spawn_plan() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);  // a Ctrl-C at the terminal is not the module's fault
    posix_spawnattr_setflags(&attributes_,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
  }
  ~spawn_plan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  spawn_plan(const spawn_plan&) = delete;
  spawn_plan& operator=(const spawn_plan&) = delete;

  void give(const descriptor& from, int to) { posix_spawn_file_actions_adddup2(&actions_, from.get(), to); }
  void withhold(int number) { posix_spawn_file_actions_addclose(&actions_, number); }

  result<pid_t> run(const fs::path& program, std::vector<std::string> words) {
    posix_spawn_file_actions_addclosefrom_np(&actions_, answer_descriptor + 1);
    auto inherited = sanitizer_environment();
    const auto arguments = argument_pointers(words), environment = argument_pointers(inherited);
    pid_t pid = -1;
    const int problem =
        posix_spawn(&pid, program.c_str(), &actions_, &attributes_, arguments.data(), environment.data());
    if (problem != 0)
      return fail(error_code::internal, "{} cannot be started: {}: is the installation whole?",
                  program.string(), reason(problem));
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// The largest frame of each kind; none = there is no such kind.
std::optional<std::size_t> largest(frame_kind kind) {
  switch (kind) {
    case frame_kind::walls:
    case frame_kind::where:
      return max_text_bytes;
    case frame_kind::refusal:
      return max_text_bytes + sizeof(std::uint16_t);
    case frame_kind::stage:
      return 1;
    case frame_kind::table:
      return max_table_bytes;
    case frame_kind::program:
      return max_flatbuffer_bytes;
    case frame_kind::fault:
      return sizeof(fault_record);
    case frame_kind::finished:
      return 0;
  }
  return std::nullopt;
}

class listener {
 public:
  explicit listener(const cell_limits& limits) : limits_(limits) {}

  // False = enough: it broke the rules.
  bool hear_answer(std::string_view bytes) {
    buffer_.append(bytes);
    std::size_t at = 0;
    frame_header header;
    while (buffer_.size() - at >= sizeof header) {
      std::memcpy(&header, buffer_.data() + at, sizeof header);
      const auto limit = largest(static_cast<frame_kind>(header.kind));
      if (!limit || header.bytes > *limit || answer_.finished) {
        answer_.broken = true;
        return false;
      }
      if (buffer_.size() - at - sizeof header < header.bytes) break;
      if (!take(static_cast<frame_kind>(header.kind),
                std::string_view(buffer_).substr(at + sizeof header, header.bytes))) {
        answer_.broken = true;
        return false;
      }
      at += sizeof header + header.bytes;
    }
    buffer_.erase(0, at);
    return true;
  }

  bool hear_output(std::string_view bytes) {
    heard_ += bytes.size();
    answer_.output += bytes.substr(0, kept_output_bytes - std::min(kept_output_bytes, answer_.output.size()));
    answer_.too_much_output = heard_ > limits_.output_bytes;
    return !answer_.too_much_output;
  }

  cell_answer& answer() { return answer_; }

 private:
  // Each frame has its place in the order of frames.hpp; one out of place is the module's own. False = it is.
  bool take(frame_kind kind, std::string_view bytes) {
    const auto blob = [&] { return std::vector<std::uint8_t>(bytes.begin(), bytes.end()); };
    const cell_stage stage = answer_.stage;
    switch (kind) {
      case frame_kind::walls:
        if (stage != cell_stage::closing_in || !answer_.walls.empty()) return false;
        answer_.walls = bytes;
        return true;
      case frame_kind::stage:
        return take_stage(bytes);
      case frame_kind::table:
        if (stage != cell_stage::entry || answer_.table) return false;
        answer_.table = blob();
        return true;
      case frame_kind::program:
        if (stage != cell_stage::building || answer_.program) return false;
        answer_.program = blob();
        return true;
      case frame_kind::refusal:
        return take_refusal(bytes);
      case frame_kind::fault:
        if (bytes.size() != sizeof(fault_record) || answer_.fault) return false;
        std::memcpy(&answer_.fault.emplace(), bytes.data(), bytes.size());
        return true;
      case frame_kind::where:
        if (!answer_.fault) return false;
        answer_.where = bytes;
        return true;
      case frame_kind::finished:
        answer_.finished = true;
        return true;
    }
    return false;
  }

  // One up from the last.
  bool take_stage(std::string_view bytes) {
    if (bytes.size() != 1) return false;
    const auto found = static_cast<std::uint8_t>(bytes[0]);
    if (found != static_cast<std::uint8_t>(answer_.stage) + 1 ||
        found > static_cast<std::uint8_t>(cell_stage::building))
      return false;
    answer_.stage = static_cast<cell_stage>(found);
    return true;
  }

  bool take_refusal(std::string_view bytes) {
    std::uint16_t code = 0;
    if (bytes.size() < sizeof code || answer_.refusal) return false;
    std::memcpy(&code, bytes.data(), sizeof code);
    answer_.refusal = error{static_cast<error_code>(code), std::string(bytes.substr(sizeof code))};
    return true;
  }

  const cell_limits& limits_;
  std::string buffer_;
  std::uint64_t heard_ = 0;
  cell_answer answer_;
};

// Reads what is there. False = the other side has closed it, or the listener has had enough.
template <class Hear>
bool drain(const descriptor& from, Hear hear) {
  static thread_local std::array<char, 64 * 1024> piece;
  for (;;) {
    const ssize_t n = ::read(from.get(), piece.data(), piece.size());
    if (n > 0 && !hear(std::string_view(piece.data(), static_cast<std::size_t>(n)))) return false;
    if (n > 0) continue;
    if (n < 0 && errno == EINTR) continue;
    return n < 0 && errno == EAGAIN;
  }
}

int milliseconds_until(clock::time_point when) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
}

// Until both pipes are closed, the time is up or a rule is broken.
void listen(listener& to, descriptor answers, descriptor output, clock::time_point deadline) {
  while (answers || output) {
    std::array<pollfd, 2> waiting = {{{answers.get(), POLLIN, 0}, {output.get(), POLLIN, 0}}};
    const int ready = ::poll(waiting.data(), waiting.size(), milliseconds_until(deadline));
    if (ready < 0 && errno != EINTR) return;
    if (waiting[0].revents != 0 && !drain(answers, [&](auto bytes) { return to.hear_answer(bytes); }))
      answers.close();
    if (waiting[1].revents != 0 && !drain(output, [&](auto bytes) { return to.hear_output(bytes); }))
      output.close();
    if (to.answer().broken || to.answer().too_much_output || clock::now() >= deadline) return;
  }
}

// A process may close its pipes and live on. Answers its status; it is gone afterwards in any case.
int reap(pid_t pid, bool at_once, clock::time_point deadline, bool& timed_out) {
  using namespace std::chrono_literals;
  int status = 0;
  for (auto pause = 50us; !at_once; pause = std::min<std::chrono::microseconds>(2 * pause, 5ms)) {
    const pid_t ended = ::waitpid(pid, &status, WNOHANG);
    if (ended == pid) return status;
    if (ended < 0 && errno != EINTR) return 0;
    if (clock::now() >= deadline) break;
    std::this_thread::sleep_for(pause);
  }
  timed_out = !at_once;
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

}  // namespace

result<cell_answer> ask_cell(const fs::path& cell, const fs::path& library,
                             std::optional<std::string_view> config_json, const cell_limits& limits) {
  const auto deadline = clock::now() + limits.wall;
  auto answers = make_pipe();
  if (!answers) return fail(answers.error());
  auto output = make_pipe();
  if (!output) return fail(output.error());
  const descriptor file = moved_up(descriptor(::open(library.c_str(), O_RDONLY | O_CLOEXEC)));
  if (!file) return fail(error_code::not_found, "{}: cannot be read: {}", library.string(), reason(errno));
  spawn_plan plan;
  plan.give(output->write, 1);
  plan.give(output->write, 2);
  plan.give(file, module_descriptor);
  descriptor config;
  if (config_json) {
    auto made = config_file(*config_json);
    if (!made) return fail(made.error());
    config = std::move(*made);
    plan.give(config, config_descriptor);
  } else {
    plan.withhold(config_descriptor);
  }
  plan.give(answers->write, answer_descriptor);
  const auto pid =
      plan.run(cell, {"troupe-cell", fs::absolute(library).string(), std::to_string(limits.memory_bytes),
                      std::to_string(limits.cpu.count()), std::to_string(::getpid())});
  if (!pid) return fail(pid.error());
  answers->write.close();
  output->write.close();

  listener ears(limits);
  listen(ears, std::move(answers->read), std::move(output->read), deadline);
  cell_answer& answer = ears.answer();
  const bool enough = answer.broken || answer.too_much_output;
  answer.status = reap(*pid, enough, deadline, answer.timed_out);
  return std::move(answer);
}

}  // namespace troupe::sandbox
