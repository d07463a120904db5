// Reference outputs of one checkpoint, as tests/golden/README.md describes them.
#pragma once

#include <boost/json/array.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::check {

struct string_case {
  std::string text;  // UTF-8, or raw bytes
  bool raw_bytes = false;
  std::vector<std::int32_t> ids, ids_with_special;
  std::string decoded, decoded_skip_special;
};
struct decode_case {
  std::vector<std::int32_t> ids;
  std::string decoded, decoded_skip_special;
};
struct tokenizer_cases {
  std::vector<string_case> strings;
  std::vector<decode_case> decode;
};

struct template_case {
  boost::json::array messages;
  bool add_generation_prompt = true;
  std::string rendered;              // empty if it must fail
  std::vector<std::int32_t> ids;     // of `rendered`, no special tokens added
  std::optional<std::string> error;  // what raise_exception says
};

// What the float32 reference computes for one prompt.
struct prompt_case {
  std::string id;
  std::optional<std::string> text;
  std::optional<boost::json::array> messages;
  std::string rendered;
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> top_ids;  // [20] of the last position
  std::vector<float> top_logits;      // [20]
  double logsumexp = 0;
  std::vector<float> prompt_logprobs;    // of token i + 1 given 0..i
  std::vector<std::int32_t> greedy_ids;  // not stopped at end of sequence
  std::vector<double> greedy_margin;     // best minus second best logit of each step
  std::string greedy_text;
  std::optional<std::size_t> first_stop;
  std::optional<std::string> expect;  // the text must contain it; only where the reference is right
  // How far the reference's own bf16 run is from its float32 run; 0 differences = not recorded.
  struct distance {
    double sum = 0, largest = 0;
    std::size_t differences = 0;
    void add(double difference) {
      sum += difference;
      largest = largest < difference ? difference : largest;
      ++differences;
    }
  };
  distance bf16_logits, bf16_logprobs;
  bool bf16_keeps_greedy = false;  // for 16 tokens
};

// A recorded tensor: row-major.
struct state_tensor {
  std::vector<std::uint64_t> shape;
  std::vector<float> values;
};
using state_tensors = std::map<std::string, state_tensor, std::less<>>;

// Errors: not_found, bad_checkpoint (file and what is wrong with it).
result<tokenizer_cases> read_tokenizer_cases(const std::filesystem::path& folder);
result<std::vector<template_case>> read_template_cases(const std::filesystem::path& folder);
result<std::vector<prompt_case>> read_prompts(const std::filesystem::path& folder);
result<state_tensors> read_states(const std::filesystem::path& folder);

}  // namespace troupe::check
