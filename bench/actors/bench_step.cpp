// What the actor path adds to a decode step: the actors of a server from door to door, on a backend whose ops cost nothing,
// against bare calls of that backend. Prints tables; fails if the median of what is added is above the limit.
#include <caf/actor_system_config.hpp>
#include <CLI/CLI.hpp>
#include <thread>

#include "actors/types.hpp"
#include "bench/actors/actor_path.hpp"
#include "bench/actors/plain_loop.hpp"
#include "bench/actors/ring.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::bench {
namespace {

// Steps in which all sequences decode.
std::uint64_t first_step(const settings& s) {
  return s.steps / 10;
}
std::uint64_t last_step(const settings& s) {
  return s.steps - s.steps / 10;
}

// Time from step to step. Two plans are in flight, so steps may end in bursts: only many in a row tell their cost.
figures step_cost(const settings& s, const recorder& times) {
  return figures_of(windows_of(times.intervals(hop::result_sent, first_step(s), last_step(s)), s.window));
}

recorder measure(caf::actor_system& system, const settings& s, const prepared_model_ptr& model,
                 const path_options& options) {
  recorder times(s.steps + 64);
  run_actor_path(system, s, model, options, times);
  return times;
}

figures added(const figures& whole, const figures& bare) {
  return {whole.median - bare.median, whole.p99 - bare.p99, whole.mean - bare.mean};
}

void print_hops(const settings& s, const recorder& times, const plain_times& plain) {
  const auto between = [&](hop from, hop to) {
    return figures_of(times.between(from, to, first_step(s), last_step(s)));
  };
  fmt::print("\n  {:<50} {:>9} {:>9} {:>9}   us; hops of neighbouring steps overlap\n", "where a step is",
             "median", "mean", "p99");
  row("scheduler: build and send the plan", between(hop::plan_begun, hop::plan_sent),
      fmt::format("{} bytes", plain.plan_bytes));
  row("plan on its way and in executor's mailbox", between(hop::plan_sent, hop::plan_taken),
      "behind the step before");
  row("executor: run and send the result", between(hop::plan_taken, hop::result_sent),
      fmt::format("{} bytes", plain.result_bytes));
  row("result on its way", between(hop::result_sent, hop::result_taken));
  row("scheduler: result, next plan, tokens told", between(hop::result_taken, hop::tokens_told),
      fmt::format("{} bytes", plain.token_bytes));
  const auto leases = times.leases();
  row("lease: asked to granted", figures_of(leases),
      fmt::format("{:.2f} per step", static_cast<double>(leases.size()) / s.steps));
  if (const auto out = times.to_door(); !out.empty())
    row("batch of tokens sent to chunks at the door", figures_of(out),
        fmt::format("{:.2f} per step, {:.0f} chunks of {} bytes or more",
                    static_cast<double>(out.size()) / static_cast<double>(last_step(s) - first_step(s)),
                    plain.chunks, plain.chunk_bytes));
}

void print_plain(const plain_times& plain) {
  fmt::print("\n  {:<50} {:>9} {:>9} {:>9}   us\n", "the same work in one thread, without actors", "median",
             "mean", "p99");
  row("backend: run and sample", figures_of(plain.backend));
  row("step runner: that, plan read, result built", figures_of(plain.runner));
  row("scheduler: result, leases, next plan, tokens", figures_of(plain.scheduler));
  row("tokenizer: text, chunks", figures_of(plain.text), "the fan-out's own cost, beside the step");
}

// The gate: the whole path with two plans in flight. The other rows are for comparison.
int report(caf::actor_system& system, const settings& s) {
  const auto model = make_model();
  const auto plain = run_plain_loop(s, model);
  const figures bare = figures_of(windows_of(plain.backend, s.window));
  const recorder path = measure(system, s, model, {});
  const figures whole = step_cost(s, path);
  const figures tokens_only = step_cost(s, measure(system, s, model, {.with_text = false}));
  const figures one_plan = step_cost(s, measure(system, s, model, {.plans_in_flight = 1}));
  fmt::print(
      "{} sequences, {} steps, scheduler.policy = {}, {} workers + threads of executor and tokenizer, {} us "
      "of "
      "compute, {} cores\n\n",
      s.sequences, s.steps, s.policy, s.workers, s.compute_us, std::thread::hardware_concurrency());
  fmt::print("  {:<50} {:>9} {:>9} {:>9}   us, of windows of {} steps\n", "per decode step", "median", "mean",
             "p99", s.window);
  row("bare backend: run and sample", bare);
  row("actor path, door to door", whole);
  row("  added", added(whole, bare), "<- the gate");
  row("actor path, one plan in flight: added", added(one_plan, bare));
  row("actor path, tokens end behind the scheduler: added", added(tokens_only, bare));
  print_hops(s, path, plain);
  print_plain(plain);
  const double cost = whole.median - bare.median;
  fmt::print("\n{}: {:.1f} us added, limit {:.1f} us\n",
             cost <= s.limit_us ? "within the limit" : "ABOVE THE LIMIT", cost, s.limit_us);
  return cost <= s.limit_us ? 0 : 1;
}

int run(const settings& s) {
  log::configure({.least = log::level::warning});
  caf::actor_system_config config;
  config.add_message_types<caf::id_block::troupe>();
  config.set("scheduler.policy", caf::atom_from_string(s.policy));
  config.set("scheduler.max-threads", std::size_t{s.workers});
  caf::actor_system system{config};
  const int verdict = report(system, s);
  run_rings(system, s);
  return verdict;
}

}  // namespace
}  // namespace troupe::bench

int main(int argc, char** argv) {
  troupe::bench::settings s;
  CLI::App app{"Time that the actor path adds to a decode step"};
  app.add_option("--sequences", s.sequences, "sequences that decode together")->capture_default_str();
  app.add_option("--steps", s.steps, "tokens that each generates")
      ->capture_default_str()
      ->check(CLI::Range(300, 100'000));
  app.add_option("--compute-us", s.compute_us, "time that the backend is busy in each step")
      ->capture_default_str();
  app.add_option("--workers", s.workers,
                 "threads of the actor framework, beside the executor's and the tokenizer's")
      ->capture_default_str();
  app.add_option("--policy", s.policy, "scheduler of the actor framework: sharing or stealing")
      ->capture_default_str();
  app.add_option("--limit-us", s.limit_us, "fail if the median added time is above")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return troupe::bench::run(s);
}
