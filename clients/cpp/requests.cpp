#include <algorithm>
#include <limits>

#include "messages.hpp"

namespace troupe::client {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

flatbuffers::DetachedBuffer finish(FlatBufferBuilder& builder, std::uint64_t id, wire::RequestBody type,
                                   Offset<void> body) {
  builder.Finish(wire::CreateClientRequest(builder, spoken_version, id, type, body));
  return builder.Release();
}

struct built_prompt {
  wire::Prompt type = wire::Prompt::NONE;
  Offset<void> table;
};

struct prompt_builder {
  FlatBufferBuilder& builder;

  built_prompt operator()(const text_prompt& p) const {
    auto text = builder.CreateString(p.text);
    return {wire::Prompt::TextPrompt, wire::CreateTextPrompt(builder, text, p.add_special_tokens).Union()};
  }
  built_prompt operator()(const chat_prompt& p) const {
    std::vector<Offset<wire::ChatMessage>> messages;
    for (const auto& m : p.messages) {
      auto role = builder.CreateString(m.role);
      auto content = builder.CreateString(m.content);
      messages.push_back(wire::CreateChatMessage(builder, role, content));
    }
    auto list = builder.CreateVector(messages);
    return {wire::Prompt::ChatPrompt, wire::CreateChatPrompt(builder, list, p.add_generation_prompt).Union()};
  }
  built_prompt operator()(const token_prompt& p) const {
    auto ids = builder.CreateVector(p.ids);
    return {wire::Prompt::TokenPrompt, wire::CreateTokenPrompt(builder, ids).Union()};
  }
};

Offset<wire::Sampling> build_sampling(FlatBufferBuilder& builder, const sampling_options& s) {
  std::vector<wire::LogitBias> biases;
  for (const auto& [token, bias] : s.logit_bias) biases.emplace_back(token, bias);
  auto bias_list = biases.empty() ? 0 : builder.CreateVectorOfStructs(biases);
  return wire::CreateSampling(builder, s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty,
                              s.presence_penalty, s.frequency_penalty, bias_list, s.seed.value_or(0),
                              s.seed.has_value());
}

Offset<wire::StopConditions> build_stop(FlatBufferBuilder& builder, const stop_conditions& s) {
  auto ids = s.token_ids.empty() ? 0 : builder.CreateVector(s.token_ids);
  auto strings = s.strings.empty() ? 0 : builder.CreateVectorOfStrings(s.strings);
  return wire::CreateStopConditions(builder, s.max_tokens, s.min_tokens, ids, strings, s.ignore_eos,
                                    s.include_stop_string);
}

Offset<flatbuffers::String> build_model(FlatBufferBuilder& builder, std::string_view model) {
  return model.empty() ? 0 : builder.CreateString(model.data(), model.size());
}

}  // namespace

flatbuffers::DetachedBuffer hello_request(std::uint64_t id, const std::string& name) {
  FlatBufferBuilder builder(128);
  auto text = builder.CreateString(name);
  return finish(builder, id, wire::RequestBody::Hello,
                wire::CreateHello(builder, spoken_version, spoken_version, text).Union());
}

flatbuffers::DetachedBuffer generate_message(std::uint64_t id, const generate_request& request) {
  FlatBufferBuilder builder(512);
  auto model = build_model(builder, request.model);
  auto prompt = std::visit(prompt_builder{builder}, request.prompt);
  Offset<wire::Sampling> sampling = request.sampling ? build_sampling(builder, *request.sampling) : 0;
  auto stop = build_stop(builder, request.stop);
  wire::GenerateBuilder body(builder);
  if (!model.IsNull()) body.add_model(model);
  body.add_prompt_type(prompt.type);
  body.add_prompt(prompt.table);
  if (!sampling.IsNull()) body.add_sampling(sampling);
  body.add_stop(stop);
  body.add_n(request.n);
  body.add_stream(request.stream);
  body.add_logprobs(request.logprobs);
  body.add_top_logprobs(request.top_logprobs);
  body.add_prompt_logprobs(request.prompt_logprobs);
  body.add_echo(request.echo);
  body.add_skip_special_tokens(request.skip_special_tokens);
  body.add_deadline_ms(static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(request.deadline.count(), 0, std::numeric_limits<std::uint32_t>::max())));
  return finish(builder, id, wire::RequestBody::Generate, body.Finish().Union());
}

flatbuffers::DetachedBuffer cancel_request(std::uint64_t id, std::uint64_t target) {
  FlatBufferBuilder builder(64);
  return finish(builder, id, wire::RequestBody::Cancel, wire::CreateCancel(builder, target).Union());
}

flatbuffers::DetachedBuffer tokenize_request(std::uint64_t id, const prompt_variant& prompt,
                                             std::string_view model) {
  FlatBufferBuilder builder(256);
  auto name = build_model(builder, model);
  auto built = std::visit(prompt_builder{builder}, prompt);
  return finish(builder, id, wire::RequestBody::Tokenize,
                wire::CreateTokenize(builder, name, built.type, built.table).Union());
}

flatbuffers::DetachedBuffer detokenize_request(std::uint64_t id, const std::vector<std::int32_t>& ids,
                                               bool skip_special_tokens, std::string_view model) {
  FlatBufferBuilder builder(256);
  auto name = build_model(builder, model);
  auto list = builder.CreateVector(ids);
  return finish(builder, id, wire::RequestBody::Detokenize,
                wire::CreateDetokenize(builder, name, list, skip_special_tokens).Union());
}

flatbuffers::DetachedBuffer models_request(std::uint64_t id) {
  FlatBufferBuilder builder(64);
  return finish(builder, id, wire::RequestBody::ListModels, wire::CreateListModels(builder).Union());
}

flatbuffers::DetachedBuffer status_request(std::uint64_t id) {
  FlatBufferBuilder builder(64);
  return finish(builder, id, wire::RequestBody::ServerStatus, wire::CreateServerStatus(builder).Union());
}

}  // namespace troupe::client
