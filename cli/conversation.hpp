// What a chat remembers, and its /commands. No terminal and no server in here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <troupe/client.hpp>
#include <vector>

#include "cli/sampling_flags.hpp"
#include "kernel/base/result.hpp"

namespace troupe::cli {

class conversation {
 public:
  conversation(sampling_flags sampling, std::string system, std::string model);

  // A line that begins with a slash and is no question. "//x" is the question "/x".
  static bool is_command(std::string_view line);

  struct reply {
    std::string text;    // to show
    bool leave = false;  // the chat is over
  };
  // Error: invalid_request (unknown command, with the nearest), and what /save can run into.
  result<reply> command(std::string_view line);

  // The request for the next answer, the question being its last message.
  result<client::generate_request> ask(std::string_view question) const;
  // The question was answered (perhaps only in part: cancelled). An empty answer is forgotten with its question.
  void answered(std::string_view question, std::string answer, const client::final_message& end);

  const std::vector<client::chat_message>& messages() const { return messages_; }
  bool shows_usage() const { return shows_usage_; }

 private:
  result<reply> set(std::string_view rest);
  result<reply> save(std::string_view file) const;
  std::vector<client::chat_message> with_system() const;

  sampling_flags sampling_;
  std::string system_;
  std::string model_;
  std::vector<client::chat_message> messages_;
  std::optional<client::usage_report> last_usage_;
  bool shows_usage_ = false;
};

}  // namespace troupe::cli
