#include "actors/tokenizer/sampling_rules.hpp"

#include <cmath>

#include "actors/tokenizer/utf8.hpp"

namespace troupe::text {
namespace {

// Written so that NaN fails every range.
struct range {
  float low, high;
  bool open_low = false;  // (low, high]
  bool has(float x) const { return (open_low ? x > low : x >= low) && x <= high; }
};

result<void> check_range(std::string_view field, float found, range allowed) {
  if (allowed.has(found)) return {};
  return fail(error_code::invalid_request, "{}: {} is outside {}{}, {}]", field, found,
              allowed.open_low ? '(' : '[', allowed.low, allowed.high);
}

wire::SamplingT recommended(const checkpoint::generation_defaults& g) {
  wire::SamplingT s;
  s.temperature = g.temperature.value_or(s.temperature);
  s.top_k = g.top_k.value_or(s.top_k);
  s.top_p = g.top_p.value_or(s.top_p);
  s.min_p = g.min_p.value_or(s.min_p);
  s.repetition_penalty = g.repetition_penalty.value_or(s.repetition_penalty);
  if (!g.do_sample.value_or(true)) s.temperature = 0;
  return s;
}

result<void> check_numbers(const wire::SamplingT& s) {
  const struct {
    std::string_view field;
    float found;
    range allowed;
  } rules[] = {
      {"sampling.temperature", s.temperature, {0, 100}},
      {"sampling.top_p", s.top_p, {0, 1, true}},
      {"sampling.min_p", s.min_p, {0, 1}},
      {"sampling.presence_penalty", s.presence_penalty, {-2, 2}},
      {"sampling.frequency_penalty", s.frequency_penalty, {-2, 2}},
  };
  for (const auto& rule : rules)
    if (auto ok = check_range(rule.field, rule.found, rule.allowed); !ok) return ok;
  if (!(s.repetition_penalty > 0) || std::isinf(s.repetition_penalty))
    return fail(error_code::invalid_request, "sampling.repetition_penalty: {} is not a finite number above 0",
                s.repetition_penalty);
  return {};
}

result<void> check_biases(const text_model& model, const wire::SamplingT& s, const admission_limits& limits) {
  if (s.logit_bias.size() > limits.logit_biases)
    return fail(error_code::invalid_request, "sampling.logit_bias: {} entries, at most {} are taken",
                s.logit_bias.size(), limits.logit_biases);
  for (const auto& b : s.logit_bias) {
    if (b.token() < 0 || static_cast<std::uint32_t>(b.token()) >= model.vocabulary)
      return fail(error_code::invalid_request,
                  "sampling.logit_bias: token {} is outside the vocabulary, 0 to {}", b.token(),
                  model.vocabulary - 1);
    if (!range{-100, 100}.has(b.bias()))
      return fail(error_code::invalid_request, "sampling.logit_bias: {} for token {} is outside [-100, 100]",
                  b.bias(), b.token());
  }
  return {};
}

}  // namespace

result<wire::SamplingT> sampling_of(const text_model& model, const wire::Sampling* asked,
                                    const admission_limits& limits) {
  wire::SamplingT s;
  if (asked)
    asked->UnPackTo(&s);
  else
    s = recommended(model.generation);
  if (auto ok = check_numbers(s); !ok) return fail(ok.error());
  if (auto ok = check_biases(model, s, limits); !ok) return fail(ok.error());
  return s;
}

result<void> check_stops(const text_model& model, const wire::StopConditions& stop,
                         const admission_limits& limits) {
  if (const auto* ids = stop.token_ids()) {
    if (ids->size() > limits.stop_ids)
      return fail(error_code::invalid_request, "stop.token_ids: {} ids, at most {} are taken", ids->size(),
                  limits.stop_ids);
    if (auto ok = check_ids(model, *ids, "stop.token_ids"); !ok) return ok;
  }
  const auto* strings = stop.strings();
  if (!strings) return {};
  if (strings->size() > limits.stop_strings)
    return fail(error_code::invalid_request, "stop.strings: {} strings, at most {} are taken",
                strings->size(), limits.stop_strings);
  for (flatbuffers::uoffset_t i = 0; i < strings->size(); ++i) {
    const auto* s = strings->Get(i);
    if (s->size() == 0 || s->size() > limits.stop_string_bytes)
      return fail(error_code::invalid_request, "stop.strings[{}]: {} bytes, expected 1 to {}", i, s->size(),
                  limits.stop_string_bytes);
    if (!utf8::is_valid({s->c_str(), s->size()}))
      return fail(error_code::invalid_request,
                  "stop.strings[{}]: not valid UTF-8: it could never appear in the text", i);
  }
  return {};
}

result<void> check_ids(const text_model& model, const flatbuffers::Vector<std::int32_t>& ids,
                       std::string_view field) {
  for (flatbuffers::uoffset_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || static_cast<std::uint32_t>(ids[i]) >= model.vocabulary)
      return fail(error_code::invalid_request, "{}[{}]: {} is outside the vocabulary, 0 to {}", field, i,
                  ids[i], model.vocabulary - 1);
  return {};
}

}  // namespace troupe::text
