#include "cli/conversation.hpp"

#include <fmt/format.h>

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fstream>

#include "cli/answer_writer.hpp"
#include "kernel/base/text.hpp"

namespace troupe::cli {
namespace {

constexpr const char* help =
    "/help              this list\n"
    "/reset             forget the conversation, keep system message and settings\n"
    "/system [text]     set the system message and begin anew; without a text: show it; /system - removes "
    "it\n"
    "/set [name value]  temperature, top_p, top_k, min_p, max_tokens, seed, ...; without a value: back to "
    "the\n"
    "                   checkpoint's own; without a name: show what is set\n"
    "/usage             tokens and times of the last answer; /usage on | off: after every answer\n"
    "/save file         write the conversation as JSON messages (for generate --messages)\n"
    "/quit              leave, as Ctrl-D does\n"
    "Ctrl-C cancels an answer. A line that begins with // is a question that begins with /.\n";

const std::vector<std::string> commands{"/help", "/reset", "/system", "/set", "/usage", "/save", "/quit"};

std::string_view trimmed(std::string_view s) {
  const auto begin = s.find_first_not_of(" \t");
  if (begin == s.npos) return {};
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

// "/set temperature 0" -> "/set" and "temperature 0"
std::pair<std::string_view, std::string_view> first_word(std::string_view s) {
  s = trimmed(s);
  const auto space = s.find_first_of(" \t");
  if (space == s.npos) return {s, {}};
  return {s.substr(0, space), trimmed(s.substr(space))};
}

}  // namespace

conversation::conversation(sampling_flags sampling, std::string system, std::string model)
    : sampling_(std::move(sampling)), system_(std::move(system)), model_(std::move(model)) {}

bool conversation::is_command(std::string_view line) {
  return line.starts_with('/') && !line.starts_with("//");
}

result<conversation::reply> conversation::command(std::string_view line) {
  const auto [word, rest] = first_word(line);
  if (word == "/help" || word == "/?") return reply{help};
  if (word == "/quit" || word == "/exit") return reply{"", true};
  if (word == "/set") return set(rest);
  if (word == "/save") return save(rest);
  if (word == "/reset") {
    messages_.clear();
    return reply{"(the conversation begins anew)\n"};
  }
  if (word == "/system") {
    if (rest.empty()) return reply{system_.empty() ? "(no system message)\n" : system_ + "\n"};
    system_ = rest == "-" ? "" : std::string(rest);
    messages_.clear();
    return reply{"(the conversation begins anew)\n"};
  }
  if (word == "/usage") {
    if (rest == "on" || rest == "off") {
      shows_usage_ = rest == "on";
      return reply{""};
    }
    return reply{last_usage_ ? usage_text(*last_usage_) + "\n" : "(nothing has been answered yet)\n"};
  }
  const std::string near = nearest(word, commands);
  return fail(error_code::invalid_request, "unknown command {}{}; /help lists them", word,
              near.empty() ? "" : fmt::format(", did you mean {}?", near));
}

result<conversation::reply> conversation::set(std::string_view rest) {
  auto [name, value] = first_word(rest);
  if (name.empty()) return reply{fmt::format("({})\n", describe(sampling_))};
  if (value.starts_with('=')) value = trimmed(value.substr(1));
  if (auto done = set_sampling(sampling_, name, value); !done) return fail(done.error());
  return reply{fmt::format("({})\n", describe(sampling_))};
}

result<conversation::reply> conversation::save(std::string_view file) const {
  if (file.empty()) return fail(error_code::invalid_request, "/save: expected the name of a file");
  boost::json::array list;
  for (const auto& m : with_system())
    list.push_back(boost::json::object{{"role", m.role}, {"content", m.content}});
  std::ofstream out{std::string(file)};
  out << boost::json::serialize(list) << "\n";
  out.close();
  if (!out) return fail(error_code::not_found, "/save: {} cannot be written", file);
  return reply{fmt::format("({} messages written to {})\n", list.size(), file)};
}

std::vector<client::chat_message> conversation::with_system() const {
  std::vector<client::chat_message> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return all;
}

result<client::generate_request> conversation::ask(std::string_view question) const {
  auto sampling = sampling_of(sampling_);
  if (!sampling) return fail(sampling.error());
  client::chat_prompt chat{with_system()};
  chat.messages.push_back({"user", std::string(question)});
  client::generate_request r;
  r.model = model_;
  r.prompt = std::move(chat);
  r.sampling = std::move(*sampling);
  r.stop = stop_of(sampling_);
  return r;
}

void conversation::answered(std::string_view question, std::string answer, const client::final_message& end) {
  last_usage_ = end.usage;
  if (answer.empty()) return;
  messages_.push_back({"user", std::string(question)});
  messages_.push_back({"assistant", std::move(answer)});
}

}  // namespace troupe::cli
