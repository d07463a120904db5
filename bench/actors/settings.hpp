// What the benchmarks of the actor path share: settings, the model, requests, figures.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "actors/host/prepared_model.hpp"
#include "actors/scheduler/batch_planner.hpp"
#include "kernel/frame/message.hpp"
#include "tests/support/tiny_program.hpp"
#include "troupe/schemas/client_generated.h"

namespace troupe::bench {

struct settings {
  std::uint32_t sequences = 32;
  std::uint32_t steps = 4000;
  std::uint32_t window = 200;  // steps
  std::uint32_t block_tokens = 16;
  std::uint32_t prompt = 16;
  std::uint32_t workers = 2;
  std::uint32_t messages = 600'000;
  double compute_us = 0;
  double limit_us = 50;
  std::string policy = "sharing";
  std::uint32_t blocks() const { return sequences * ((prompt + steps) / block_tokens + 3); }
};

inline double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The demo's tokenizer on a Program of its vocabulary, without weights.
inline prepared_model_ptr make_model() {
  constexpr std::uint32_t vocabulary = 4096;
  auto p = test::tiny_program::make();
  p.facts->vocabulary = vocabulary;
  const auto widen = [](auto& shape) {
    for (auto& n : shape) n = n == test::tiny_program::vocabulary ? vocabulary : n;
  };
  for (auto& w : p.weights) widen(w->shape);
  for (auto& t : p.tensors) widen(t->shape);
  auto program = program::verify(test::tiny_program::bytes(p));
  auto tokenizer = text::load_tokenizer(TROUPE_SOURCE_DIR "/demo/mixtral-demo");
  if (!program) throw std::runtime_error(program.error().text);
  if (!tokenizer) throw std::runtime_error(tokenizer.error().text);
  prepared_model m{.id = {0}, .name = "bench", .checkpoint = {}, .module = {}, .program = *program};
  m.tokenizer = *tokenizer;
  m.eos_ids = {2};
  m.context_tokens = 1U << 20;
  m.vocabulary = vocabulary;
  return std::make_shared<const prepared_model>(std::move(m));
}

// The null backend continues with the next id each time: the prompts begin where the tokenizer's words are.
inline wire::GenerateT generate(const settings& s, std::uint64_t number) {
  wire::GenerateT g;
  wire::TokenPromptT prompt;
  for (std::uint32_t i = 0; i < s.prompt; ++i)
    prompt.ids.push_back(static_cast<std::int32_t>(300 + (i + number * 97) % 3700));
  g.prompt.Set(std::move(prompt));
  g.sampling = std::make_unique<wire::SamplingT>();
  g.sampling->temperature = 0;
  g.stop = std::make_unique<wire::StopConditionsT>();
  g.stop->max_tokens = s.steps;
  g.stop->ignore_eos = true;
  return g;
}

inline planner_options planner_settings(const settings& s, std::uint32_t plans_in_flight = 2) {
  planner_options o;
  o.max_sequences = std::max(o.max_sequences, s.sequences);
  o.queue_limit = std::max(o.queue_limit, s.sequences);
  o.plans_in_flight = plans_in_flight;
  return o;
}

struct figures {
  double median = 0, p99 = 0, mean = 0;
};

inline figures figures_of(std::vector<double> x) {
  if (x.empty()) return {};
  std::ranges::sort(x);
  const double sum = std::accumulate(x.begin(), x.end(), 0.0);
  return {x[x.size() / 2], x[x.size() * 99 / 100], sum / static_cast<double>(x.size())};
}

// Mean of each window of `length` neighbours; a rest is left out.
inline std::vector<double> windows_of(const std::vector<double>& x, std::size_t length) {
  std::vector<double> means;
  for (std::size_t i = 0; i + length <= x.size(); i += length)
    means.push_back(std::accumulate(x.begin() + static_cast<std::ptrdiff_t>(i),
                                    x.begin() + static_cast<std::ptrdiff_t>(i + length), 0.0) /
                    static_cast<double>(length));
  return means;
}

inline void row(const std::string& what, const figures& f, const std::string& note = "") {
  fmt::print("  {:<50} {:>9.1f} {:>9.1f} {:>9.1f}   {}\n", what, f.median, f.mean, f.p99, note);
}

}  // namespace troupe::bench
