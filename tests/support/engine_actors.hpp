// Scheduler, cache-manager and executor as actors on a deterministic scheduler with virtual time, with stand-ins for
// their neighbours: a tokenizer that keeps what it gets and submits open streams again, a host that loads the
// model again, and the test as supervisor. One message is handled per run_one(); nothing moves by itself.
#pragma once

#include <gtest/gtest.h>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/cache_manager/cache_manager.hpp"
#include "actors/executor/executor.hpp"
#include "actors/scheduler/scheduler.hpp"
#include "kernel/telemetry/log.hpp"
#include "tests/support/submit.hpp"
#include "tests/support/tiny_program.hpp"

namespace troupe::test {

struct open_stream {
  recall_request request;
  wire::SubmitT submit;
  std::vector<std::int32_t> tokens;
  bool over = false;
  bool aborted = false;  // what is on its way still comes
  wire::FinishReason finish = wire::FinishReason::none;
  error_code error = error_code::none;
  std::string text;
};
using open_streams = std::map<std::uint64_t, open_stream>;

// Sends what the test gives it, so that it is the sender.
inline caf::behavior stand_in_tokenizer(caf::event_based_actor* self, std::shared_ptr<open_streams> streams) {
  auto scheduler = std::make_shared<scheduler_actor>();
  self->set_default_handler(caf::drop);
  return {[=](peer_atom, const std::string& id, const caf::strong_actor_ptr& handle) {
            if (id != "scheduler/0") return;
            *scheduler = caf::actor_cast<scheduler_actor>(handle);
            for (auto& [stream, s] : *streams) {
              if (s.over) continue;
              s.submit.generated = s.tokens;
              self->send(*scheduler, pack(s.submit));
            }
          },
          [=](const message<wire::Submit>& submit) {
            if (*scheduler) self->send(*scheduler, submit);
          },
          [=](const message<wire::Abort>& abort) {
            if (*scheduler) self->send(*scheduler, abort);
          },
          [=](const message<wire::TokenBatch>& batch) {
            for (const auto* d : *batch->deltas()) {
              open_stream& s = (*streams)[d->stream()];
              if (s.aborted) continue;
              EXPECT_FALSE(s.over) << "stream " << d->stream() << " goes on behind its end";
              if (d->tokens() != nullptr)
                for (const auto* t : *d->tokens()) s.tokens.push_back(t->token());
              s.finish = d->finish();
              s.error = d->error();
              if (d->error_text() != nullptr) s.text = d->error_text()->str();
              s.over = d->finish() != wire::FinishReason::none || d->error() != error_code::none;
            }
          }};
}

inline caf::behavior stand_in_host(caf::event_based_actor* self, message<wire::LoadModel> load) {
  auto executor = std::make_shared<executor_actor>();
  auto scheduler = std::make_shared<scheduler_actor>();
  self->set_default_handler(caf::drop);
  return {[=](peer_atom, const std::string& id, const caf::strong_actor_ptr& handle) {
    if (id == "executor") *executor = caf::actor_cast<executor_actor>(handle);
    if (id == "scheduler/0") *scheduler = caf::actor_cast<scheduler_actor>(handle);
    if (!*executor || !*scheduler || (id != "executor" && id != "scheduler/0")) return;
    self->request(*executor, caf::infinite, load)
        .then([=](const message<wire::ModelLoaded>& loaded) { self->send(*scheduler, loaded); },
              [](const caf::error&) {});
  }};
}

inline message<wire::LoadModel> load_message(const std::string& checkpoint = "nowhere") {
  wire::LoadModelT m;
  m.name = "tiny";
  m.checkpoint = checkpoint;
  m.program = tiny_program::bytes(tiny_program::make());
  return message<wire::LoadModel>::pack(m);
}

class engine_actors {
 public:
  static constexpr std::uint32_t vocabulary = tiny_program::vocabulary;

  explicit engine_actors(recall_options device_options = {}, planner_options planner_opts = {})
      : device(std::move(device_options)),
        planner(planner_opts),
        system(configure(config)),
        coordinator(dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())) {
    log::configure({.least = log::level::off});
    tokenizer = system.spawn(stand_in_tokenizer, streams);
    host = system.spawn(stand_in_host, load_message());
    spawn("executor");
    spawn("cache_manager");
    spawn("scheduler/0");
    for (const char* id : {"executor", "cache_manager", "scheduler/0"}) announce(id);
    run_all();
  }
  ~engine_actors() {
    for (const char* id : {"executor", "cache_manager", "scheduler/0"}) kill(id);
    stop(tokenizer);
    stop(host);
    run_all();
  }
  engine_actors(const engine_actors&) = delete;
  engine_actors& operator=(const engine_actors&) = delete;

  executor_options make_executor_options() {
    executor_options o;
    o.backend.blocks = device.blocks;
    o.backend.block_bytes = 1024;
    o.detached = false;
    o.max_sequences = planner.max_sequences;
    o.open_backend = [this](const ops::backend_options&) -> result<std::unique_ptr<ops::backend>> {
      return std::make_unique<recall_backend>(device);
    };
    o.open_weights =
        [this](const std::filesystem::path&) -> result<std::shared_ptr<const checkpoint::weights>> {
      ++weights_opened;
      return std::make_shared<checkpoint::weights>();
    };
    return o;
  }

  void spawn(const std::string& id) {
    if (id == "executor") executor = spawn_executor(system, make_executor_options());
    if (id == "cache_manager")
      cache_manager = spawn_cache_manager(system, {.blocks = device.blocks, .block_bytes = 1024});
    if (id == "scheduler/0") {
      scheduler_options o;
      o.planner = planner;
      scheduler = spawn_scheduler(system, o);
    }
  }
  caf::strong_actor_ptr handle(const std::string& id) const {
    if (id == "executor") return caf::actor_cast<caf::strong_actor_ptr>(executor);
    if (id == "cache_manager") return caf::actor_cast<caf::strong_actor_ptr>(cache_manager);
    return caf::actor_cast<caf::strong_actor_ptr>(scheduler);
  }
  template <class To>
  void tell_peer(const To& to, const std::string& id) {
    caf::anon_send(to, peer_atom_v, id, handle(id));
  }
  // `id` to all, and all to `id`.
  void announce(const std::string& id) {
    for (const std::string peer : {"executor", "cache_manager", "scheduler/0"}) {
      if (peer != "scheduler/0") tell_peer(scheduler, peer);
      tell_peer(executor, id);
    }
    tell_peer(host, id);
    tell_peer(cache_manager, id);
    tell_peer(tokenizer, id);
  }
  void kill(const std::string& id) { stop(caf::actor_cast<caf::actor>(handle(id))); }
  void stop(const caf::actor& a) {
    caf::anon_send<caf::message_priority::high>(a, caf::exit_msg{a.address(), caf::exit_reason::kill});
  }
  void restart(const std::string& id) {
    kill(id);
    spawn(id);
    announce(id);
  }

  void submit(std::uint64_t stream, recall_request r) {
    open_stream& s = (*streams)[stream];
    s.submit = submit_of(stream, r);
    s.request = std::move(r);
    caf::anon_send(tokenizer, pack(s.submit));
  }
  void abort(std::uint64_t stream) {
    (*streams)[stream].over = (*streams)[stream].aborted = true;
    caf::anon_send(tokenizer, abort_of(stream));
  }

  bool run_one() { return coordinator.try_run_once(); }
  void run_all() {
    for (int i = 0; run_one(); ++i) ASSERT_LT(i, 1'000'000);
  }
  // Until every stream is over; time passes when nothing else happens.
  void finish() {
    for (int ticks = 0; !all_over(); ++ticks) {
      run_all();
      ASSERT_LT(ticks, 5000) << "a stream hangs";
      coordinator.advance_time(std::chrono::milliseconds(50));
    }
    for (int i = 0; i < 3; ++i) {
      run_all();
      coordinator.advance_time(std::chrono::milliseconds(50));
    }
    run_all();
  }
  bool all_over() const {
    for (const auto& [stream, s] : *streams)
      if (!s.over) return false;
    return true;
  }
  void expect_exact() const {
    for (const auto& [stream, s] : *streams) {
      EXPECT_EQ(s.error, error_code::none) << "stream " << stream << ": " << s.text;
      EXPECT_EQ(s.tokens, expected_tokens(s.request, vocabulary)) << "stream " << stream;
    }
  }

  template <class Answer, class Handle>
  message<Answer> ask(const Handle& whom) {
    message<Answer> answer;
    caf::scoped_actor self{system};
    auto response = self->request(whom, caf::infinite, status_atom_v);
    run_all();
    response.receive([&](const message<Answer>& a) { answer = a; }, [](const caf::error&) { FAIL(); });
    return answer;
  }

  recall_options device;
  planner_options planner;
  int weights_opened = 0;
  std::shared_ptr<open_streams> streams = std::make_shared<open_streams>();
  caf::actor_system_config config;
  caf::actor_system system;
  caf::scheduler::test_coordinator& coordinator;
  caf::actor tokenizer, host;
  executor_actor executor;
  cache_manager_actor cache_manager;
  scheduler_actor scheduler;

 private:
  static caf::actor_system_config& configure(caf::actor_system_config& c) {
    c.add_message_types<caf::id_block::troupe>();
    c.set("scheduler.policy", caf::atom("testing"));
    return c;
  }
};

}  // namespace troupe::test
