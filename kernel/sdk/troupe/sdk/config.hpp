// What modules read from config.json in the same way. Each error names the key by its path and says what was expected and
// what was found.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <troupe/sdk/errors.hpp>
#include <troupe/sdk/json.hpp>
#include <troupe/sdk/parts.hpp>
#include <vector>

namespace troupe::sdk {

inline constexpr std::uint32_t largest_size = 0x7fffffff;

// A size: required, an integer from 1 to 2^31 - 1. The product of two is less than 2^64 once one of them is a std::uint64_t.
inline std::uint32_t positive(const json& c, const char* key) {
  const auto value = c.get<std::uint32_t>(key);
  if (value == 0) c.find(key)->wrong("an integer above 0");
  if (value > largest_size) c.find(key)->wrong("at most 2147483647");
  return value;
}
// The same, with what an absent key means.
inline std::uint32_t positive_or(const json& c, const char* key, std::uint32_t absent) {
  return c.find(key) ? positive(c, key) : absent;
}

// The same within [least, most].
inline std::uint32_t size_from_to(const json& c, const char* key, std::uint32_t least, std::uint32_t most,
                                  std::uint32_t absent) {
  const auto value = positive_or(c, key, absent);
  if (value < least || value > most)
    c.find(key)->wrong(("a number from " + std::to_string(least) + " to " + std::to_string(most)).c_str());
  return value;
}

// Of layers and experts, each of which is several ops or tensors: at most 4096.
inline std::uint32_t count(const json& c, const char* key) {
  const auto value = positive(c, key);
  if (value > 4096) c.find(key)->wrong("at most 4096");
  return value;
}

inline std::uint32_t count_or(const json& c, const char* key, std::uint32_t absent) {
  return c.find(key) ? count(c, key) : absent;
}

// Layers of one kind in a model that mixes kinds: those with i % period == offset.
struct layer_pattern {
  std::uint32_t period = 1, offset = 0;
  bool has(std::uint32_t layer) const { return layer % period == offset; }
  std::uint32_t count(std::uint32_t layers) const {  // of the first `layers`
    return layers / period + (layers % period > offset ? 1 : 0);
  }
};

// "attn" reads attn_layer_period and attn_layer_offset.
inline layer_pattern read_layer_pattern(const json& c, const std::string& kind, layer_pattern absent) {
  const std::string period_key = kind + "_layer_period", offset_key = kind + "_layer_offset";
  const layer_pattern p = {positive_or(c, period_key.c_str(), absent.period),
                           c.get_or<std::uint32_t>(offset_key.c_str(), absent.offset)};
  if (p.offset < p.period) return p;
  throw config_error(c.path_of(offset_key.c_str()) + ": expected a number below " + period_key + " " +
                     std::to_string(p.period) + ", found " + std::to_string(p.offset));
}

// An object within config.json: required.
inline const json& section(const json& c, const char* key) {
  const json* found = c.find(key);
  if (found == nullptr) throw config_error(c.path_of(key) + ": the key is missing");
  if (found->type() != json::kind::object) found->wrong("an object");
  return *found;
}

// A number above 0 that is one as a float too: epsilons, rotary bases, scales.
inline double above_zero(const json& c, const char* key, double absent) {
  const auto value = c.get_or<double>(key, absent);
  if (!c.find(key)) return value;
  if (!(value > 0)) c.find(key)->wrong("a number above 0");
  if (!std::isnormal(static_cast<float>(value))) c.find(key)->wrong("a number that a float holds");
  return value;
}

// One of `vocabulary` token ids.
inline int token_id(const json& value, std::uint32_t vocabulary) {
  const int id = value.as<int>();
  if (id < 0 || static_cast<std::uint32_t>(id) >= vocabulary)
    value.wrong(("a token id from 0 to " + std::to_string(vocabulary - 1)).c_str());
  return id;
}

// bos_token_id; -1 = none.
inline int bos_id(const json& c, std::uint32_t vocabulary) {
  const json* bos = c.find("bos_token_id");
  return bos == nullptr || bos->as<int>() == -1 ? -1 : token_id(*bos, vocabulary);
}

// eos_token_id: one id or several; may be empty.
inline std::vector<int> eos_ids(const json& c, std::uint32_t vocabulary) {
  const json* eos = c.find("eos_token_id");
  if (eos == nullptr) return {};
  if (eos->type() != json::kind::array) return {token_id(*eos, vocabulary)};
  auto ids = eos->as<std::vector<int>>();
  for (const int id : ids)
    if (id < 0 || static_cast<std::uint32_t>(id) >= vocabulary)
      eos->wrong(("token ids from 0 to " + std::to_string(vocabulary - 1)).c_str());
  return ids;
}

// Refuses any value but `only`, which an absent key means too: require(c, "hidden_act", std::string("silu")).
template <class T>
void require(const json& c, const char* key, const T& only) {
  const json* found = c.find(key);
  if (found == nullptr || found->as<T>() == only) return;
  std::string wanted;
  if constexpr (std::is_same_v<T, std::string>)
    wanted = "\"" + only + "\"";
  else if constexpr (std::is_same_v<T, bool>)
    wanted = only ? "true" : "false";
  else
    wanted = std::to_string(only);
  throw unsupported_error(found->path() + ": expected " + wanted + ", found " + found->describe());
}
inline void require(const json& c, const char* key, const char* only) {
  require(c, key, std::string(only));
}

// An activation by the names that transformers gives it.
inline program::Activation read_activation(const json& c, const char* key, program::Activation absent) {
  using program::Activation;
  if (c.find(key) == nullptr) return absent;
  const auto name = c.get<std::string>(key);
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  if (name == "relu") return Activation::relu;
  throw unsupported_error(
      c.path_of(key) + ": expected silu, gelu, gelu_new, gelu_pytorch_tanh or relu, found \"" + name + "\"");
}

}  // namespace troupe::sdk
