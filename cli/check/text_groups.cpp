#include "cli/check/text_groups.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <boost/json/serialize.hpp>

#include "actors/tokenizer/chat_template.hpp"

namespace troupe::check {
namespace json = boost::json;
namespace {

using ids_t = std::vector<std::int32_t>;

std::string in_quotes(std::string_view text) {
  return json::serialize(json::value(json::string(text)));
}

std::string ids_differ(std::string_view what, const ids_t& expected, const ids_t& found) {
  return expected == found ? "" : fmt::format("{}: expected {}, found {}", what, expected, found);
}

std::string texts_differ(std::string_view what, const std::string& expected, const std::string& found) {
  return expected == found
             ? ""
             : fmt::format("{}: expected {}, found {}", what, in_quotes(expected), in_quotes(found));
}

// The first of several complaints.
template <class... Rest>
std::string first(std::string problem, Rest... rest) {
  if constexpr (sizeof...(rest) == 0)
    return problem;
  else
    return problem.empty() ? first(std::move(rest)...) : problem;
}

std::string decode_in_pieces(const text::tokenizer_ptr& tokenizer, const ids_t& ids,
                             bool skip_special_tokens) {
  text::incremental_decoder decoder(tokenizer, skip_special_tokens);
  std::string out;
  for (const std::int32_t id : ids) out += decoder.push(id);
  return out + decoder.finish();
}

std::string check_decoding(const text::tokenizer_ptr& t, const ids_t& ids, const std::string& decoded,
                           const std::string& decoded_skip_special) {
  return first(texts_differ("decoded", decoded, t->decode(ids, false)),
               texts_differ("decoded without special tokens", decoded_skip_special, t->decode(ids, true)),
               texts_differ("decoded token by token", decoded, decode_in_pieces(t, ids, false)),
               texts_differ("decoded token by token without special tokens", decoded_skip_special,
                            decode_in_pieces(t, ids, true)));
}

std::string check_render(const text::chat_template& chat, const text::tokenizer& t, const template_case& c) {
  const json::object variables{
      {"messages", c.messages},     {"add_generation_prompt", c.add_generation_prompt},
      {"bos_token", t.bos_token()}, {"eos_token", t.eos_token()},
      {"unk_token", t.unk_token()}, {"pad_token", t.pad_token()}};
  const auto rendered = chat.render(variables);
  if (c.error) {
    if (rendered)
      return fmt::format("expected the error {}, found the text {}", in_quotes(*c.error),
                         in_quotes(*rendered));
    if (rendered.error().text.find(*c.error) == std::string::npos)
      return fmt::format("expected the error {}, found {}", in_quotes(*c.error),
                         in_quotes(rendered.error().text));
    return "";
  }
  if (!rendered)
    return fmt::format("expected {}, found the error {}", in_quotes(c.rendered), rendered.error().text);
  return first(texts_differ("rendered", c.rendered, *rendered),
               ids_differ("ids", c.ids, t.encode(*rendered, false)));
}

}  // namespace

group check_tokenizer(const tokenizer_cases& cases, const std::vector<prompt_case>& prompts,
                      const text::tokenizer_ptr& tokenizer, const progress& report) {
  group out("tokenizer");
  const std::size_t total = cases.strings.size() + cases.decode.size() + prompts.size();
  for (std::size_t i = 0; i < cases.strings.size(); ++i) {
    const string_case& c = cases.strings[i];
    out.add(fmt::format("string {} {}", i, c.raw_bytes ? "(raw bytes)" : in_quotes(c.text)),
            first(ids_differ("ids", c.ids, tokenizer->encode(c.text, false)),
                  ids_differ("ids with special tokens", c.ids_with_special, tokenizer->encode(c.text, true)),
                  check_decoding(tokenizer, c.ids, c.decoded, c.decoded_skip_special)));
    report(out.name(), out.cases(), total);
  }
  for (std::size_t i = 0; i < cases.decode.size(); ++i) {
    const decode_case& c = cases.decode[i];
    out.add(fmt::format("ids {}", i), check_decoding(tokenizer, c.ids, c.decoded, c.decoded_skip_special));
    report(out.name(), out.cases(), total);
  }
  for (const prompt_case& p : prompts) {
    // An empty text of a tokenizer without a leading special token has no ids; the reference was fed another
    // one.
    if (!p.text || p.text->empty()) continue;
    out.add("prompt " + p.id, ids_differ("ids with special tokens", p.ids, tokenizer->encode(*p.text, true)));
  }
  return out;
}

group check_template(const std::vector<template_case>& cases, const std::vector<prompt_case>& prompts,
                     const text::tokenizer_ptr& tokenizer, const progress& report) {
  group out("template");
  if (tokenizer->chat_template().empty()) {
    out.block("the checkpoint brings no chat template (tokenizer_config.json: chat_template)");
    return out;
  }
  const auto chat = text::chat_template::parse(tokenizer->chat_template());
  if (!chat) {
    out.block(chat.error().text);
    return out;
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    out.add(fmt::format("case {}", i), check_render(*chat, *tokenizer, cases[i]));
    report(out.name(), out.cases(), cases.size() + prompts.size());
  }
  for (const prompt_case& p : prompts)
    if (p.messages)
      out.add("prompt " + p.id, check_render(*chat, *tokenizer, {*p.messages, true, p.rendered, p.ids, {}}));
  return out;
}

}  // namespace troupe::check
