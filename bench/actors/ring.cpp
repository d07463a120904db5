#include "bench/actors/ring.hpp"

#include <atomic>
#include <caf/actor_cast.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <future>

#include "actors/types.hpp"

namespace troupe::bench {
namespace {

struct hop_count {
  explicit hop_count(std::int64_t hops) : left(hops) {}
  std::atomic<std::int64_t> left;
  std::atomic<std::uint64_t> moved{0};  // messages whose bytes were not where they had been
  const std::uint8_t* bytes = nullptr;
  std::promise<void> done;
};

template <class Message>
caf::behavior member(caf::event_based_actor* self, std::shared_ptr<hop_count> count) {
  auto next = std::make_shared<caf::actor>();
  return {[=](const caf::strong_actor_ptr& neighbour) { *next = caf::actor_cast<caf::actor>(neighbour); },
          [=](const Message& m) {
            if (m.bytes().data() != count->bytes) ++count->moved;
            const auto left = --count->left;
            if (left == 0) count->done.set_value();
            if (left > 0) self->send(*next, m);
          }};
}

// Messages per second with `in_flight` of them on their way.
template <class Message>
void run_ring(caf::actor_system& system, const char* name, const Message& m, std::uint32_t hops,
              std::uint32_t in_flight) {
  auto count = std::make_shared<hop_count>(hops);
  count->bytes = m.bytes().data();
  std::vector<caf::actor> ring;
  ring.reserve(3);
  for (int i = 0; i < 3; ++i) ring.push_back(system.spawn(member<Message>, count));
  for (std::size_t i = 0; i < 3; ++i)
    caf::anon_send(ring[i], caf::actor_cast<caf::strong_actor_ptr>(ring[(i + 1) % 3]));
  const double begin = now_us();
  for (std::uint32_t i = 0; i < in_flight; ++i) caf::anon_send(ring[i % 3], m);
  count->done.get_future().wait();
  const double us = now_us() - begin;
  for (const auto& a : ring) {
    caf::anon_send_exit(a, caf::exit_reason::kill);
    caf::scoped_actor {
      system
      } -> wait_for(a);
  }
  fmt::print("  {:<12} {:>7} {:>11} {:>17.2f} {:>12.2f} {:>16}\n", name, m.bytes().size(), in_flight,
             hops / us, us / hops, count->moved == 0 ? 0 : m.bytes().size());
}

template <class Message>
void run_both(caf::actor_system& system, const char* name, const Message& m, const settings& s) {
  run_ring(system, name, m, s.messages / 3, 1);
  run_ring(system, name, m, s.messages, 1000);
}

}  // namespace

void run_rings(caf::actor_system& system, const settings& s) {
  fmt::print("\n  {:<12} {:>7} {:>11} {:>17} {:>12} {:>16}\n", "ring of 3", "bytes", "in flight",
             "million msgs/s", "us per hop", "copied per hop");
  wire::StepPlanT plan;
  wire::TokenBatchT tokens;
  for (std::uint64_t i = 0; i < s.sequences; ++i) {
    plan.decode.push_back(i);
    auto d = std::make_unique<wire::TokenDeltaT>();
    d->stream = i;
    d->tokens.push_back(std::make_unique<wire::TokenLogprobT>());
    tokens.deltas.push_back(std::move(d));
  }
  run_both(system, "StepPlan", message<wire::StepPlan>::pack(plan), s);
  run_both(system, "TokenBatch", message<wire::TokenBatch>::pack(tokens), s);
}

}  // namespace troupe::bench
