// The choice of tokens behind a step: requests to the device, choices back.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/status.hpp"

namespace troupe::ops::cuda {
namespace {

bool has_penalties(const sampling_params& p) {
  return p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0;
}

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// What the lists of one step hold.
struct choice_room {
  std::size_t requests = 0, biases = 0, histories = 0, bans = 0, scratch_rows = 0, top = 1;
};

// Where they stand.
struct choice_lists {
  device_request* requests = nullptr;
  bias_entry* biases = nullptr;
  history_entry* histories = nullptr;
  std::int32_t* bans = nullptr;
  std::size_t bytes = 0;
};

choice_lists lay_out(const choice_room& room, char* base) {
  choice_lists out;
  const auto take = [&]<class T>(T*& place, std::size_t count) {
    place = reinterpret_cast<T*>(base + out.bytes);
    out.bytes += round_up(count * sizeof(T));
  };
  take(out.requests, room.requests);
  take(out.biases, room.biases);
  take(out.histories, room.histories);
  take(out.bans, room.bans);
  return out;
}

// Keeps what is there if it is enough; else twice as much as wanted. Behind what the device is still at.
result<void> ensure(device_memory& memory, std::size_t bytes, std::string_view what, device& on) {
  if (memory.bytes() >= bytes) return {};
  if (auto done = on.wait(); !done) return done;
  memory = {};
  auto taken = device_memory::take(bytes * 2, what);
  if (!taken) return fail(std::move(taken.error()));
  memory = std::move(*taken);
  return {};
}

result<void> ensure_pinned(pinned_memory& memory, std::size_t bytes) {
  if (memory.bytes() >= bytes) return {};
  memory = {};
  auto taken = pinned_memory::take(bytes * 2, "cudaMallocHost for choices");
  if (!taken) return fail(std::move(taken.error()));
  memory = std::move(*taken);
  return {};
}

sampled_token to_token(const device_choice& choice, const device_alternative* top) {
  sampled_token out{choice.token, choice.logprob, {}, choice.finite != 0};
  for (std::int32_t i = 0; i < choice.top_count; ++i) out.top.push_back({top[i].token, top[i].logprob});
  return out;
}

}  // namespace

result<void> cuda_model::reserve_choices(std::size_t requests) {
  constexpr std::size_t listed = 512,
                        alternatives = 20;  // of a request in front of others; longer lists make room once
  const std::size_t list_bytes = requests * (sizeof(device_request) + listed * sizeof(history_entry));
  const std::size_t out_bytes =
      round_up(requests * sizeof(device_choice)) + requests * alternatives * sizeof(device_alternative);
  for (auto done :
       {ensure(lists_, list_bytes / 2, "lists of the choices", *device_),
        ensure(scratch_, requests * program_.vocabulary * sizeof(float) / 2, "rows of the choices", *device_),
        ensure(choices_, out_bytes / 2, "choices", *device_),
        ensure(tokens_[0], requests * sizeof(std::int32_t), "chosen tokens", *device_),
        ensure(tokens_[1], requests * sizeof(std::int32_t), "chosen tokens", *device_)})
    if (!done) return done;
  for (auto& one : ring_) {
    if (auto done = ensure_pinned(one.inputs, (at_.input_bytes + 1) / 2); !done) return done;
    if (auto done = ensure_pinned(one.lists, (lists_.bytes() + 1) / 2); !done) return done;
    if (auto done = ensure_pinned(one.outputs, (out_bytes + 1) / 2); !done) return done;
  }
  return {};
}

device_request cuda_model::describe(const sample_request& r) {
  const sampling_params& p = *r.params;
  device_request out;
  out.logit_row = r.logit_row;
  out.top_logprobs = r.top_logprobs;
  out.seed = p.seed;
  out.position = r.position;
  out.temperature = p.temperature;
  out.top_k = p.top_k;
  out.top_p = p.top_p;
  out.min_p = p.min_p;
  out.repetition_penalty = p.repetition_penalty;
  out.presence_penalty = p.presence_penalty;
  out.frequency_penalty = p.frequency_penalty;
  out.pending = r.pending;
  out.bias_begin = static_cast<std::uint32_t>(biases_.size());
  for (const auto& [token, bias] : p.logit_bias) biases_.push_back({token, bias});
  out.bias_end = static_cast<std::uint32_t>(biases_.size());
  out.banned_begin = static_cast<std::uint32_t>(bans_.size());
  bans_.insert(bans_.end(), r.banned.begin(), r.banned.end());
  out.banned_end = static_cast<std::uint32_t>(bans_.size());
  out.history_begin = out.history_end = static_cast<std::uint32_t>(histories_.size());
  if (has_penalties(p)) {
    std::unordered_map<std::int32_t, std::uint32_t> generated;
    for (std::size_t i = 0; i < r.history.size(); ++i)
      generated[r.history[i]] += i >= r.prompt_tokens ? 1 : 0;
    for (const auto& [token, count] : generated) histories_.push_back({token, count});
    out.history_end = static_cast<std::uint32_t>(histories_.size());
  }
  const bool greedy = p.temperature == 0 || p.top_k == 1;
  const bool plain = p.logit_bias.empty() && r.banned.empty() && !has_penalties(p);
  if (!greedy || !plain) out.scratch = static_cast<std::int32_t>(scratch_rows_++);
  return out;
}

result<void> cuda_model::launch_choices(std::span<const sample_request> samples,
                                        std::span<const score_request> scores) {
  requests_.clear();
  biases_.clear();
  histories_.clear();
  bans_.clear();
  scratch_rows_ = 0;
  std::size_t top = 1;
  for (const auto& r : samples) requests_.push_back(describe(r));
  for (const auto& r : scores) {
    device_request one;
    one.logit_row = r.logit_row;
    one.scored = r.token;
    one.top_logprobs = static_cast<std::int32_t>(r.top_logprobs);
    requests_.push_back(one);
  }
  for (const auto& r : requests_)
    top = std::max<std::size_t>(top, static_cast<std::size_t>(std::max(r.top_logprobs, 0)));
  const std::size_t count = requests_.size();
  const auto stream = device_->stream;

  const auto room = choice_room{count, biases_.size(), histories_.size(), bans_.size(), scratch_rows_, top};
  for (auto done :
       {ensure(lists_, lay_out(room, nullptr).bytes, "lists of the choices", *device_),
        ensure(scratch_, room.scratch_rows * program_.vocabulary * sizeof(float), "rows of the choices",
               *device_),
        ensure(choices_, round_up(count * sizeof(device_choice)) + count * top * sizeof(device_alternative),
               "choices", *device_),
        ensure(tokens_[1 - parity_], count * sizeof(std::int32_t), "chosen tokens", *device_)})
    if (!done) return done;
  slot& own = ring_[next_slot_];
  if (auto done = ok(cudaEventSynchronize(own.done), "a step"); !done) return done;
  const auto at = lay_out(room, lists_.as<char>());
  if (auto done = image_.begin(own.lists, lists_.as<char>(), lists_.bytes()); !done) return done;
  image_.put(at.requests, requests_);
  image_.put(at.biases, biases_);
  image_.put(at.histories, histories_);
  image_.put(at.bans, bans_);
  if (auto done = image_.send(stream); !done) return done;
  const sampling_lists seen{at.requests, at.biases, at.histories, at.bans,
                            tokens_[parity_].as<std::int32_t>()};
  const std::size_t choice_bytes = round_up(count * sizeof(device_choice));
  const std::size_t out_bytes = choice_bytes + count * top * sizeof(device_alternative);
  auto* chosen = choices_.as<char>();
  sample_cuda(stream, {logits_, logit_rows_, program_.vocabulary}, seen, count, scratch_.as<float>(),
              reinterpret_cast<device_choice*>(chosen), tokens_[1 - parity_].as<std::int32_t>(),
              reinterpret_cast<device_alternative*>(chosen + choice_bytes), top);
  if (auto done = ok(cudaGetLastError(), "choice of tokens"); !done) return done;
  parity_ = 1 - parity_;
  if (auto done = ensure_pinned(own.outputs, out_bytes); !done) return done;
  if (count > 0)
    if (auto done = ok(cudaMemcpyAsync(own.outputs.as(), chosen, out_bytes, cudaMemcpyDeviceToHost, stream),
                       "cudaMemcpyAsync of choices");
        !done)
      return done;
  own.samples = samples.size();
  own.scores = scores.size();
  own.top = top;
  next_slot_ = (next_slot_ + 1) % slots;
  return ok(cudaEventRecord(own.done, stream), "cudaEventRecord");
}

result<void> cuda_model::finish(std::span<sampled_token> samples, std::span<sampled_token> scores,
                                slot& from) {
  if (auto done = ok(cudaEventSynchronize(from.done), "a step"); !done) return done;
  if (samples.size() != from.samples || scores.size() != from.scores)
    return fail(error_code::internal, "collect: {} choices and {} scores were enqueued, {} and {} asked for",
                from.samples, from.scores, samples.size(), scores.size());
  const auto* choices = from.outputs.as<const device_choice>();
  const std::size_t count = from.samples + from.scores,
                    choice_bytes = round_up(count * sizeof(device_choice));
  const auto* top = reinterpret_cast<const device_alternative*>(from.outputs.as<const char>() + choice_bytes);
  for (std::size_t i = 0; i < count; ++i) {
    auto token = to_token(choices[i], top + i * from.top);
    (i < from.samples ? samples[i] : scores[i - from.samples]) = std::move(token);
  }
  return {};
}

}  // namespace troupe::ops::cuda
