#include "actors/tokenizer/choice_text.hpp"

namespace troupe::text {

choice_text::choice_text(tokenizer_ptr tokenizer, choice_text_options options)
    : tokenizer_(std::move(tokenizer)),
      options_(std::move(options)),
      decoder_(tokenizer_, options_.skip_special_tokens),
      matcher_(options_.stop_strings, options_.include_stop_string) {}

void choice_text::echo(const std::vector<std::int32_t>& prompt) {
  for (const auto id : prompt) {
    auto piece = decoder_.push(id);
    decoded_ += piece.size();
    give(piece);
  }
}

bool choice_text::push(scored_token token) {
  if (ended_) return false;
  ++pushed_;
  auto piece = decoder_.push(token.token);
  waiting_.push_back({std::move(token), decoded_, decoded_ + piece.size()});
  return add_text(std::move(piece));
}

bool choice_text::finish() {
  if (ended_) return false;
  auto rest = decoder_.finish();
  if (!rest.empty() && !waiting_.empty()) waiting_.back().end += rest.size();
  if (add_text(std::move(rest))) return true;
  ended_ = true;
  give(matcher_.finish());
  for (auto& w : waiting_) ready_.push_back(std::move(w.token));
  waiting_.clear();
  return false;
}

std::string choice_text::take_text() {
  return std::exchange(text_, {});
}
std::vector<scored_token> choice_text::take_tokens() {
  return std::exchange(ready_, {});
}

bool choice_text::add_text(std::string piece) {
  decoded_ += piece.size();
  if (piece.empty()) return false;
  if (options_.stop_strings.empty() || pushed_ <= options_.min_tokens) {
    give(piece);
  } else {
    auto found = matcher_.push(piece);
    give(found.text);
    if (found.hit) {
      end_at_stop(std::move(*found.hit));
      return true;
    }
  }
  settle();
  return false;
}

void choice_text::give(const std::string& text) {
  given_ += text.size();
  text_ += text;
}

void choice_text::settle() {
  std::size_t count = 0;
  for (std::size_t i = 0; i < waiting_.size() && waiting_[i].end <= given_; ++i)
    if (waiting_[i].end > waiting_[i].begin) count = i + 1;
  for (; count > 0; --count) {
    ready_.push_back(std::move(waiting_.front().token));
    waiting_.pop_front();
  }
}

void choice_text::end_at_stop(std::string hit) {
  ended_ = true;
  hit_ = std::move(hit);
  for (auto& w : waiting_)
    if (w.begin < given_) ready_.push_back(std::move(w.token));
  waiting_.clear();
}

}  // namespace troupe::text
