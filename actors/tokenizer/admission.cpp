#include "actors/tokenizer/admission.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "actors/tokenizer/sampling_rules.hpp"

namespace troupe::text {
namespace {

result<std::string> render_chat(const text_model& model, const wire::ChatPrompt& chat) {
  if (!model.chat)
    return fail(error_code::invalid_request,
                "prompt: model {} has no chat template, so it takes no chat messages: send a TextPrompt or a "
                "TokenPrompt",
                model.name);
  if (chat.messages()->size() == 0)
    return fail(error_code::invalid_request, "prompt.messages: empty, expected at least one message");
  boost::json::array messages;
  for (flatbuffers::uoffset_t i = 0; i < chat.messages()->size(); ++i) {
    const auto* m = chat.messages()->Get(i);
    if (m->role()->size() == 0)
      return fail(error_code::invalid_request,
                  "prompt.messages[{}].role: empty, expected user, assistant or system", i);
    messages.push_back(
        boost::json::object{{"role", m->role()->string_view()}, {"content", m->content()->string_view()}});
  }
  // The names that the reference (transformers) passes, null ones included: templates ask `tools is not none`.
  boost::json::object variables = model.tokenizer->special_tokens();
  variables["messages"] = std::move(messages);
  variables["add_generation_prompt"] = chat.add_generation_prompt();
  variables["tools"] = nullptr;
  variables["documents"] = nullptr;
  return model.chat->render(variables);
}

// Text that is too long whatever its tokens will be is refused before it is encoded: megabytes take seconds.
result<encoded_prompt> encode_words(const text_model& model, std::string text, bool add_special_tokens,
                                    prompt_use use) {
  const std::uint64_t longest = model.tokenizer->longest_token_bytes();
  if (use == prompt_use::to_continue && longest != 0 && text.size() > model.context_tokens * longest)
    return fail(error_code::context_exceeded,
                "the prompt has {} bytes, and the {} tokens of the context of model {} hold at most {} each: "
                "shorten the prompt",
                text.size(), model.context_tokens, model.name, longest);
  encoded_prompt out;
  try {
    out.ids = model.tokenizer->encode(text, add_special_tokens);
  } catch (const cannot_tokenize& e) {
    return fail(error_code::invalid_request, "prompt: {}", e.what());
  }
  out.text = std::move(text);
  return out;
}

result<encoded_prompt> encode_text(const text_model& model, const wire::TextPrompt& prompt, prompt_use use) {
  return encode_words(model, prompt.text()->str(), prompt.add_special_tokens(), use);
}

result<encoded_prompt> encode_chat(const text_model& model, const wire::ChatPrompt& prompt, prompt_use use) {
  auto rendered = render_chat(model, prompt);
  if (!rendered) return fail(std::move(rendered.error()));
  return encode_words(model, std::move(*rendered), false,
                      use);  // the template has written the special tokens
}

result<encoded_prompt> take_ids(const text_model& model, const wire::TokenPrompt& prompt) {
  if (auto ok = check_ids(model, *prompt.ids(), "prompt.ids"); !ok) return fail(ok.error());
  encoded_prompt out;
  out.ids.assign(prompt.ids()->begin(), prompt.ids()->end());
  return out;
}

// A request without a prompt to continue is fed the beginning of sequence, if the model has one.
result<void> complete_empty(const text_model& model, wire::Prompt type, encoded_prompt& prompt) {
  if (!prompt.ids.empty()) return {};
  if (type == wire::Prompt::TokenPrompt)
    return fail(error_code::invalid_request, "prompt.ids: empty, expected at least one id");
  if (!model.bos_id)
    return fail(
        error_code::invalid_request,
        "prompt: empty, and model {} has no beginning-of-sequence token to start from: send some text",
        model.name);
  prompt.ids.push_back(*model.bos_id);
  return {};
}

result<void> check_counts(const wire::Generate& r, const admission_limits& limits) {
  if (r.n() < 1 || r.n() > limits.choices)
    return fail(error_code::invalid_request, "n: {} is outside 1 to {}", r.n(), limits.choices);
  if (r.top_logprobs() > limits.top_logprobs)
    return fail(error_code::invalid_request, "top_logprobs: {} is outside 0 to {}", r.top_logprobs(),
                limits.top_logprobs);
  if (r.top_logprobs() > 0 && !r.logprobs())
    return fail(error_code::invalid_request, "top_logprobs: {} alternatives asked for, but logprobs is false",
                r.top_logprobs());
  if (r.prompt_logprobs() < -1 || r.prompt_logprobs() > static_cast<std::int32_t>(limits.top_logprobs))
    return fail(error_code::invalid_request, "prompt_logprobs: {} is outside -1 to {}", r.prompt_logprobs(),
                limits.top_logprobs);
  return {};
}

// Sets max_tokens and min_tokens: what the context leaves, or less if less is asked for.
result<void> fit_context(const text_model& model, const wire::StopConditions* stop, admitted_request& out) {
  const std::uint32_t asked = stop ? stop->max_tokens() : 0;
  out.min_tokens = stop ? stop->min_tokens() : 0;
  if (asked != 0 && out.min_tokens > asked)
    return fail(error_code::invalid_request, "stop.min_tokens: {} is more than stop.max_tokens, {}",
                out.min_tokens, asked);
  const std::uint64_t least = std::max<std::uint64_t>(out.min_tokens, 1);
  if (out.prompt.size() + least > model.context_tokens)
    return fail(error_code::context_exceeded,
                "the prompt has {} tokens and at least {} must be generated, but the context of model {} is "
                "{} tokens: "
                "shorten the prompt",
                out.prompt.size(), least, model.name, model.context_tokens);
  const auto room = model.context_tokens - static_cast<std::uint32_t>(out.prompt.size());
  out.max_tokens = asked == 0 ? room : std::min(asked, room);
  return {};
}

void take_stops(const text_model& model, const wire::StopConditions* stop, admitted_request& out) {
  if (!stop || !stop->ignore_eos()) out.stop_ids = model.eos_ids;
  if (!stop) return;
  out.include_stop_string = stop->include_stop_string();
  if (const auto* ids = stop->token_ids())
    for (const auto id : *ids)
      if (std::ranges::find(out.stop_ids, id) == out.stop_ids.end()) out.stop_ids.push_back(id);
  if (const auto* strings = stop->strings())
    for (const auto* s : *strings) out.stop_strings.push_back(s->str());
}

}  // namespace

result<encoded_prompt> encode_prompt(const text_model& model, wire::Prompt type, const void* prompt,
                                     prompt_use use) {
  auto encoded = [&]() -> result<encoded_prompt> {
    switch (type) {
      case wire::Prompt::TextPrompt:
        return encode_text(model, *static_cast<const wire::TextPrompt*>(prompt), use);
      case wire::Prompt::ChatPrompt:
        return encode_chat(model, *static_cast<const wire::ChatPrompt*>(prompt), use);
      case wire::Prompt::TokenPrompt:
        return take_ids(model, *static_cast<const wire::TokenPrompt*>(prompt));
      case wire::Prompt::NONE:
        break;
    }
    return fail(error_code::invalid_request,
                "prompt: type {} is not known, expected TextPrompt, ChatPrompt or TokenPrompt",
                static_cast<int>(type));
  }();
  if (!encoded) return encoded;
  // Embeddings may be fewer than the tokenizer's words: such an id cannot be fed.
  for (const auto id : encoded->ids)
    if (static_cast<std::uint32_t>(id) >= model.vocabulary)
      return fail(error_code::invalid_request,
                  "prompt: contains token {}, which model {} does not have (0 to {})", id, model.name,
                  model.vocabulary - 1);
  return encoded;
}

std::uint64_t deadline_of(const wire::Generate& request, std::uint64_t received_ns) {
  return request.deadline_ms() == 0 ? 0 : received_ns + std::uint64_t{request.deadline_ms()} * 1'000'000;
}

result<admitted_request> admit(const text_model& model, std::uint64_t request_id,
                               const wire::Generate& request, std::uint64_t received_ns,
                               const std::function<std::uint64_t()>& draw_seed,
                               const admission_limits& limits) {
  if (auto ok = check_counts(request, limits); !ok) return fail(ok.error());
  auto sampling = sampling_of(model, request.sampling(), limits);
  if (!sampling) return fail(sampling.error());
  const auto* stop = request.stop();
  if (stop)
    if (auto ok = check_stops(model, *stop, limits); !ok) return fail(ok.error());
  auto prompt = encode_prompt(model, request.prompt_type(), request.prompt(), prompt_use::to_continue);
  if (!prompt) return fail(prompt.error());
  if (auto ok = complete_empty(model, request.prompt_type(), *prompt); !ok) return fail(ok.error());

  admitted_request out;
  out.request = request_id;
  out.prompt = std::move(prompt->ids);
  if (auto ok = fit_context(model, stop, out); !ok) return fail(ok.error());
  take_stops(model, stop, out);
  out.sampling = std::move(*sampling);
  if (!out.sampling.has_seed) {
    out.sampling.seed = draw_seed();
    out.sampling.has_seed = true;
  }
  out.choices = request.n();
  out.stream = request.stream();
  out.echo = request.echo();
  out.skip_special_tokens = request.skip_special_tokens();
  if (request.logprobs()) out.top_logprobs = static_cast<std::int32_t>(request.top_logprobs());
  out.prompt_logprobs = request.prompt_logprobs();
  out.received_ns = received_ns;
  out.deadline_ns = deadline_of(request, received_ns);
  return out;
}

message<wire::Submit> make_submit(const admitted_request& r, std::uint64_t stream, std::uint32_t choice,
                                  const std::vector<std::int32_t>& generated) {
  flatbuffers::FlatBufferBuilder b(256 + 4 * (r.prompt.size() + generated.size()));
  auto prompt = b.CreateVector(r.prompt);
  auto done = generated.empty() ? 0 : b.CreateVector(generated);
  auto own = r.sampling;
  own.seed += choice;
  auto sampling = wire::CreateSampling(b, &own);
  auto stop_ids = b.CreateVector(r.stop_ids);
  // One choice is enough to tell the prompt's log-probabilities.
  const auto prompt_logprobs = choice == 0 ? r.prompt_logprobs : -1;
  return message<wire::Submit>::finish(
      b, wire::CreateSubmit(b, stream, choice, prompt, done, sampling, stop_ids, r.max_tokens, r.min_tokens,
                            r.top_logprobs, prompt_logprobs, r.received_ns, r.deadline_ns));
}

result<encoded_prompt> tokenize(const text_model& model, const wire::Tokenize& request) {
  if (request.prompt_type() == wire::Prompt::TokenPrompt)
    return fail(error_code::invalid_request,
                "prompt: a TokenPrompt is tokenized already: send a TextPrompt or a ChatPrompt");
  return encode_prompt(model, request.prompt_type(), request.prompt(), prompt_use::to_look_at);
}

result<std::string> detokenize(const text_model& model, const wire::Detokenize& request) {
  if (auto ok = check_ids(model, *request.ids(), "ids"); !ok) return fail(ok.error());
  const std::vector<std::int32_t> ids(request.ids()->begin(), request.ids()->end());
  try {
    return model.tokenizer->decode(ids, request.skip_special_tokens());
  } catch (const cannot_tokenize& e) {
    return fail(error_code::invalid_request, "ids: {}", e.what());
  }
}

}  // namespace troupe::text
