// A demo model without weights, and requests to it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "actors/tokenizer/admission.hpp"
#include "actors/tokenizer/tokenizer.hpp"

namespace troupe::text::testing {

inline tokenizer_ptr demo_tokenizer() {
  static const tokenizer_ptr shared = [] {
    auto loaded = load_tokenizer(TROUPE_SOURCE_DIR "/demo/mixtral-demo");
    if (!loaded) throw std::runtime_error(loaded.error().text);
    return *loaded;
  }();
  return shared;
}

inline text_model demo_model() {
  text_model m;
  m.name = "demo";
  m.tokenizer = demo_tokenizer();
  if (auto chat = chat_template::parse(m.tokenizer->chat_template())) m.chat = std::move(*chat);
  m.eos_ids = {2};
  m.bos_id = 1;
  m.context_tokens = 128;
  m.vocabulary = 4096;
  return m;
}

inline wire::GenerateT text_request(const std::string& text) {
  wire::GenerateT g;
  wire::TextPromptT prompt;
  prompt.text = text;
  g.prompt.Set(std::move(prompt));
  return g;
}

inline wire::GenerateT id_request(std::vector<std::int32_t> ids) {
  wire::GenerateT g;
  wire::TokenPromptT prompt;
  prompt.ids = std::move(ids);
  g.prompt.Set(std::move(prompt));
  return g;
}

inline wire::GenerateT chat_request(const std::vector<std::pair<std::string, std::string>>& messages) {
  wire::GenerateT g;
  wire::ChatPromptT prompt;
  for (const auto& [role, content] : messages) {
    auto m = std::make_unique<wire::ChatMessageT>();
    m->role = role;
    m->content = content;
    prompt.messages.push_back(std::move(m));
  }
  g.prompt.Set(std::move(prompt));
  return g;
}

inline wire::SamplingT& sampling(wire::GenerateT& g) {
  if (!g.sampling) g.sampling = std::make_unique<wire::SamplingT>();
  return *g.sampling;
}

inline wire::StopConditionsT& stop(wire::GenerateT& g) {
  if (!g.stop) g.stop = std::make_unique<wire::StopConditionsT>();
  return *g.stop;
}

inline result<admitted_request> admit_it(const text_model& model, const wire::GenerateT& g,
                                         std::uint64_t seed = 7) {
  const auto m = message<wire::Generate>::pack(g);
  return admit(model, 1, *m, 1'000, [seed] { return seed; });
}

}  // namespace troupe::text::testing
