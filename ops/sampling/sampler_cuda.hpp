// The rules of sampling.hpp on a CUDA device: one block for each row, chosen tokens stay on the device for the step behind. With the
// same logits the same tokens as sampler.hpp, except where two rules' sums differ in their last digits (f64 in another order, e^x
// within 2 units in the last place).
#pragma once

#include "ops/device/cuda_view.hpp"

namespace troupe::ops {

// An id of the history, once, and how often it was generated (not in the prompt).
struct history_entry {
  std::int32_t token;
  std::uint32_t generated;
};
struct bias_entry {
  std::int32_t token;
  float bias;
};

// One choice, or the log-probability of a given token. Ranges count in the lists below.
struct device_request {
  std::uint32_t logit_row = 0;
  std::int32_t scored = -1;        // the given token; -1 = choose one
  std::int32_t scratch = -1;       // a row of the scratch memory; -1 = greedy on the plain logits
  std::int32_t top_logprobs = -1;  // -1 = no log-probabilities
  std::uint64_t seed = 0, position = 0;
  float temperature = 1;
  std::uint32_t top_k = 0;
  float top_p = 1, min_p = 0;
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  std::uint32_t bias_begin = 0, bias_end = 0;
  std::uint32_t history_begin = 0, history_end = 0;
  std::uint32_t banned_begin = 0, banned_end = 0;
  std::int32_t pending =
      -1;  // of the step before, whose token ends the history but is not in its list; -1 = none
  std::int32_t padding = 0;
};

struct device_alternative {
  std::int32_t token;
  float logprob;
};
struct device_choice {
  std::int32_t token = -1;
  float logprob = 0;
  std::int32_t finite = 0;
  std::int32_t top_count = 0;
};

// All on the device.
struct sampling_lists {
  const device_request* requests = nullptr;
  const bias_entry* bias = nullptr;
  const history_entry* history = nullptr;
  const std::int32_t* banned = nullptr;
  const std::int32_t* earlier = nullptr;  // [requests of the step before] tokens chosen there
};

// choices, tokens [requests]; top [requests, top_stride]; scratch [rows, V] f32.
void sample_cuda(cudaStream_t stream, device_inputs logits, const sampling_lists& lists, std::size_t requests,
                 float* scratch, device_choice* choices, std::int32_t* tokens, device_alternative* top,
                 std::size_t top_stride);

}  // namespace troupe::ops
