// How `troupe generate` shows an answer: text as it comes, or JSON for scripts.
#pragma once

#include <boost/json/object.hpp>
#include <memory>
#include <string>
#include <troupe/client.hpp>
#include <vector>

namespace troupe::cli {

struct writer_options {
  std::string model;  // as asked for; may be empty
  bool json = false;  // one object at the end; with `stream` a line per piece
  bool stream = false;
  std::uint32_t choices = 1;
  bool logprobs = false;  // text: a table of tokens after the answer
};

// Takes the pieces of one answer. False from either = the reader has gone.
class answer_writer {
 public:
  virtual ~answer_writer() = default;
  virtual bool add(const client::chunk& piece) = 0;
  virtual bool finish(const client::final_message& end) = 0;
};

// text, one choice    as it comes, a line break at the end
// text, several       each choice whole, in order, under a line "--- 2 of 3"
// json                {"model", "choices": [{"index", "text", "finish_reason", ...}], "usage", ...}
// json and stream     {"type": "chunk", ...} per piece, then {"type": "final", ...} with what the object above has but no text
std::unique_ptr<answer_writer> make_writer(const writer_options& options);

boost::json::object usage_json(const client::usage_report& u);
// "17 prompt tokens (0 cached), 9 generated in 0.21 s (43.0/s), first after 35 ms"
std::string usage_text(const client::usage_report& u);

}  // namespace troupe::cli
