// What one rendering may still use. Every part of the interpreter pays here before it works or allocates.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "actors/tokenizer/chat_template.hpp"

namespace troupe::text::jinja {

// How an error leaves the interpreter: thrown inside it, caught by chat_template::parse and ::render.
struct failure {
  std::string text;
  int line = 0;         // 0: the line that is being worked on
  bool raised = false;  // by the template itself, through raise_exception
};

template <class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> text, Args&&... args) {
  throw failure{fmt::format(text, std::forward<Args>(args)...)};
}

class budget {
 public:
  explicit budget(const template_limits& limits) : limits_(limits) {}

  void step(std::size_t n = 1) {
    if (n > limits_.steps - steps_) raise("the template needs more than {} steps", limits_.steps);
    steps_ += n;
  }

  // Text of that many bytes is about to be made or looked through; longer text counts as several steps.
  void bytes(std::size_t n) { step(n / 64); }

  // No single text may be longer than the output.
  void fits(std::size_t n) const {
    if (n > limits_.output_bytes)
      raise("the template makes text of more than {} bytes", limits_.output_bytes);
  }

  // Text of that many bytes will be kept.
  void make_bytes(std::size_t n) {
    fits(n);
    bytes(n);
  }

  std::size_t depth_limit() const { return limits_.depth; }

  // One level of nesting, for as long as it lives.
  class level {
   public:
    explicit level(budget& b) : budget_(b) {
      if (budget_.depth_ >= budget_.limits_.depth)
        raise("nested more than {} levels deep", budget_.limits_.depth);
      ++budget_.depth_;
    }
    ~level() { --budget_.depth_; }
    level(const level&) = delete;
    level& operator=(const level&) = delete;

   private:
    budget& budget_;
  };

 private:
  const template_limits& limits_;
  std::size_t steps_ = 0;
  std::size_t depth_ = 0;
};

}  // namespace troupe::text::jinja
