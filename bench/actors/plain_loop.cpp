#include "bench/actors/plain_loop.hpp"

#include <optional>
#include <stdexcept>
#include <unordered_map>

#include "actors/cache_manager/block_pool.hpp"
#include "actors/executor/step_runner.hpp"
#include "actors/tokenizer/stream_state.hpp"
#include "actors/tokenizer/tokenizer_actor.hpp"
#include "bench/actors/busy_backend.hpp"

namespace troupe::bench {
namespace {

class plain_loop {
 public:
  plain_loop(const settings& s, const prepared_model_ptr& model)
      : settings_(s),
        device_(s, &times_.backend),
        pool_({.blocks = s.blocks(), .prefix_caching = true}),
        runner_({0}, *device_.load(model->program, nullptr, {}), model->vocabulary,
                planner_settings(s).max_sequences),
        planner_(planner_settings(s)) {
    pool_.set_block_tokens({0}, s.block_tokens);
    planner_.cache_here();
    planner_.executor_here();
    wire::ModelLoadedT loaded;
    loaded.block_tokens = s.block_tokens;
    loaded.blocks = s.blocks();
    loaded.pool = 1;
    planner_.model_loaded(*message<wire::ModelLoaded>::pack(loaded), 1);
    const auto texts = text_model_of(*model);
    for (std::uint64_t i = 1; i <= s.sequences; ++i) {
      const auto g = message<wire::Generate>::pack(generate(s, i));
      auto admitted = text::admit(texts, i, *g, 1, [] { return std::uint64_t{1}; });
      if (!admitted) throw std::runtime_error(admitted.error().text);
      auto& stream = streams_.try_emplace(i, i, std::move(*admitted), model->tokenizer).first->second;
      for (auto& submit : stream.submits()) planner_.submit(0, std::move(submit), 1);
    }
  }

  plain_times run() {
    std::optional<message<wire::StepPlan>> plan;
    while (!planner_.idle()) {
      if (!plan) {
        serve_cache();
        plan = planner_.next_plan(1);
        continue;
      }
      plan = step(**plan);
    }
    times_.chunks /= static_cast<double>(std::max<std::size_t>(1, times_.text.size()));
    return std::move(times_);
  }

 private:
  void serve_cache() {
    planner_.take_release();
    auto lease = planner_.next_lease();
    if (!lease) return;
    wire::LeaseGrantedT answer;
    for (const auto* item : *(*lease)->items()) {
      std::vector<granted_block> out;
      pool_.lease({{0}, {item->sequence()}}, item->tokens(), {}, out);
      for (const auto& g : out) answer.grants.emplace_back(item->sequence(), g.block.value, std::uint8_t{0});
    }
    planner_.granted(planner_.lease(), *message<wire::LeaseGranted>::pack(answer));
  }

  // Answers the next plan.
  std::optional<message<wire::StepPlan>> step(const wire::StepPlan& plan) {
    const bool counts = plan.decode() != nullptr && plan.decode()->size() == settings_.sequences;
    const double begin = now_us();
    const auto done = runner_.run(plan);
    const double ran = now_us();
    planner_.result(**done, 1);
    serve_cache();
    auto next = planner_.next_plan(1);
    batches_.clear();
    planner_.take_tokens(batches_);
    const double planned = now_us();
    std::size_t bytes = 0, chunks = 0;
    for (const auto& batch : batches_) {
      read(*batch.batch, bytes, chunks);
      planner_.tokens_taken(batch.destination);
    }
    const double read = now_us();
    if (counts) {
      times_.runner.push_back(ran - begin);
      times_.scheduler.push_back(planned - ran);
      times_.text.push_back(read - planned);
      times_.chunks += static_cast<double>(chunks);
      times_.result_bytes = done->bytes().size();
      if (next) times_.plan_bytes = next->bytes().size();
      if (!batches_.empty()) times_.token_bytes = batches_[0].batch.bytes().size();
      if (chunks > 0) times_.chunk_bytes = bytes / chunks;
    }
    return next;
  }

  void read(const wire::TokenBatch& batch, std::size_t& bytes, std::size_t& chunks) {
    for (const auto* delta : *batch.deltas()) {
      const auto outcome = streams_.at(delta->stream()).apply(*delta, 2);
      chunks += outcome.replies.size();
      for (const auto& r : outcome.replies) bytes += r.bytes().size();
    }
  }

  settings settings_;
  plain_times times_;
  busy_backend device_;
  block_pool pool_;
  step_runner runner_;
  batch_planner planner_;
  std::unordered_map<std::uint64_t, text::stream_state> streams_;
  std::vector<token_batch> batches_;
};

}  // namespace

plain_times run_plain_loop(const settings& s, const prepared_model_ptr& model) {
  return plain_loop(s, model).run();
}

}  // namespace troupe::bench
