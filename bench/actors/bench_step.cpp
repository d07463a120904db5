// What the actor path adds to a decode step: scheduler, cache-manager and executor as in a server, on a backend whose ops
// cost nothing, against a plain loop that runs the same plans. Prints a table; fails if the median is above the limit.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <chrono>
#include <CLI/CLI.hpp>
#include <future>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "actors/cache_manager/block_pool.hpp"
#include "actors/cache_manager/cache_manager.hpp"
#include "actors/executor/executor.hpp"
#include "actors/executor/step_runner.hpp"
#include "actors/scheduler/scheduler.hpp"
#include "kernel/telemetry/log.hpp"
#include "ops/backends/null/null_backend.hpp"
#include "tests/support/submit.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::bench {
namespace {

using clock = std::chrono::steady_clock;

struct settings {
  std::uint32_t sequences = 32;
  std::uint32_t steps = 4000;
  std::uint32_t block_tokens = 16;
  std::uint32_t prompt = 16;
  std::uint32_t workers = 2;
  std::uint32_t pings = 200'000;
  double compute_us = 0;
  double limit_us = 50;
  std::string policy = "sharing";
  std::uint32_t blocks() const { return sequences * ((prompt + steps) / block_tokens + 3); }
};

double now_us() {
  return std::chrono::duration<double, std::micro>(clock::now().time_since_epoch()).count();
}

// The null backend, busy for a while in each step.
class busy_model final : public ops::model {
 public:
  busy_model(std::unique_ptr<ops::model> inner, double us) : inner_(std::move(inner)), us_(us) {}
  std::uint32_t block_tokens() const override { return inner_->block_tokens(); }
  std::uint64_t weight_bytes() const override { return inner_->weight_bytes(); }
  result<void> run(const ops::step_batch& batch, std::span<ops::probe_request> probes) override {
    for (const double end = now_us() + us_; us_ > 0 && now_us() < end;) {
    }
    return inner_->run(batch, probes);
  }
  void sample(std::span<const ops::sample_request> r, std::span<ops::sampled_token> o) override {
    inner_->sample(r, o);
  }
  void score(std::span<const ops::score_request> r, std::span<ops::sampled_token> o) override {
    inner_->score(r, o);
  }
  void read_logits(std::span<float> out) override { inner_->read_logits(out); }

 private:
  std::unique_ptr<ops::model> inner_;
  double us_;
};

class busy_backend final : public ops::backend {
 public:
  explicit busy_backend(const settings& s)
      : inner_(ops::open_null_backend({.block_tokens = s.block_tokens})), us_(s.compute_us) {}
  ops::device_info info() const override { return inner_->info(); }
  result<std::unique_ptr<ops::model>> load(const program::verified_program& program,
                                           std::shared_ptr<const checkpoint::weights> files,
                                           const ops::load_options& options) override {
    auto loaded = inner_->load(program, std::move(files), options);
    if (!loaded) return loaded;
    return std::make_unique<busy_model>(std::move(*loaded), us_);
  }

 private:
  std::unique_ptr<ops::backend> inner_;
  double us_;
};

message<wire::Submit> request(const settings& s, std::uint64_t stream) {
  test::recall_request r;
  r.max_tokens = s.steps;
  r.seed = stream;
  for (std::uint32_t i = 0; i < s.prompt; ++i)
    r.prompt.push_back(static_cast<std::int32_t>((i + stream) % test::tiny_program::vocabulary));
  return test::pack(test::submit_of(stream, r));
}

planner_options planner_settings(const settings& s) {
  planner_options o;
  o.max_sequences = std::max(o.max_sequences, s.sequences);
  o.queue_limit = std::max(o.queue_limit, s.sequences);
  return o;
}

// ---- figures ------------------------------------------------------------------------------------------

struct figures {
  double median = 0, p99 = 0, mean = 0;
};

figures figures_of(std::vector<double> x) {
  if (x.empty()) return {};
  std::ranges::sort(x);
  const double sum = std::accumulate(x.begin(), x.end(), 0.0);
  return {x[x.size() / 2], x[x.size() * 99 / 100], sum / static_cast<double>(x.size())};
}

void row(const char* what, const figures& f, const char* note = "") {
  fmt::print("  {:<44} {:>9.1f} {:>9.1f} {:>9.1f}   {}\n", what, f.median, f.mean, f.p99, note);
}

// ---- the plain loop -----------------------------------------------------------------------------------

// The same requests through the same planner, in one thread; only the calls of the step runner are timed.
std::vector<double> plain_loop(const settings& s) {
  block_pool pool({.blocks = s.blocks(), .prefix_caching = true});
  pool.set_block_tokens({0}, s.block_tokens);
  auto program = program::verify(test::tiny_program::bytes(test::tiny_program::make()));
  busy_backend device(s);
  step_runner runner({0}, std::move(*device.load(*program, nullptr, {})), test::tiny_program::vocabulary);
  batch_planner planner(planner_settings(s));
  planner.cache_here();
  planner.executor_here();
  wire::ModelLoadedT loaded;
  loaded.block_tokens = s.block_tokens;
  loaded.blocks = s.blocks();
  loaded.pool = 1;
  planner.model_loaded(*message<wire::ModelLoaded>::pack(loaded), 1);
  for (std::uint64_t i = 1; i <= s.sequences; ++i) planner.submit(0, request(s, i), 1);

  std::vector<double> times;
  std::vector<token_batch> batches;
  while (!planner.idle()) {
    planner.take_release();
    if (auto lease = planner.next_lease()) {
      wire::LeaseGrantedT answer;
      for (const auto* item : *(*lease)->items()) {
        std::vector<granted_block> out;
        pool.lease({{0}, {item->sequence()}}, item->tokens(), {}, out);
        for (const auto& g : out)
          answer.grants.emplace_back(item->sequence(), g.block.value, std::uint8_t{0});
      }
      planner.granted(planner.lease(), *message<wire::LeaseGranted>::pack(answer));
    }
    if (auto plan = planner.next_plan(1)) {
      const double begin = now_us();
      auto done = runner.run(**plan);
      const double end = now_us();
      if ((*plan)->decode() != nullptr && (*plan)->decode()->size() == s.sequences)
        times.push_back(end - begin);
      planner.result(**done, 1);
    }
    batches.clear();
    planner.take_tokens(batches);
  }
  return times;
}

// ---- the actor path -----------------------------------------------------------------------------------

// When each step was where. Each entry is written by one thread and read behind the end of all.
class recorder {
 public:
  explicit recorder(std::size_t steps) : marks_(steps), leases_(steps) {}
  void mark(hop where, std::uint64_t step) {
    const bool lease = where == hop::leases_asked || where == hop::leases_granted;
    auto& table = lease ? leases_ : marks_;
    if (step < table.size()) table[step][static_cast<std::size_t>(where)] = now_us();
  }
  std::vector<double> between(hop from, hop to, std::uint64_t first, std::uint64_t last) const {
    return differences(marks_, from, to, first, last);
  }
  std::vector<double> leases() const {
    return differences(leases_, hop::leases_asked, hop::leases_granted, 1, leases_.size());
  }
  // From one step to the next.
  std::vector<double> intervals(hop at, std::uint64_t first, std::uint64_t last) const {
    std::vector<double> x;
    for (std::uint64_t s = first + 1; s < last; ++s)
      x.push_back(marks_[s][static_cast<std::size_t>(at)] - marks_[s - 1][static_cast<std::size_t>(at)]);
    return x;
  }

 private:
  using marks = std::array<double, 8>;
  static std::vector<double> differences(const std::vector<marks>& table, hop from, hop to,
                                         std::uint64_t first, std::uint64_t last) {
    std::vector<double> x;
    for (std::uint64_t s = first; s < last; ++s) {
      const double a = table[s][static_cast<std::size_t>(from)], b = table[s][static_cast<std::size_t>(to)];
      if (a > 0 && b > 0) x.push_back(b - a);
    }
    return x;
  }
  std::vector<marks> marks_, leases_;
};

// Stands for a tokenizer: submits everything, counts what comes back.
caf::behavior sink(caf::event_based_actor* self, settings s, scheduler_actor scheduler,
                   std::shared_ptr<std::promise<void>> done) {
  for (std::uint64_t i = 1; i <= s.sequences; ++i) self->send(scheduler, request(s, i));
  auto open = std::make_shared<std::uint32_t>(s.sequences);
  return {[=](const message<wire::TokenBatch>& batch) {
    for (const auto* d : *batch->deltas())
      if (d->finish() != wire::FinishReason::none || d->error() != error_code::none)
        if (--*open == 0) done->set_value();
  }};
}

template <class Handle>
void stop(const Handle& h) {
  caf::anon_send<caf::message_priority::high>(caf::actor_cast<caf::actor>(h),
                                              caf::exit_msg{h.address(), caf::exit_reason::kill});
}

void actor_path(caf::actor_system& system, const settings& s, recorder& times) {
  const step_trace trace = [&times](hop where, std::uint64_t step) { times.mark(where, step); };
  executor_options e;
  e.backend.blocks = s.blocks();
  e.open_backend = [&](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
    return std::make_unique<busy_backend>(s);
  };
  e.open_weights = [](const std::filesystem::path&) -> result<std::shared_ptr<const checkpoint::weights>> {
    return nullptr;
  };
  e.trace = trace;
  auto executor = spawn_executor(system, e);
  auto cache_manager = spawn_cache_manager(system, {.blocks = s.blocks()});
  scheduler_options o;
  o.planner = planner_settings(s);
  o.trace = trace;
  auto scheduler = spawn_scheduler(system, o);

  caf::scoped_actor self{system};
  self->send(scheduler, peer_atom_v, std::string("executor"),
             caf::actor_cast<caf::strong_actor_ptr>(executor));
  self->send(scheduler, peer_atom_v, std::string("cache_manager"),
             caf::actor_cast<caf::strong_actor_ptr>(cache_manager));
  wire::LoadModelT load;
  load.name = "tiny";
  load.checkpoint = "none";
  load.program = test::tiny_program::bytes(test::tiny_program::make());
  self->request(executor, caf::infinite, message<wire::LoadModel>::pack(load))
      .receive([&](const message<wire::ModelLoaded>& m) { self->send(scheduler, m); },
               [](const caf::error&) { throw std::runtime_error("the model was not loaded"); });
  auto done = std::make_shared<std::promise<void>>();
  auto tokens = system.spawn(sink, s, scheduler, done);
  done->get_future().wait();
  stop(tokens);
  stop(scheduler);
  stop(cache_manager);
  stop(executor);
}

// ---- messages -----------------------------------------------------------------------------------------

struct ping_count {
  std::atomic<std::uint64_t> moved{0};  // messages whose bytes were not where they had been
  std::promise<void> done;
};

// One of three in a ring.
caf::behavior ring_member(caf::event_based_actor* self, std::shared_ptr<ping_count> count,
                          std::uint32_t hops) {
  auto next = std::make_shared<caf::actor>();
  auto left = std::make_shared<std::uint32_t>(hops / 3);
  auto bytes = std::make_shared<const std::uint8_t*>(nullptr);
  return {[=](const caf::strong_actor_ptr& neighbour) { *next = caf::actor_cast<caf::actor>(neighbour); },
          [=](const message<wire::StepPlan>& plan) {
            if (*bytes == nullptr) *bytes = plan.bytes().data();
            if (*bytes != plan.bytes().data()) ++count->moved;
            if ((*left)-- == 0) {
              count->done.set_value();
              return;
            }
            self->send(*next, plan);
          }};
}

void ping(caf::actor_system& system, const settings& s) {
  auto count = std::make_shared<ping_count>();
  std::vector<caf::actor> ring;
  for (int i = 0; i < 3; ++i) ring.push_back(system.spawn(ring_member, count, s.pings));
  for (std::size_t i = 0; i < 3; ++i)
    caf::anon_send(ring[i], caf::actor_cast<caf::strong_actor_ptr>(ring[(i + 1) % 3]));
  wire::StepPlanT plan;
  for (std::uint64_t i = 0; i < s.sequences; ++i) plan.decode.push_back(i);
  const auto m = message<wire::StepPlan>::pack(plan);
  const double begin = now_us();
  caf::anon_send(ring[0], m);
  count->done.get_future().wait();
  const double seconds = (now_us() - begin) / 1e6;
  for (const auto& a : ring) stop(a);
  const std::uint64_t moved = count->moved;
  fmt::print(
      "\nStepPlan of {} bytes through a ring of 3 actors: {:.2f} million messages/s, {} bytes copied per "
      "message\n",
      m.bytes().size(), s.pings / seconds / 1e6, moved == 0 ? 0 : m.bytes().size());
}

// ---- all of it ----------------------------------------------------------------------------------------

int report(const settings& s, const std::vector<double>& plain_times, const recorder& times) {
  const std::uint64_t first = s.steps / 10, last = s.steps - s.steps / 10;  // all sequences decode there
  const figures plain = figures_of(plain_times);
  const figures whole = figures_of(times.intervals(hop::result_sent, first, last));
  fmt::print(
      "{} sequences, {} steps, scheduler.policy = {}, {} workers + executor's thread, {} us of compute, {} "
      "cores\n\n",
      s.sequences, s.steps, s.policy, s.workers, s.compute_us, std::thread::hardware_concurrency());
  fmt::print("  {:<44} {:>9} {:>9} {:>9}   us\n", "per decode step", "median", "mean", "p99");
  row("plain loop: step runner alone", plain);
  row("actor path: from step to step", whole);
  const double added = whole.median - plain.median;
  row("added by the actor path", {added, whole.p99 - plain.p99, whole.mean - plain.mean});
  fmt::print("\n  {:<44} {:>9} {:>9} {:>9}   us; two plans are in flight, so hops overlap\n",
             "where a step is", "median", "mean", "p99");
  auto between = [&](hop from, hop to) { return figures_of(times.between(from, to, first, last)); };
  row("scheduler: build and send the plan", between(hop::plan_begun, hop::plan_sent));
  row("plan on its way and in executor's mailbox", between(hop::plan_sent, hop::plan_taken),
      "behind the step before");
  row("executor: run and send the result", between(hop::plan_taken, hop::result_sent));
  row("result on its way", between(hop::result_sent, hop::result_taken));
  row("scheduler: result, next plan, tokens sent", between(hop::result_taken, hop::tokens_sent));
  const auto leases = times.leases();
  row("lease: asked to granted", figures_of(leases),
      fmt::format("{} leases, {:.2f} per step", leases.size(), static_cast<double>(leases.size()) / s.steps)
          .c_str());
  const bool good = added <= s.limit_us;
  fmt::print("\n{}: {:.1f} us added, limit {:.1f} us\n", good ? "within the limit" : "ABOVE THE LIMIT", added,
             s.limit_us);
  return good ? 0 : 1;
}

int run(const settings& s) {
  log::configure({.least = log::level::warning});
  caf::actor_system_config config;
  config.add_message_types<caf::id_block::troupe>();
  config.set("scheduler.policy", caf::atom_from_string(s.policy));
  config.set("scheduler.max-threads", std::size_t{s.workers});
  const auto plain = plain_loop(s);
  recorder times(s.steps + 64);
  caf::actor_system system{config};
  actor_path(system, s, times);
  const int verdict = report(s, plain, times);
  ping(system, s);
  return verdict;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  troupe::bench::settings s;
  CLI::App app{"Time that the actor path adds to a decode step"};
  app.add_option("--sequences", s.sequences, "sequences that decode together")->capture_default_str();
  app.add_option("--steps", s.steps, "tokens that each generates")->capture_default_str();
  app.add_option("--compute-us", s.compute_us, "time that the backend is busy in each step")
      ->capture_default_str();
  app.add_option("--workers", s.workers, "threads of the actor framework, beside the executor's")
      ->capture_default_str();
  app.add_option("--policy", s.policy, "scheduler of the actor framework: sharing or stealing")
      ->capture_default_str();
  app.add_option("--limit-us", s.limit_us, "fail if the median added time is above")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return troupe::bench::run(s);
}
