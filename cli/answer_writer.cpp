#include "cli/answer_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <iterator>

#include "cli/output.hpp"

namespace troupe::cli {
namespace json = boost::json;
namespace {

json::value number(float x) {
  return std::isfinite(x) ? json::value(static_cast<double>(x)) : json::value(nullptr);
}

// {"id", "text", "logprob", "top": [{"id", "logprob"}]}; "bytes" too where a token is only part of a character.
json::object token_json(const client::token_logprob& t) {
  json::object o{{"id", t.token}, {"text", valid_utf8(t.bytes)}, {"logprob", number(t.logprob)}};
  if (valid_utf8(t.bytes) != t.bytes) {
    json::array bytes;
    for (const char c : t.bytes) bytes.emplace_back(static_cast<unsigned char>(c));
    o["bytes"] = std::move(bytes);
  }
  if (!t.top.empty()) {
    json::array top;
    for (const auto& a : t.top) top.push_back(json::object{{"id", a.token}, {"logprob", number(a.logprob)}});
    o["top"] = std::move(top);
  }
  return o;
}

json::array tokens_json(const std::vector<client::token_logprob>& tokens) {
  json::array out;
  for (const auto& t : tokens) out.push_back(token_json(t));
  return out;
}

json::object end_json(const client::choice_end& e) {
  json::object o{{"index", e.choice},
                 {"finish_reason", std::string(wire::EnumNameFinishReason(e.finish))},
                 {"generated_tokens", e.generated_tokens},
                 {"seed", e.seed}};
  if (e.stop_token >= 0) o["stop_token"] = e.stop_token;
  if (!e.stop_string.empty()) o["stop_string"] = e.stop_string;
  return o;
}

std::string tokens_text(const char* what, const std::vector<client::token_logprob>& tokens) {
  std::vector<std::vector<std::string>> rows{{what, "TEXT", "LOGPROB", "ALTERNATIVES"}};
  for (const auto& t : tokens) {
    std::string others;
    for (const auto& a : t.top) fmt::format_to(std::back_inserter(others), "{}:{:.3f} ", a.token, a.logprob);
    rows.push_back({std::to_string(t.token), "'" + escaped(valid_utf8(t.bytes)) + "'",
                    std::isnan(t.logprob) ? "-" : fmt::format("{:.4f}", t.logprob), others});
  }
  return table(rows);
}

// What has come of one choice.
struct choice_so_far {
  std::string text;
  std::vector<client::token_logprob> tokens;
};

class collecting_writer : public answer_writer {
 public:
  explicit collecting_writer(const writer_options& o) : options_(o), choices_(o.choices) {}

  bool add(const client::chunk& piece) override {
    if (piece.choice >= choices_.size()) choices_.resize(piece.choice + 1);
    choice_so_far& c = choices_[piece.choice];
    c.text += piece.text;
    c.tokens.insert(c.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    prompt_.insert(prompt_.end(), piece.prompt.begin(), piece.prompt.end());
    return true;
  }

 protected:
  writer_options options_;
  std::vector<choice_so_far> choices_;
  std::vector<client::token_logprob> prompt_;
};

class text_writer : public collecting_writer {
 public:
  using collecting_writer::collecting_writer;

  bool add(const client::chunk& piece) override {
    collecting_writer::add(piece);
    return options_.choices > 1 || write_out(piece.text);
  }

  bool finish(const client::final_message&) override {
    std::string out;
    if (options_.choices <= 1) {
      const std::string& text = choices_.front().text;
      if (text.empty() || text.back() != '\n') out += "\n";
      out += details(choices_.front());
    } else {
      for (std::size_t i = 0; i < choices_.size(); ++i)
        out += fmt::format("--- {} of {}\n{}\n{}", i + 1, choices_.size(), choices_[i].text,
                           details(choices_[i]));
    }
    return write_out(out);
  }

 private:
  std::string details(const choice_so_far& c) {
    std::string out;
    if (!prompt_.empty()) out += "\n" + tokens_text("PROMPT", prompt_);
    prompt_.clear();
    if (!c.tokens.empty()) out += "\n" + tokens_text("TOKEN", c.tokens);
    return out;
  }
};

class json_writer : public collecting_writer {
 public:
  using collecting_writer::collecting_writer;

  bool finish(const client::final_message& end) override {
    json::array choices;
    for (const client::choice_end& e : end.choices) {
      json::object o = end_json(e);
      const choice_so_far c = e.choice < choices_.size() ? choices_[e.choice] : choice_so_far{};
      o["text"] = c.text;
      if (options_.logprobs) o["tokens"] = tokens_json(c.tokens);
      choices.push_back(std::move(o));
    }
    json::object out{
        {"model", options_.model}, {"choices", std::move(choices)}, {"usage", usage_json(end.usage)}};
    if (!prompt_.empty()) out["prompt"] = tokens_json(prompt_);
    return write_json(out);
  }
};

class json_lines_writer : public answer_writer {
 public:
  explicit json_lines_writer(const writer_options& o) : options_(o) {}

  bool add(const client::chunk& piece) override {
    json::object o{{"type", "chunk"}, {"choice", piece.choice}, {"text", piece.text}};
    if (options_.logprobs) o["tokens"] = tokens_json(piece.tokens);
    if (!piece.prompt.empty()) o["prompt"] = tokens_json(piece.prompt);
    return write_json(o);
  }

  bool finish(const client::final_message& end) override {
    json::array choices;
    for (const client::choice_end& e : end.choices) choices.push_back(end_json(e));
    return write_json(json::object{{"type", "final"},
                                   {"model", options_.model},
                                   {"choices", std::move(choices)},
                                   {"usage", usage_json(end.usage)}});
  }

 private:
  writer_options options_;
};

}  // namespace

std::unique_ptr<answer_writer> make_writer(const writer_options& options) {
  if (options.json && options.stream) return std::make_unique<json_lines_writer>(options);
  if (options.json) return std::make_unique<json_writer>(options);
  return std::make_unique<text_writer>(options);
}

json::object usage_json(const client::usage_report& u) {
  return {{"prompt_tokens", u.prompt_tokens},       {"cached_tokens", u.cached_tokens},
          {"generated_tokens", u.generated_tokens}, {"queue_ms", u.queue_ms},
          {"first_token_ms", u.first_token_ms},     {"total_ms", u.total_ms}};
}

std::string usage_text(const client::usage_report& u) {
  const double decode_ms = std::max(u.total_ms - u.first_token_ms, 0.0);
  const std::string rate = u.generated_tokens > 1 && decode_ms > 0
                               ? fmt::format(" ({:.1f}/s)", (u.generated_tokens - 1) * 1000.0 / decode_ms)
                               : "";
  return fmt::format("{} prompt tokens ({} cached), {} generated in {:.2f} s{}, first after {:.0f} ms",
                     u.prompt_tokens, u.cached_tokens, u.generated_tokens, u.total_ms / 1000, rate,
                     u.first_token_ms);
}

}  // namespace troupe::cli
