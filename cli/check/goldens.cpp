#include "cli/check/goldens.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "kernel/checkpoint/mapped_file.hpp"
#include "kernel/checkpoint/safetensors.hpp"

namespace troupe::check {
namespace json = boost::json;
namespace {

// Reads a JSON file and hands its root object to `read`; whatever is not as described becomes bad_checkpoint.
template <class Read>
auto read_json(const std::filesystem::path& file, Read read) -> result<decltype(read(json::object{}))> {
  const auto text = checkpoint::read_text(file);
  if (!text) return fail(text.error());
  try {
    return read(json::parse(*text).as_object());
  } catch (const std::exception& e) {
    return fail(error_code::bad_checkpoint, "{}: not a file of reference outputs: {}", file.string(),
                e.what());
  }
}

template <class T>
std::vector<T> numbers(const json::value& array) {
  std::vector<T> out;
  out.reserve(array.as_array().size());
  for (const json::value& x : array.as_array()) {
    if constexpr (std::is_floating_point_v<T>)
      out.push_back(static_cast<T>(x.to_number<double>()));
    else
      out.push_back(x.to_number<T>());
  }
  return out;
}

std::string text_of(const json::object& o, std::string_view key) {
  return std::string(o.at(key).as_string());
}

std::string from_hex(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return out;
}

string_case read_string_case(const json::object& o) {
  string_case c;
  c.raw_bytes = o.contains("bytes_hex");
  c.text = c.raw_bytes ? from_hex(o.at("bytes_hex").as_string()) : text_of(o, "text");
  c.ids = numbers<std::int32_t>(o.at("ids"));
  c.ids_with_special = numbers<std::int32_t>(o.at("ids_with_special"));
  c.decoded = text_of(o, "decoded");
  c.decoded_skip_special = text_of(o, "decoded_skip_special");
  return c;
}

template_case read_template_case(const json::object& o) {
  template_case c;
  c.messages = o.at("messages").as_array();
  c.add_generation_prompt = o.at("add_generation_prompt").as_bool();
  if (const json::value* e = o.if_contains("error")) {
    // "TemplateError: what raise_exception was given"
    const std::string_view text = e->as_string();
    const auto colon = text.find(": ");
    c.error = std::string(colon == text.npos ? text : text.substr(colon + 2));
  } else {
    c.rendered = text_of(o, "rendered");
    c.ids = numbers<std::int32_t>(o.at("ids"));
  }
  return c;
}

void read_distances(const json::object& bf16, prompt_case& c) {
  const auto logprobs = numbers<float>(bf16.at("prompt_logprobs"));
  for (std::size_t i = 0; i < std::min(logprobs.size(), c.prompt_logprobs.size()); ++i)
    c.bf16_logprobs.add(std::abs(static_cast<double>(logprobs[i]) - c.prompt_logprobs[i]));
  const auto ids = numbers<std::int32_t>(bf16.at("last_top20_ids"));
  const auto logits = numbers<float>(bf16.at("last_top20_logits"));
  for (std::size_t i = 0; i < c.top_ids.size(); ++i)
    for (std::size_t j = 0; j < ids.size() && j < logits.size(); ++j)
      if (ids[j] == c.top_ids[i])
        c.bf16_logits.add(std::abs(static_cast<double>(logits[j]) - c.top_logits[i]));
  const auto greedy = numbers<std::int32_t>(bf16.at("greedy_ids"));
  const std::size_t kept = std::min<std::size_t>({16, greedy.size(), c.greedy_ids.size()});
  c.bf16_keeps_greedy =
      std::equal(greedy.begin(), greedy.begin() + static_cast<std::ptrdiff_t>(kept), c.greedy_ids.begin());
}

prompt_case read_prompt(const json::object& o) {
  prompt_case c;
  c.id = text_of(o, "id");
  if (o.contains("text")) c.text = text_of(o, "text");
  if (const json::value* m = o.if_contains("messages")) {
    c.messages = m->as_array();
    c.rendered = text_of(o, "rendered");
  }
  c.ids = numbers<std::int32_t>(o.at("ids"));
  c.greedy_text = text_of(o, "greedy_text");
  if (const json::value* s = o.if_contains("first_stop"); s && !s->is_null())
    c.first_stop = s->to_number<std::size_t>();
  if (const json::value* right = o.if_contains("hf_correct"); right && right->is_bool() && right->as_bool())
    c.expect = text_of(o, "expect");
  const json::object& f = o.at("fp32").as_object();
  c.top_ids = numbers<std::int32_t>(f.at("last_top20_ids"));
  c.top_logits = numbers<float>(f.at("last_top20_logits"));
  c.logsumexp = f.at("last_logsumexp").to_number<double>();
  c.prompt_logprobs = numbers<float>(f.at("prompt_logprobs"));
  c.greedy_ids = numbers<std::int32_t>(f.at("greedy_ids"));
  c.greedy_margin = numbers<double>(f.at("greedy_margin"));
  if (const json::value* b = o.if_contains("bf16")) read_distances(b->as_object(), c);
  if (c.ids.empty() || c.greedy_ids.empty() || c.top_ids.size() != c.top_logits.size() ||
      c.greedy_margin.size() != c.greedy_ids.size() || c.prompt_logprobs.size() >= c.ids.size())
    throw std::runtime_error("prompt " + c.id + ": lengths do not fit together");
  return c;
}

}  // namespace

result<tokenizer_cases> read_tokenizer_cases(const std::filesystem::path& folder) {
  return read_json(folder / "tokenizer_cases.json", [](const json::object& root) {
    tokenizer_cases out;
    for (const json::value& c : root.at("strings").as_array())
      out.strings.push_back(read_string_case(c.as_object()));
    for (const json::value& c : root.at("decode").as_array())
      out.decode.push_back({numbers<std::int32_t>(c.at("ids")), text_of(c.as_object(), "decoded"),
                            text_of(c.as_object(), "decoded_skip_special")});
    return out;
  });
}

result<std::vector<template_case>> read_template_cases(const std::filesystem::path& folder) {
  return read_json(folder / "template_cases.json", [](const json::object& root) {
    std::vector<template_case> out;
    for (const json::value& c : root.at("templates").as_array())
      out.push_back(read_template_case(c.as_object()));
    return out;
  });
}

result<std::vector<prompt_case>> read_prompts(const std::filesystem::path& folder) {
  return read_json(folder / "prompts.json", [](const json::object& root) {
    std::vector<prompt_case> out;
    for (const json::value& c : root.at("prompts").as_array()) out.push_back(read_prompt(c.as_object()));
    return out;
  });
}

result<state_tensors> read_states(const std::filesystem::path& folder) {
  const auto file = checkpoint::mapped_file::open(folder / "states.safetensors");
  if (!file) return fail(file.error());
  const auto tensors = checkpoint::read_safetensors(**file);
  if (!tensors) return fail(tensors.error());
  state_tensors out;
  for (const auto& [name, view] : *tensors) {
    if (view.dtype != program::DType::f32)
      return fail(error_code::bad_checkpoint, "states.safetensors: {}: expected F32", name);
    state_tensor t{view.shape, std::vector<float>(view.data.size() / sizeof(float))};
    if (!t.values.empty()) std::memcpy(t.values.data(), view.data.data(), view.data.size());
    out.emplace(name, std::move(t));
  }
  return out;
}

}  // namespace troupe::check
