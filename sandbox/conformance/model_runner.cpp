#include "sandbox/conformance/model_runner.hpp"

#include <algorithm>

#include "ops/device/open_backend.hpp"

namespace troupe::check {
namespace {
// A block holds about this many tokens: small enough that every prompt of some length crosses block borders.
constexpr std::uint64_t block_tokens = 16;
}  // namespace

result<std::unique_ptr<model_runner>> model_runner::open(const program::verified_program& program,
                                                         std::shared_ptr<const checkpoint::weights> weights,
                                                         const runner_options& options) {
  ops::backend_options b;
  b.threads = options.threads;
  b.reference_ops = options.reference_ops;
  b.block_bytes =
      std::max<std::uint64_t>(1, program::kv_bytes_per_token(*program, sizeof(float))) * block_tokens;
  // Each sequence may leave its last block partly empty.
  b.blocks = static_cast<std::uint32_t>(options.cache_tokens / block_tokens + max_sequences);
  auto backend = ops::open_backend(options.library, b);
  if (!backend) return fail(backend.error());
  auto runner = std::unique_ptr<model_runner>(new model_runner);
  runner->backend_ = std::move(*backend);
  ops::load_options how;
  how.native_ops = options.native_ops;
  how.state_slots = max_sequences;
  how.int8 = options.int8;
  how.tell = options.tell;
  auto model = runner->backend_->load(program, std::move(weights), how);
  if (!model) return fail(model.error());
  runner->model_ = std::move(*model);
  runner->blocks_ = b.blocks;
  runner->vocabulary_ = program->facts()->vocabulary();
  return runner;
}

result<void> model_runner::grow(sequence_state& sequence, std::size_t tokens) {
  const std::size_t per_block = model_->block_tokens();
  while (sequence.blocks.size() * per_block < sequence.length + tokens) {
    if (next_block_ == blocks_) return fail(error_code::internal, "the check's own cache is too small");
    sequence.blocks.push_back(next_block_++);
  }
  return {};
}

result<void> model_runner::run(std::span<const piece> pieces, std::span<ops::probe_request> probes) {
  std::vector<std::int32_t> tokens, positions;
  std::vector<std::uint32_t> rows{0}, wanted, slots;
  std::vector<std::span<const std::uint32_t>> tables;
  for (const piece& p : pieces) {
    if (p.sequence >= max_sequences)
      return fail(error_code::internal, "the check has more sequences at once than it made room for");
    if (p.sequence >= sequences_.size()) sequences_.resize(p.sequence + 1);
    sequence_state& s = sequences_[p.sequence];
    if (auto grown = grow(s, p.tokens.size()); !grown) return grown;
    for (const std::uint32_t row : p.wanted) wanted.push_back(rows.back() + row);
    for (std::size_t i = 0; i < p.tokens.size(); ++i)
      positions.push_back(static_cast<std::int32_t>(s.length + i));
    tokens.insert(tokens.end(), p.tokens.begin(), p.tokens.end());
    rows.push_back(static_cast<std::uint32_t>(tokens.size()));
    s.length += p.tokens.size();
  }
  for (const piece& p : pieces) {
    tables.emplace_back(sequences_[p.sequence].blocks);
    slots.push_back(static_cast<std::uint32_t>(p.sequence));
  }
  return model_->run({tokens, positions, rows, tables, wanted, slots}, probes);
}

result<void> model_runner::prefill(std::size_t sequence, std::span<const std::int32_t> tokens,
                                   std::size_t chunk) {
  if (chunk == 0) chunk = tokens.size();
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    piece p{sequence, tokens.subspan(begin, std::min(chunk, tokens.size() - begin)), {}};
    if (begin + p.tokens.size() == tokens.size())
      p.wanted = {static_cast<std::uint32_t>(p.tokens.size() - 1)};
    if (auto ran = run({&p, 1}); !ran) return ran;
  }
  return {};
}

std::vector<float> model_runner::logits(std::size_t rows) {
  std::vector<float> out(rows * vocabulary_);
  model_->read_logits(out);
  return out;
}

std::vector<std::int32_t> model_runner::greedy(std::size_t rows) {
  ops::sampling_params params;
  params.temperature = 0;
  std::vector<ops::sample_request> requests(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    requests[i].logit_row = static_cast<std::uint32_t>(i);
    requests[i].params = &params;
  }
  std::vector<ops::sampled_token> chosen(rows);
  model_->sample(requests, chosen);
  std::vector<std::int32_t> out;
  out.reserve(rows);
  for (const ops::sampled_token& t : chosen) out.push_back(t.token);
  return out;
}

std::vector<float> model_runner::score(std::span<const std::int32_t> tokens) {
  std::vector<ops::score_request> requests(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    requests[i].logit_row = static_cast<std::uint32_t>(i);
    requests[i].token = tokens[i];
  }
  std::vector<ops::sampled_token> scored(tokens.size());
  model_->score(requests, scored);
  std::vector<float> out;
  out.reserve(scored.size());
  for (const ops::sampled_token& t : scored) out.push_back(t.logprob);
  return out;
}

void model_runner::reset() {
  sequences_.clear();
  next_block_ = 0;
}

std::string model_runner::device() const {
  const ops::device_info info = backend_->info();
  return info.detail.empty() ? info.name : info.name + " (" + info.detail + ")";
}

}  // namespace troupe::check
