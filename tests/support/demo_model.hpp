// A model as the actors know it: the Mixtral demo's tokenizer on a tiny Program, no weights.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "actors/host/prepared_model.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::test {

inline prepared_model_ptr demo_prepared(std::uint32_t id = 0, const std::string& name = "demo") {
  auto program = program::verify(tiny_program::bytes(tiny_program::make()));
  auto tokenizer = text::load_tokenizer(TROUPE_SOURCE_DIR "/demo/mixtral-demo");
  if (!program) throw std::runtime_error(program.error().text);
  if (!tokenizer) throw std::runtime_error(tokenizer.error().text);
  auto chat = text::chat_template::parse((*tokenizer)->chat_template());
  if (!chat) throw std::runtime_error(chat.error().text);
  prepared_model m{.id = {id}, .name = name, .checkpoint = {}, .module = {}, .program = *program};
  m.checkpoint.architecture = "TinyForCausalLM";
  m.tokenizer = *tokenizer;
  m.chat = *chat;
  m.eos_ids = {2};
  m.context_tokens = 128;
  m.vocabulary = 4096;
  return std::make_shared<const prepared_model>(std::move(m));
}

}  // namespace troupe::test
