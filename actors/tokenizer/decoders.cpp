#include "actors/tokenizer/decoders.hpp"

#include <algorithm>
#include <optional>

#include "actors/tokenizer/normalizers.hpp"
#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

// "<0x0A>" -> '\n'
std::optional<char> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(static_cast<unsigned char>(value));
}

// Stages without memory.
class each_token : public decoder_stage {
 public:
  explicit each_token(std::function<std::string(std::string_view)> f) : f_(std::move(f)) {}
  void push(std::string_view token, const sink& out) override { out(f_(token)); }

 private:
  std::function<std::string(std::string_view)> f_;
};

// A stage that needs whole tokens, behind one that joins them: waits for the end.
class whole_text : public decoder_stage {
 public:
  explicit whole_text(std::unique_ptr<decoder_stage> inner) : inner_(std::move(inner)) {}
  void push(std::string_view token, const sink&) override { text_.append(token); }
  void finish(const sink& out) override {
    inner_->push(text_, out);
    inner_->finish(out);
  }

 private:
  std::unique_ptr<decoder_stage> inner_;
  std::string text_;
};

// Byte tokens in a row are one text if all of them together are valid UTF-8; if not, each is one U+FFFD. So a
// run is held until it ends or until it can no longer become valid.
class byte_fallback : public decoder_stage {
 public:
  void push(std::string_view token, const sink& out) override {
    if (const auto byte = byte_token(token)) {
      add(*byte, out);
      return;
    }
    finish(out);
    out(token);
  }

  void finish(const sink& out) override {
    if (checked_ == run_.size()) {
      if (!run_.empty()) out(run_);
    } else {
      give_up(out);
    }
    run_.clear();
    checked_ = 0;
    bad_ = false;
  }

 private:
  void add(char byte, const sink& out) {
    if (bad_) {
      out(utf8::replacement);
      return;
    }
    run_.push_back(byte);
    const auto c = utf8::read(std::string_view(run_).substr(checked_));
    if (c.valid) {
      checked_ = run_.size();
    } else if (!c.incomplete) {
      give_up(out);
      bad_ = true;
    }
  }

  void give_up(const sink& out) {
    for (std::size_t i = 0; i < run_.size(); ++i) out(utf8::replacement);
    run_.clear();
    checked_ = 0;
  }

  std::string run_;
  std::size_t checked_ = 0;  // bytes of the run that are whole code points
  bool bad_ = false;
};

class byte_level : public decoder_stage {
 public:
  void push(std::string_view token, const sink& out) override {
    held_ += letters_to_bytes(token);
    const std::size_t tail = utf8::incomplete_tail(held_);
    if (tail == held_.size()) return;
    const std::size_t ready = held_.size() - tail;
    out(utf8::sanitize(std::string_view(held_).substr(0, ready)));
    held_.erase(0, ready);
  }
  void finish(const sink& out) override {
    out(utf8::sanitize(held_));
    held_.clear();
  }

 private:
  std::string held_;
};

struct strip_settings {
  std::string content;  // one code point
  std::size_t start = 0;
  std::size_t stop = 0;
};

std::string strip_one(std::string_view token, const strip_settings& s) {
  for (std::size_t i = 0; i < s.start && token.starts_with(s.content); ++i)
    token.remove_prefix(s.content.size());
  for (std::size_t i = 0; i < s.stop && token.ends_with(s.content); ++i)
    token.remove_suffix(s.content.size());
  return std::string(token);
}

// Strip behind a joining stage: the ends of the whole text.
class strip_ends : public decoder_stage {
 public:
  explicit strip_ends(strip_settings s) : settings_(std::move(s)), to_skip_(settings_.start) {}

  void push(std::string_view token, const sink& out) override {
    while (to_skip_ > 0 && !token.empty()) {
      const bool skips = token.starts_with(settings_.content);
      if (skips) token.remove_prefix(settings_.content.size());
      to_skip_ = skips ? to_skip_ - 1 : 0;
    }
    if (settings_.stop == 0) {
      if (!token.empty()) out(token);
      return;
    }
    held_.append(token);
    std::size_t kept = 0;
    while (kept < settings_.stop && std::string_view(held_)
                                        .substr(0, held_.size() - kept * settings_.content.size())
                                        .ends_with(settings_.content)) {
      ++kept;
    }
    const std::size_t ready = held_.size() - kept * settings_.content.size();
    out(std::string_view(held_).substr(0, ready));
    held_.erase(0, ready);
  }

 private:
  strip_settings settings_;
  std::size_t to_skip_;
  std::string held_;  // at most `stop` times the content; dropped at the end
};

// Replace of a plain string behind a joining stage: holds back what may begin a match.
class replace_joined : public decoder_stage {
 public:
  replace_joined(std::string what, std::string by) : what_(std::move(what)), by_(std::move(by)) {}

  void push(std::string_view token, const sink& out) override {
    held_.append(token);
    std::string ready;
    std::size_t at = 0;
    for (auto hit = held_.find(what_); hit != std::string::npos; hit = held_.find(what_, at)) {
      ready.append(held_, at, hit - at).append(by_);
      at = hit + what_.size();
    }
    std::size_t keep = std::min(what_.size() - 1, held_.size() - at);
    while (keep > 0 && !what_.starts_with(std::string_view(held_).substr(held_.size() - keep))) --keep;
    ready.append(held_, at, held_.size() - keep - at);
    held_.erase(0, held_.size() - keep);
    if (!ready.empty()) out(ready);
  }
  void finish(const sink& out) override { out(held_); }

 private:
  std::string what_;
  std::string by_;
  std::string held_;
};

std::string metaspace(std::string_view token, const std::string& mark, std::string_view by) {
  std::string out;
  while (!token.empty()) {
    const auto c = utf8::read_valid(token);
    const std::string_view letter = token.substr(0, c.bytes);
    out.append(letter == mark ? by : letter);
    token.remove_prefix(c.bytes);
  }
  return out;
}

// The first token loses its marks, in all others they are spaces.
class metaspace_stage : public decoder_stage {
 public:
  metaspace_stage(std::string mark, bool first_loses) : mark_(std::move(mark)), first_(first_loses) {}
  void push(std::string_view token, const sink& out) override {
    out(metaspace(token, mark_, first_ ? "" : " "));
    first_ = false;
  }

 private:
  std::string mark_;
  bool first_;
};

class joined_by_spaces : public decoder_stage {
 public:
  void push(std::string_view token, const sink& out) override {
    if (!first_) out(" ");
    first_ = false;
    out(token);
  }

 private:
  bool first_ = true;
};

// `joined`: the stages before made one token of all.
decoder_step waiting(decoder_step step, bool joined) {
  if (!joined) return step;
  auto inner = std::move(step.start);
  step.start = [inner] { return std::make_unique<whole_text>(inner()); };
  return step;
}

decoder_step make_replace(const setting& s, bool joined) {
  const text_pattern pattern = make_pattern(s.at("pattern"));
  const std::string by = s.at("content").string();
  decoder_step step;
  step.middle = [pattern, by](const std::string& token) { return pattern.replace(token, by); };
  if (joined && pattern.is_plain && !pattern.plain.empty()) {
    step.start = [pattern, by] { return std::make_unique<replace_joined>(pattern.plain, by); };
    return step;
  }
  step.start = [pattern, by] {
    return std::make_unique<each_token>([pattern, by](std::string_view t) { return pattern.replace(t, by); });
  };
  return waiting(std::move(step), joined);
}

decoder_step make_strip(const setting& s, bool joined) {
  strip_settings settings;
  utf8::append(settings.content, s.at("content").character());
  settings.start = s.at("start").count();
  settings.stop = s.at("stop").count();
  if (joined) return {[settings] { return std::make_unique<strip_ends>(settings); }, {}, false};
  const auto strip = [settings](std::string_view t) { return strip_one(t, settings); };
  return {[strip] { return std::make_unique<each_token>(strip); }, strip, false};
}

decoder_step make_metaspace(const setting& s, bool joined) {
  std::string mark;
  utf8::append(mark, s.has("replacement") ? s.at("replacement").character() : U'\u2581');
  const bool prefixed =
      s.boolean_or("add_prefix_space", true) && s.string_or("prepend_scheme", "always") != "never";
  return waiting({[mark, prefixed] { return std::make_unique<metaspace_stage>(mark, prefixed); },
                  [mark](const std::string& t) { return metaspace(t, mark, " "); }, false},
                 joined);
}

void add_steps(const setting& s, bool& joined, std::vector<decoder_step>& steps) {
  const std::string type =
      s.type({"Sequence", "Replace", "ByteFallback", "Fuse", "Strip", "ByteLevel", "Metaspace"});
  if (type == "Sequence") {
    for (const auto& item : s.at("decoders").items()) add_steps(item, joined, steps);
  } else if (type == "Replace") {
    steps.push_back(make_replace(s, joined));
  } else if (type == "ByteFallback") {
    const auto raw = [](const std::string& t) { return byte_token(t) ? std::string(1, *byte_token(t)) : t; };
    steps.push_back(waiting({[] { return std::make_unique<byte_fallback>(); }, raw, false}, joined));
  } else if (type == "Fuse") {
    joined = true;
  } else if (type == "Strip") {
    steps.push_back(make_strip(s, joined));
  } else if (type == "ByteLevel") {
    steps.push_back(
        waiting({[] { return std::make_unique<byte_level>(); }, &letters_to_bytes, true}, joined));
    joined = true;
  } else {
    steps.push_back(make_metaspace(s, joined));
  }
}

}  // namespace

decoder_stream::decoder_stream(const std::vector<decoder_step>& steps) {
  for (const auto& step : steps) stages_.push_back(step.start());
}

void decoder_stream::run(std::size_t stage, std::string_view token, std::string& out) {
  if (stage == stages_.size()) {
    out.append(token);
    return;
  }
  stages_[stage]->push(token, [&](std::string_view t) { run(stage + 1, t, out); });
}

std::string decoder_stream::push(std::string_view token) {
  std::string out;
  run(0, token, out);
  return out;
}

std::string decoder_stream::finish() {
  std::string out;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    stages_[i]->finish([&](std::string_view t) { run(i + 1, t, out); });
  }
  return out;
}

decoder::decoder(const setting& s) {
  bool joined = false;
  if (s.is_null()) {
    steps_.push_back({[] { return std::make_unique<joined_by_spaces>(); },
                      [](const std::string& t) { return " " + t; }, false});
  } else {
    add_steps(s, joined, steps_);
  }
}

std::string decoder::in_text(std::string token) const {
  for (const auto& step : steps_) {
    if (step.middle) token = step.middle(token);
    if (step.gives_bytes || !utf8::is_valid(token)) break;
  }
  return token;
}

}  // namespace troupe::text
