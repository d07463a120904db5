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

// Device memory for `count` elements; keeps what is there if it is enough. Nothing on the way uses the old one: the caller has waited.
template <class T>
result<void> ensure(device_memory& memory, std::size_t count, std::string_view what, cudaStream_t stream) {
  if (memory.bytes() >= count * sizeof(T)) return {};
  if (auto done = ok(cudaStreamSynchronize(stream), "a step"); !done) return done;
  memory = {};
  auto taken = device_memory::take(count * sizeof(T) * 2, what);
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

  const std::size_t at_requests = append(std::span<const device_request>(requests_), nullptr);
  const std::size_t at_biases = append(std::span<const bias_entry>(biases_), nullptr);
  const std::size_t at_histories = append(std::span<const history_entry>(histories_), nullptr);
  const std::size_t at_bans = append(std::span<const std::int32_t>(bans_), nullptr);
  const std::size_t list_bytes = image_.size();
  const std::size_t choice_bytes = (count * sizeof(device_choice) + 255) / 256 * 256;
  const std::size_t out_bytes = choice_bytes + count * top * sizeof(device_alternative);
  for (auto done :
       {ensure<char>(lists_, list_bytes, "lists of the choices", stream),
        ensure<float>(scratch_, scratch_rows_ * program_.vocabulary, "rows of the choices", stream),
        ensure<char>(choices_, out_bytes, "choices", stream),
        ensure<std::int32_t>(tokens_[1 - parity_], std::max<std::size_t>(count, 1), "chosen tokens", stream)})
    if (!done) return done;
  slot& own = ring_[next_slot_];
  if (list_bytes > 0) pieces_.push_back({lists_.as<void>(), 0, list_bytes});
  if (auto done = send(own.lists); !done) return done;
  const char* lists = lists_.as<char>();
  const sampling_lists seen{reinterpret_cast<const device_request*>(lists + at_requests),
                            reinterpret_cast<const bias_entry*>(lists + at_biases),
                            reinterpret_cast<const history_entry*>(lists + at_histories),
                            reinterpret_cast<const std::int32_t*>(lists + at_bans),
                            tokens_[parity_].as<std::int32_t>()};
  auto* chosen = choices_.as<char>();
  sample_cuda(stream, {logits_, logit_rows_, program_.vocabulary}, seen, count, scratch_.as<float>(),
              reinterpret_cast<device_choice*>(chosen), tokens_[1 - parity_].as<std::int32_t>(),
              reinterpret_cast<device_alternative*>(chosen + choice_bytes), top);
  if (auto done = ok(cudaGetLastError(), "choice of tokens"); !done) return done;
  parity_ = 1 - parity_;
  if (own.outputs.bytes() < out_bytes) {
    own.outputs = {};
    auto memory = pinned_memory::take(out_bytes * 2, "cudaMallocHost for choices");
    if (!memory) return fail(std::move(memory.error()));
    own.outputs = std::move(*memory);
  }
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
                    choice_bytes = (count * sizeof(device_choice) + 255) / 256 * 256;
  const auto* top = reinterpret_cast<const device_alternative*>(from.outputs.as<const char>() + choice_bytes);
  for (std::size_t i = 0; i < count; ++i) {
    auto token = to_token(choices[i], top + i * from.top);
    (i < from.samples ? samples[i] : scores[i - from.samples]) = std::move(token);
  }
  return {};
}

}  // namespace troupe::ops::cuda
