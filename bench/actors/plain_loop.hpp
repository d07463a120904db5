// The same requests without actors, in one thread, each part timed by itself.
#pragma once

#include "bench/actors/settings.hpp"

namespace troupe::bench {

// Per step in which all sequences decode.
struct plain_times {
  std::vector<double> backend;    // model.run and model.sample alone: what every server must do
  std::vector<double> runner;     // that, reading the plan and building the result
  std::vector<double> scheduler;  // taking the result, the next plan, the tokens of the step
  std::vector<double> text;  // what the tokenizer's worker does with them: decoding, one chunk per sequence
  std::size_t plan_bytes = 0, result_bytes = 0, token_bytes = 0, chunk_bytes = 0;  // of one step
  double chunks = 0;                                                               // per step
};

plain_times run_plain_loop(const settings& s, const prepared_model_ptr& model);

}  // namespace troupe::bench
