// The text of one choice while it grows: decoding, stop strings, and which tokens the text given out was made of. Plain
// class, one thread.
//
// A token is given out with the text that it ends in: one that only holds part of a code point waits for the rest, and so
// does one whose text may be the beginning of a stop string. At a stop string the tokens are given of which at least one
// byte of text is given; those behind it never existed for the client. Tokens without text (special ones) go with the
// next text.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "actors/tokenizer/tokenizer.hpp"
#include "troupe/schemas/common_generated.h"

namespace troupe::text {

struct scored_token {
  std::int32_t token = 0;
  float logprob = 0;
  std::vector<wire::TokenAlternative> top;
};

struct choice_text_options {
  bool skip_special_tokens = true;
  bool include_stop_string = false;
  std::uint32_t min_tokens = 0;  // stop strings are looked for behind that many tokens
  std::vector<std::string> stop_strings;
};

class choice_text {
 public:
  choice_text(tokenizer_ptr tokenizer, choice_text_options options);

  // Before the first push: the text begins with that of `prompt`, and is decoded as its continuation. No stop string
  // is looked for in it, and its tokens are not given out.
  void echo(const std::vector<std::int32_t>& prompt);

  // Answers true if a stop string is complete with it: then the text is at its end.
  bool push(scored_token token);
  // No more tokens: gives out what was held back. Answers true if that completed a stop string.
  bool finish();

  // What may be given out now; both are moved out.
  std::string take_text();
  std::vector<scored_token> take_tokens();

  const std::optional<std::string>& stop_string() const { return hit_; }
  bool ended() const { return ended_; }

 private:
  struct waiting {
    scored_token token;
    std::size_t begin = 0;  // of its text, in bytes of all text decoded so far
    std::size_t end = 0;
  };

  bool add_text(std::string piece);
  void give(const std::string& text);
  void settle();  // moves tokens whose text is out to ready_
  void end_at_stop(std::string hit);

  tokenizer_ptr tokenizer_;
  choice_text_options options_;
  incremental_decoder decoder_;
  stop_matcher matcher_;
  std::deque<waiting> waiting_;
  std::vector<scored_token> ready_;
  std::string text_;         // may be given out
  std::size_t decoded_ = 0;  // bytes that the decoder has given
  std::size_t given_ = 0;    // bytes of them that may be given out
  std::uint32_t pushed_ = 0;
  bool ended_ = false;
  std::optional<std::string> hit_;
};

}  // namespace troupe::text
