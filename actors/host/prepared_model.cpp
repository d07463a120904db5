#include "actors/host/prepared_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernel/config/config.hpp"
#include "kernel/program/native_ops.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace {

tl::unexpected<error> about(const std::string& model, const error& e) {
  return fail(e.code, "model {}: {}", model, e.text);
}

// A template that this server cannot run costs the chat requests, not the model.
std::optional<text::chat_template> find_template(const std::string& model, const text::tokenizer& tokenizer,
                                                 const program::Facts& facts) {
  std::string source = tokenizer.chat_template();
  if (source.empty() && facts.chat_template()) source = facts.chat_template()->str();
  if (source.empty()) return std::nullopt;
  auto parsed = text::chat_template::parse(source);
  if (parsed) return std::move(*parsed);
  log::warning("host", "chat template not usable; chat requests will be refused",
               {{"model", model}, {"reason", parsed.error().text}});
  return std::nullopt;
}

std::vector<std::int32_t> find_eos(const checkpoint::generation_defaults& defaults,
                                   const program::Facts& facts) {
  if (!defaults.eos_ids.empty()) return defaults.eos_ids;
  if (facts.eos_ids()) return {facts.eos_ids()->begin(), facts.eos_ids()->end()};
  return {};
}

}  // namespace

result<prepared_model_ptr> prepare_model(const model_request& request, const modules::registry& known) {
  const std::string name = config::name_of({.name = request.name, .path = request.checkpoint});
  auto config = checkpoint::read_config(request.checkpoint);
  if (!config) return about(name, config.error());
  auto module = known.find(config->architecture);
  if (!module) return about(name, module.error());
  auto program = (*module)->build(config->config_json);
  if (!program) return about(name, program.error());
  if (program::has_native_ops(**program) && !(*module)->trust())
    return about(name, (*module)->trust().error());
  auto tokenizer = text::load_tokenizer(request.checkpoint);
  if (!tokenizer) return about(name, tokenizer.error());

  const program::Facts& facts = *(*program)->facts();
  const auto tokens = static_cast<std::uint32_t>((*tokenizer)->vocabulary_size());
  if (tokens > facts.vocabulary())
    return about(name, {error_code::bad_checkpoint,
                        fmt::format("tokenizer.json has {} tokens, but config.json says vocab_size {}",
                                    tokens, facts.vocabulary())});
  const std::uint32_t context = request.max_context == 0
                                    ? facts.context_tokens()
                                    : std::min(request.max_context, facts.context_tokens());
  auto chat = find_template(name, **tokenizer, facts);
  auto eos = find_eos(config->generation, facts);
  return std::make_shared<const prepared_model>(prepared_model{
      .id = request.id,
      .name = name,
      .checkpoint = std::move(*config),
      .module = std::move(*module),
      .program = *program,
      .tokenizer = std::move(*tokenizer),
      .chat = std::move(chat),
      .eos_ids = std::move(eos),
      .context_tokens = context,
      .vocabulary = facts.vocabulary(),
      .parameters = program::count_parameters(**program).total,
  });
}

}  // namespace troupe
