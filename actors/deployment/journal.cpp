#include "actors/deployment/journal.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

namespace troupe::deployment {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view first_line = "troupe journal 1\n";

std::string last_reason() {
  return std::generic_category().message(errno);
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// A name that was created or replaced is on the disk when its folder is.
bool sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool done = ::fsync(fd) == 0;
  ::close(fd);
  return done;
}

// Writes a whole file under `target`, or leaves what is there.
result<void> replace(const fs::path& target, std::string_view content) {
  const fs::path beside = target.string() + ".new";
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
  const bool written = fd >= 0 && write_all(fd, content) && ::fsync(fd) == 0;
  const std::string why = written ? std::string() : last_reason();
  if (fd >= 0) ::close(fd);
  if (!written) {
    ::unlink(beside.c_str());
    return fail(error_code::not_found, "{}: cannot be written: {}", beside.string(), why);
  }
  if (::rename(beside.c_str(), target.c_str()) != 0 || !sync_folder(target.parent_path()))
    return fail(error_code::not_found, "{}: cannot be written: {}", target.string(), last_reason());
  return {};
}

struct content {
  std::vector<record> records;
  std::uint64_t whole_bytes = 0;  // of the lines that count
};

result<content> read(const fs::path& file, std::string_view text) {
  content c;
  if (!text.starts_with(first_line))
    return fail(error_code::bad_config, "{}: not a journal: expected \"{}\" as its first line", file.string(),
                first_line.substr(0, first_line.size() - 1));
  c.whole_bytes = first_line.size();
  for (std::size_t number = 2, at = first_line.size(); at < text.size(); ++number) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string_view::npos) break;  // torn
    auto r = from_line(text.substr(at, end - at));
    if (!r && end + 1 < text.size())
      return fail(error_code::bad_config,
                  "{}:{}: a damaged record with others behind it: restore the file, or move it away to start "
                  "from the configuration",
                  file.string(), number);
    if (!r) break;  // torn, with a newline of its own
    c.records.push_back(std::move(*r));
    at = end + 1;
    c.whole_bytes = at;
  }
  return c;
}

result<int> take_lock(const fs::path& folder) {
  const fs::path file = folder / "lock";
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0)
    return fail(error_code::not_found, "server.state: {}: cannot be written: {}", file.string(),
                last_reason());
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  ::close(fd);
  return fail(error_code::bad_config,
              "server.state: {}: another server keeps its state there: stop it, or name another folder",
              folder.string());
}

}  // namespace

result<journal::opened> journal::open(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);
  if (problem)
    return fail(error_code::not_found, "server.state: {}: cannot be created: {}", folder.string(),
                problem.message());
  auto lock = take_lock(folder);
  if (!lock) return fail(std::move(lock.error()));
  opened made;
  made.file.reset(new journal(*lock, -1, folder / "journal", 0));
  journal& j = *made.file;
  if (!fs::exists(j.file_, problem))
    if (auto done = replace(j.file_, first_line); !done) return fail(std::move(done.error()));

  std::ifstream in(j.file_, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) return fail(error_code::not_found, "{}: cannot be read", j.file_.string());
  auto content = read(j.file_, text);
  if (!content) return fail(std::move(content.error()));
  j.fd_ = ::open(j.file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  j.bytes_ = content->whole_bytes;
  made.cut_bytes = text.size() - content->whole_bytes;
  if (j.fd_ < 0 || (made.cut_bytes > 0 && ::ftruncate(j.fd_, static_cast<off_t>(j.bytes_)) != 0))
    return fail(error_code::not_found, "{}: cannot be written: {}", j.file_.string(), last_reason());
  made.records = std::move(content->records);
  return made;
}

journal::~journal() {
  if (fd_ >= 0) ::close(fd_);
  if (lock_ >= 0) ::close(lock_);
}

result<void> journal::append(const record& r) {
  if (torn_)
    return fail(error_code::not_found, "{}: its end is damaged since a write failed: restart the server",
                file_.string());
  const std::string line = to_line(r);
  if (write_all(fd_, line) && ::fdatasync(fd_) == 0) {
    bytes_ += line.size();
    return {};
  }
  const std::string why = last_reason();
  torn_ = ::ftruncate(fd_, static_cast<off_t>(bytes_)) != 0;
  return fail(error_code::not_found, "{}: cannot be written: {}", file_.string(), why);
}

result<void> journal::rewrite(std::span<const record> records) {
  std::string text(first_line);
  for (const record& r : records) text += to_line(r);
  if (auto done = replace(file_, text); !done) return done;
  ::close(fd_);
  fd_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  torn_ = fd_ < 0;
  bytes_ = text.size();
  if (torn_) return fail(error_code::not_found, "{}: cannot be written: {}", file_.string(), last_reason());
  return {};
}

}  // namespace troupe::deployment
