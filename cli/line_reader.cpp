#include "cli/line_reader.hpp"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cwchar>

#include "cli/interrupt.hpp"

namespace troupe::cli {
namespace {

constexpr int history_lines = 1000;

// libedit asks for characters by this. 1 = one, 0 = end of input, -1 = error: how a Ctrl-C ends a line.
int read_character(EditLine* editor, wchar_t* out) {
  (void)editor;
  std::mbstate_t state{};
  while (true) {
    if (!interrupt_guard::wait_for(STDIN_FILENO)) return errno = EINTR, -1;
    char byte = 0;
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (n == 0) return 0;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    const std::size_t used = std::mbrtowc(out, &byte, 1, &state);
    if (used == static_cast<std::size_t>(-2)) continue;  // part of a character
    if (used == static_cast<std::size_t>(-1)) {          // none: start again with the next byte
      state = {};
      continue;
    }
    return 1;
  }
}

char* prompt_of(EditLine* editor) {
  void* data = nullptr;
  el_get(editor, EL_CLIENTDATA, &data);
  return static_cast<std::string*>(data)->data();
}

// Characters beyond ASCII need a UTF-8 locale, whatever the environment says or forgets to say.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
}

class terminal_reader : public line_reader {
 public:
  terminal_reader(std::string prompt, std::filesystem::path file)
      : prompt_(std::move(prompt)), file_(std::move(file)) {
    use_utf8();
    editor_ = el_init("troupe", stdin, stdout, stderr);
    el_set(editor_, EL_CLIENTDATA, &prompt_);
    el_set(editor_, EL_PROMPT, prompt_of);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_SIGNAL, 0);
    el_set(editor_, EL_GETCFN, read_character);
    el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, history_lines);
    history(history_, &event, H_SETUNIQUE, 1);
    el_set(editor_, EL_HIST, history, history_);
    el_source(editor_, nullptr);  // ~/.editrc
    if (!file_.empty()) history(history_, &event, H_LOAD, file_.c_str());
  }

  ~terminal_reader() override {
    history_end(history_);
    el_end(editor_);
  }

  outcome read(std::string& line) override {
    int length = 0;
    errno = 0;
    el_set(editor_, EL_PREP_TERM,
           1);  // before the prompt: libedit itself does it behind, and keys in between are lost
    const char* text = el_gets(editor_, &length);
    if (interrupt_guard::pressed()) {
      interrupt_guard::clear();
      el_reset(editor_);
      static_cast<void>(::write(STDOUT_FILENO, "\n", 1) == 1);
      return outcome::interrupted;
    }
    if (text == nullptr || length <= 0) return outcome::end;
    line.assign(text, static_cast<std::size_t>(length));
    if (line.ends_with('\n')) line.pop_back();
    remember(line);
    return outcome::line;
  }

 private:
  // Saved with every line: a chat may end in any way.
  void remember(const std::string& line) {
    if (line.find_first_not_of(" \t") == line.npos) return;
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
    if (file_.empty()) return;
    std::error_code ignored;
    std::filesystem::create_directories(file_.parent_path(), ignored);
    history(history_, &event, H_SAVE, file_.c_str());
    std::filesystem::permissions(
        file_, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, ignored);
  }

  std::string prompt_;
  std::filesystem::path file_;
  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
};

class plain_reader : public line_reader {
 public:
  outcome read(std::string& line) override {
    while (true) {
      if (const auto end = held_.find('\n'); end != held_.npos) {
        line = held_.substr(0, end);
        held_.erase(0, end + 1);
        return outcome::line;
      }
      if (!interrupt_guard::wait_for(STDIN_FILENO)) return interrupt_guard::clear(), outcome::interrupted;
      char buffer[4096];
      const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) continue;
      if (n > 0) {
        held_.append(buffer, static_cast<std::size_t>(n));
      } else if (held_.empty()) {
        return outcome::end;
      } else {
        held_ += '\n';  // the last line has no end
      }
    }
  }

 private:
  std::string held_;
};

}  // namespace

std::unique_ptr<line_reader> make_terminal_reader(const std::string& prompt,
                                                  const std::filesystem::path& history) {
  return std::make_unique<terminal_reader>(prompt, history);
}

std::unique_ptr<line_reader> make_plain_reader() {
  return std::make_unique<plain_reader>();
}

std::filesystem::path chat_history_file() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0')
    return std::filesystem::path(state) / "troupe" / "chat_history";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
    return std::filesystem::path(home) / ".local" / "state" / "troupe" / "chat_history";
  return {};
}

}  // namespace troupe::cli
