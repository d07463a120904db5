// A backend with a memory and no arithmetic: each cache slot holds a digest of the token written there and of the slot
// before it, reached through the block table. What is sampled depends on the digest that is found behind the last token,
// on the seed and on the position. So a stream has exactly one right continuation, and every mistake with blocks (a block
// of another sequence, a position that was skipped, written twice or not copied) makes another one of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "ops/device/backend.hpp"

namespace troupe::test {

inline std::uint64_t digest(std::uint64_t before, std::uint64_t token) {
  std::uint64_t h = before ^ (token + 0x9e3779b97f4a7c15ULL + (before << 6) + (before >> 2));
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9ULL;
  h ^= h >> 27;
  h *= 0x94d049bb133111ebULL;
  return h ^ (h >> 31);
}

inline std::uint64_t digest_of(std::span<const std::int32_t> tokens) {
  std::uint64_t h = 0;
  for (std::int32_t t : tokens) h = digest(h, static_cast<std::uint32_t>(t));
  return h;
}

inline std::int32_t choose(std::uint64_t state, std::uint64_t seed, std::uint64_t position,
                           std::span<const std::int32_t> banned, std::uint32_t vocabulary) {
  auto token = static_cast<std::int32_t>(digest(digest(state, seed), position) % vocabulary);
  while (std::ranges::find(banned, token) != banned.end())
    token = (token + 1) % static_cast<std::int32_t>(vocabulary);
  return token;
}

inline float logprob_of(std::uint64_t state, std::int32_t token) {
  return -static_cast<float>(digest(state, static_cast<std::uint32_t>(token)) % 1000) / 100;
}

// What a stream must be.
struct recall_request {
  std::vector<std::int32_t> prompt;
  std::uint64_t seed = 0;
  std::uint32_t max_tokens = 8;
  std::uint32_t min_tokens = 0;
  std::vector<std::int32_t> stop_ids;
};

inline std::vector<std::int32_t> expected_tokens(const recall_request& r, std::uint32_t vocabulary) {
  std::vector<std::int32_t> out;
  std::uint64_t state = digest_of(r.prompt);
  while (out.size() < r.max_tokens) {
    const std::vector<std::int32_t> banned =
        out.size() < r.min_tokens ? r.stop_ids : std::vector<std::int32_t>{};
    const std::int32_t token = choose(state, r.seed, out.size(), banned, vocabulary);
    out.push_back(token);
    if (std::ranges::find(r.stop_ids, token) != r.stop_ids.end()) break;
    state = digest(state, static_cast<std::uint32_t>(token));
  }
  return out;
}

struct recall_options {
  std::uint32_t blocks = 64;
  std::uint32_t block_tokens = 4;
  // The digest of what a sequence has read is recurrent state: it lives in the sequence's slot, not in its blocks, so that every
  // mistake with slots (one of another sequence, one that two share, a position that was granted as cached) shows.
  bool recurrent = false;
  bool overlaps = false;  // as a device that computes a step while the next one is enqueued
  std::uint32_t state_slots = 64;
  std::function<bool()> fails;  // the step ends in a backend error; empty = never
  std::function<bool(std::uint64_t state)>
      gives_non_finite;                              // logits behind this digest are broken; empty = never
  std::function<void(const ops::step_batch&)> sees;  // each batch; may be empty
  std::uint64_t copy_bytes = 0;  // that its models keep in host memory while they sleep; 0 = they keep none
  std::function<bool()> no_room_to_wake;  // others have the device's memory; empty = never
};

class recall_model final : public ops::model {
 public:
  explicit recall_model(const recall_options& options, std::uint32_t vocabulary)
      : options_(options),
        vocabulary_(vocabulary),
        slots_(std::size_t{options.blocks} * options.block_tokens),
        states_(options.recurrent ? options.state_slots : 0) {}

  std::uint32_t block_tokens() const override { return options_.block_tokens; }
  std::uint64_t weight_bytes() const override { return 1000; }
  std::uint64_t state_bytes() const override { return options_.recurrent ? 8 : 0; }
  bool overlaps() const override { return options_.overlaps; }

  result<void> run(const ops::step_batch& batch, std::span<ops::probe_request>) override {
    if (asleep_) return fail(error_code::internal, "a step of a model that sleeps");
    if (options_.sees) options_.sees(batch);
    if (options_.fails && options_.fails()) return fail(error_code::internal, "the device was told to fail");
    std::vector<std::uint64_t> states(batch.tokens.size());
    if (options_.recurrent &&
        std::set(batch.state_slots.begin(), batch.state_slots.end()).size() != batch.block_tables.size())
      return fail(error_code::internal, "two sequences share a slot, or one has none");
    for (std::size_t s = 0; s < batch.block_tables.size(); ++s)
      for (std::uint32_t row = batch.sequence_rows[s]; row < batch.sequence_rows[s + 1]; ++row) {
        const auto position = static_cast<std::uint32_t>(batch.positions[row]);
        const std::uint64_t before = position == 0        ? 0
                                     : options_.recurrent ? states_.at(batch.state_slots[s])
                                                          : slot(batch.block_tables[s], position - 1);
        states[row] = slot(batch.block_tables[s], position) =
            digest(before, static_cast<std::uint32_t>(batch.tokens[row]));
        if (options_.recurrent) states_.at(batch.state_slots[s]) = states[row];
      }
    logit_states_.clear();
    for (std::uint32_t row : batch.logit_rows) logit_states_.push_back(states.at(row));
    return {};
  }

  void sample(std::span<const ops::sample_request> requests, std::span<ops::sampled_token> outputs) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const ops::sample_request& r = requests[i];
      const std::uint64_t state = logit_states_.at(r.logit_row);
      outputs[i] = {};
      outputs[i].finite = !(options_.gives_non_finite && options_.gives_non_finite(state));
      if (!outputs[i].finite) continue;
      outputs[i].token = choose(state, r.params->seed, r.position, r.banned, vocabulary_);
      outputs[i].logprob = logprob_of(state, outputs[i].token);
      fill_top(outputs[i], state, r.top_logprobs);
    }
  }

  void score(std::span<const ops::score_request> requests, std::span<ops::sampled_token> outputs) override {
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const std::uint64_t state = logit_states_.at(requests[i].logit_row);
      outputs[i] = {};
      outputs[i].token = requests[i].token;
      outputs[i].logprob = logprob_of(state, requests[i].token);
      fill_top(outputs[i], state, static_cast<std::int32_t>(requests[i].top_logprobs));
    }
  }

  void read_logits(std::span<float> out) override { std::fill(out.begin(), out.end(), 0.0f); }

  result<ops::rest_report> sleep() override {
    if (options_.copy_bytes == 0) return ops::model::sleep();
    asleep_ = true;
    return ops::rest_report{weight_bytes(), options_.copy_bytes, {}};
  }
  result<ops::rest_report> wake() override {
    if (!asleep_) return ops::model::wake();
    if (options_.no_room_to_wake && options_.no_room_to_wake())
      return fail(error_code::no_room, "others have the device's memory");
    asleep_ = false;
    return ops::rest_report{weight_bytes(), options_.copy_bytes, {}};
  }

 private:
  std::uint64_t& slot(std::span<const std::uint32_t> table, std::uint32_t position) {
    return slots_.at(std::size_t{table[position / options_.block_tokens]} * options_.block_tokens +
                     position % options_.block_tokens);
  }
  static void fill_top(ops::sampled_token& out, std::uint64_t state, std::int32_t count) {
    for (std::int32_t t = 0; t < count; ++t) out.top.push_back({t, logprob_of(state, t)});
  }

  recall_options options_;
  std::uint32_t vocabulary_;
  std::vector<std::uint64_t> slots_;
  std::vector<std::uint64_t> states_;
  std::vector<std::uint64_t> logit_states_;
  bool asleep_ = false;
};

class recall_backend final : public ops::backend {
 public:
  explicit recall_backend(recall_options options) : options_(std::move(options)) {}
  ops::device_info info() const override { return {"recall", "remembers, computes nothing"}; }
  result<std::unique_ptr<ops::model>> load(const program::verified_program& program,
                                           std::shared_ptr<const checkpoint::weights>,
                                           const ops::load_options& how) override {
    auto options = options_;
    options.state_slots = how.state_slots;
    return std::make_unique<recall_model>(options, program->facts()->vocabulary());
  }

 private:
  recall_options options_;
};

}  // namespace troupe::test
