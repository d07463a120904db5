#include "sandbox/conformance/in_a_child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <exception>
#include <new>

#include "kernel/base/clean_text.hpp"
#include "sandbox/cell/sanitized.hpp"

namespace troupe::conformance {

namespace {

using clock = std::chrono::steady_clock;

// What goes through the pipe: a header and `bytes` bytes.
enum class word : std::uint32_t { alive = 1, answer = 2, exception = 3 };
struct word_header {
  word kind{};
  std::uint32_t bytes = 0;
};

void write_all(int to, const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t n = ::write(to, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(1);  // nobody listens
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void say(int to, word kind, std::string_view text) {
  const word_header header = {kind, static_cast<std::uint32_t>(text.size())};
  write_all(to, &header, sizeof header);
  write_all(to, text.data(), text.size());
}

// No core dumps, and not more memory than the machine has.
void limit_resources() {
  const rlimit none = {0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  if (sandbox::sanitized()) return;
  const auto bytes =
      static_cast<rlim_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
  rlimit memory = {};
  ::getrlimit(RLIMIT_AS, &memory);
  memory.rlim_cur = std::min(memory.rlim_max, bytes);
  ::setrlimit(RLIMIT_AS, &memory);
}

int reports_to = -1;  // the pipe of this child

// Its last line is a summary; all of it is on stderr.
void tell_report(const char* report) {
  const std::string_view text = report;
  constexpr std::string_view mark = "SUMMARY: ";
  const auto at = text.rfind(mark);
  const auto summary = at == text.npos ? text : text.substr(at + mark.size());
  say(reports_to, word::exception, summary.substr(0, summary.find('\n')));
}

[[noreturn]] void be_the_child(const std::function<std::string(const sign_of_life&)>& work, int to,
                               pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (::getppid() != parent) ::_exit(1);
  ::setpgid(0, 0);  // what it starts itself ends with it
  limit_resources();
  reports_to = to;
  sandbox::on_sanitizer_report(&tell_report);
  try {
    say(to, word::answer, work([to](std::string_view what) { say(to, word::alive, what); }));
  } catch (const std::bad_alloc&) {
    say(to, word::exception, "needs more memory than there is (std::bad_alloc)");
  } catch (const std::exception& e) {
    say(to, word::exception, fmt::format("ended with an exception: {}", e.what()));
  } catch (...) {
    say(to, word::exception, "ended with an exception");
  }
  ::_exit(0);
}

// Of all threads of a process so far.
std::chrono::nanoseconds processor_time(pid_t pid) {
  clockid_t id = {};
  timespec time = {};
  if (::clock_getcpuclockid(pid, &id) != 0 || ::clock_gettime(id, &time) != 0) return {};
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

class watcher {
 public:
  watcher(pid_t child, int from, const child_limits& limits, const std::function<void()>& heard)
      : child_(child), from_(from), limits_(limits), heard_(heard) {}

  child_answer watch() {
    constexpr int look_again_ms = 50, at_the_end_ms = 1, whole_pipe = 8;  // pieces
    while (!has_ended() && still_in_time()) listen(is_open_ ? look_again_ms : at_the_end_ms);
    // It is not waited for yet, so the number is still its own.
    ::kill(child_, SIGKILL);
    ::kill(-child_, SIGKILL);  // what it has started
    for (int i = 0; i < whole_pipe && !answered_ && listen(0); ++i) {
    }
    int status = 0;
    while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
    }
    judge(status);
    return std::move(answer_);
  }

 private:
  // Not by the end of the pipe: the child may close it early, and what the child has started may keep it open.
  bool has_ended() const {
    siginfo_t info = {};
    return ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOWAIT | WNOHANG) != 0 ||
           info.si_pid == child_;
  }

  // False = there was nothing to hear.
  bool listen(int wait_ms) {
    pollfd waiting = {is_open_ ? from_ : -1, POLLIN, 0};
    if (::poll(&waiting, 1, wait_ms) <= 0) return false;
    std::array<char, std::size_t{16} << 10> piece;
    const ssize_t n = ::read(from_, piece.data(), piece.size());
    is_open_ = n > 0 || (n < 0 && errno == EINTR);
    if (n <= 0) return is_open_;
    buffer_.append(piece.data(), static_cast<std::size_t>(n));
    take_words();
    return true;
  }

  void take_words() {
    word_header header;
    while (buffer_.size() >= sizeof header) {
      std::memcpy(&header, buffer_.data(), sizeof header);
      if (buffer_.size() - sizeof header < header.bytes) return;
      const std::string text = buffer_.substr(sizeof header, header.bytes);
      buffer_.erase(0, sizeof header + header.bytes);
      since_ = clock::now();
      used_ = processor_time(child_);
      if (header.kind == word::alive && !text.empty()) answer_.last = clean_text(text, longest_message);
      if (header.kind == word::alive) heard_();
      if (header.kind == word::answer) answer_.text = text, answered_ = true;
      if (header.kind == word::exception) answer_.end = clean_text(text, longest_message), answered_ = true;
    }
  }

  bool still_in_time() {
    if (processor_time(child_) - used_ > limits_.cpu)
      timed_out_ = fmt::format("timed out: used {} s of processor time", limits_.cpu.count());
    else if (clock::now() - since_ > limits_.wall)
      timed_out_ = fmt::format("timed out: did not go on within {} s",
                               static_cast<double>(limits_.wall.count()) / 1000);
    return timed_out_.empty();
  }

  void judge(int status) {
    if (!timed_out_.empty())
      answer_.end = timed_out_;
    else if (WIFSIGNALED(status))
      answer_.end = fmt::format("crashed: {} (SIG{})", ::sigdescr_np(WTERMSIG(status)),
                                ::sigabbrev_np(WTERMSIG(status)));
    else if (!answered_)
      answer_.end = fmt::format("ended its process with code {}", WEXITSTATUS(status));
  }

  pid_t child_;
  int from_;
  const child_limits& limits_;
  const std::function<void()>& heard_;
  std::string buffer_, timed_out_;
  clock::time_point since_ = clock::now();
  std::chrono::nanoseconds used_{};
  bool is_open_ = true, answered_ = false;
  child_answer answer_;
};

}  // namespace

child_answer in_a_child(const std::function<std::string(const sign_of_life&)>& work,
                        const child_limits& limits, const std::function<void()>& heard) {
  std::array<int, 2> ends = {};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return {{}, "no pipe to a child", {}};
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    be_the_child(work, ends[1], parent);
  }
  if (child > 0) ::setpgid(child, child);  // whoever is first
  ::close(ends[1]);
  auto answer =
      child < 0 ? child_answer{{}, "no child process", {}} : watcher(child, ends[0], limits, heard).watch();
  ::close(ends[0]);
  return answer;
}

}  // namespace troupe::conformance
