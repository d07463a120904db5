// "decoder" of tokenizer.json: tokens back to text. Every decoder is a chain of stages that take one token at
// a time and give out what is certain; decoding a whole sequence is the same chain, run to its end. So the
// text of a stream is the text of its ids by construction.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "actors/tokenizer/json_reader.hpp"

namespace troupe::text {

// One stage of one running stream. One thread.
class decoder_stage {
 public:
  using sink = std::function<void(std::string_view)>;
  virtual ~decoder_stage() = default;
  // A whole token, or (behind a stage that joins them) the next part of the only one.
  virtual void push(std::string_view token, const sink& out) = 0;
  virtual void finish(const sink& /*out*/) {}
};

// Immutable settings of a stage, shared by all streams.
struct decoder_step {
  std::function<std::unique_ptr<decoder_stage>()> start;
  // What the stage makes of one token in the middle of a text; may be bytes that are no UTF-8. Empty
  // function: itself.
  std::function<std::string(const std::string&)> middle;
  bool gives_bytes = false;  // `middle` is final: what follows deals with text, not bytes
};

// A running chain. One thread.
class decoder_stream {
 public:
  explicit decoder_stream(const std::vector<decoder_step>& steps);
  std::string push(std::string_view token);
  std::string finish();

 private:
  void run(std::size_t stage, std::string_view token, std::string& out);
  std::vector<std::unique_ptr<decoder_stage>> stages_;
};

// Any thread.
class decoder {
 public:
  // Throws malformed. Null settings join the tokens with spaces.
  explicit decoder(const setting& s);

  decoder_stream start() const { return decoder_stream(steps_); }
  std::string in_text(std::string token) const;  // see tokenizer::token_bytes

 private:
  std::vector<decoder_step> steps_;
};

}  // namespace troupe::text
