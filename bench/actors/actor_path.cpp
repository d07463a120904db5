#include "bench/actors/actor_path.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <deque>
#include <future>
#include <mutex>
#include <optional>

#include "actors/cache_manager/cache_manager.hpp"
#include "actors/executor/executor.hpp"
#include "actors/gateway/gateway.hpp"
#include "actors/scheduler/scheduler.hpp"
#include "actors/tokenizer/tokenizer_actor.hpp"
#include "bench/actors/busy_backend.hpp"

namespace troupe::bench {
namespace {

std::vector<double> differences(const std::vector<std::array<double, 9>>& table, hop from, hop to,
                                std::uint64_t first, std::uint64_t last) {
  std::vector<double> x;
  for (std::uint64_t s = first; s < last; ++s) {
    const double a = table[s][static_cast<std::size_t>(from)], b = table[s][static_cast<std::size_t>(to)];
    if (a > 0 && b > 0) x.push_back(b - a);
  }
  return x;
}

gateway::session_limits no_limits() {
  return {.open_requests = 1U << 20, .open_requests_per_client = 1U << 20};
}

// A door without a socket: hands in what it is given, counts and drops what comes out.
class discarding_door final : public gateway::zmq_door {
 public:
  discarding_door(const settings& s, recorder& times)
      : gateway::zmq_door(no_limits()), open_(s.sequences), times_(times) {}

  void admit(const settings& s) {
    std::function<void()> wake;
    {
      const std::scoped_lock lock(mutex_);
      for (std::uint64_t i = 1; i <= s.sequences; ++i) {
        wire::ClientRequestT r;
        r.version = protocol_version;
        r.id = i;
        r.body.Set(generate(s, i));
        gateway::arrival a;
        a.client = "bench";
        a.request = message<wire::ClientRequest>::pack(r);
        a.received_ns = gateway::steady_ns();
        inbox_.push_back(std::move(a));
      }
      wake = wake_;
    }
    wake();
  }
  void wait() { done_.get_future().wait(); }
  void wait_for_listener() { listening_.get_future().wait(); }

  const std::vector<std::string>& endpoints() const override { return endpoints_; }
  std::uint64_t listen(std::function<void()> wake) override {
    const std::scoped_lock lock(mutex_);
    wake_ = std::move(wake);
    listening_.set_value();
    return 1;
  }
  void unlisten(std::uint64_t) override {
    const std::scoped_lock lock(mutex_);
    wake_ = nullptr;
  }
  std::optional<gateway::arrival> take() override {
    const std::scoped_lock lock(mutex_);
    if (inbox_.empty()) return std::nullopt;
    auto first = std::move(inbox_.front());
    inbox_.pop_front();
    return first;
  }
  void send(std::vector<std::pair<std::string, reply_message>> replies) override {
    times_.arrived_at_door(replies.size());
    for (const auto& r : replies) {
      const auto type = r.second->body_type();
      if (type != wire::ReplyBody::Final && type != wire::ReplyBody::Error) continue;
      if (--open_ == 0) done_.set_value();
    }
  }
  std::uint64_t bad_frames() const override { return 0; }
  std::uint32_t clients() const override { return 1; }

 private:
  std::vector<std::string> endpoints_;
  std::mutex mutex_;
  std::function<void()> wake_;
  std::deque<gateway::arrival> inbox_;
  std::uint32_t open_;
  recorder& times_;
  std::promise<void> done_, listening_;
};

// Stands for a tokenizer where text is not asked for: submits everything, counts what comes back.
caf::behavior sink(caf::event_based_actor* self, settings s, prepared_model_ptr model,
                   scheduler_actor scheduler, std::shared_ptr<std::promise<void>> done) {
  const auto texts = text_model_of(*model);
  for (std::uint64_t i = 1; i <= s.sequences; ++i) {
    const auto g = message<wire::Generate>::pack(generate(s, i));
    const auto admitted = text::admit(texts, i, *g, 1, [] { return std::uint64_t{1}; });
    self->send(scheduler, text::make_submit(*admitted, i, 0, {}));
  }
  auto open = std::make_shared<std::uint32_t>(s.sequences);
  return {[=](const message<wire::TokenBatch>& batch) {
    for (const auto* d : *batch->deltas())
      if (d->finish() != wire::FinishReason::none || d->error() != error_code::none)
        if (--*open == 0) done->set_value();
  }};
}

// The actors of one run; they end with it.
class stage {
 public:
  stage(caf::actor_system& system, const settings& s, const prepared_model_ptr& model,
        const path_options& options, recorder& times)
      : system_(system),
        settings_(s),
        model_(model),
        times_(times),
        trace_([&times](hop where, std::uint64_t step) { times.mark(where, step); }) {
    spawn_engine(options);
    load_model();
  }
  ~stage() {
    for (auto actor = kept_.rbegin(); actor != kept_.rend(); ++actor) {
      caf::anon_send<caf::message_priority::high>(caf::actor_cast<caf::actor>(*actor),
                                                  caf::exit_msg{(*actor)->address(), caf::exit_reason::kill});
      caf::scoped_actor {
        system_
        } -> wait_for(caf::actor_cast<caf::actor>(*actor));
    }
  }
  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;

  void run_tokens_only() {
    auto done = std::make_shared<std::promise<void>>();
    keep(system_.spawn(sink, settings_, model_, scheduler_, done));
    done->get_future().wait();
  }
  void run_with_text() {
    auto door = std::make_shared<discarding_door>(settings_, times_);
    tokenizer_options t;
    t.model = model_;
    t.limits.choices = 1;
    auto tokenizer = keep(spawn_tokenizer(system_, std::move(t)));
    gateway_options g;
    g.door = door;
    g.models = std::make_shared<deployment::catalogue>(
        std::vector<deployment::served_model>{{.model = model_, .workers = 1}});
    auto gateway = keep(spawn_gateway(system_, std::move(g)));
    tell(tokenizer, "scheduler/0", scheduler_);
    tell(gateway, "scheduler/0", scheduler_);
    tell(gateway, "tokenizer/0/0", tokenizer);
    door->wait_for_listener();
    door->admit(settings_);
    door->wait();
  }

 private:
  void spawn_engine(const path_options& options) {
    executor_options e;
    e.backend.blocks = settings_.blocks();
    e.open_backend = [s = settings_](const ops::backend_options&) -> result<std::shared_ptr<ops::backend>> {
      return std::make_shared<busy_backend>(s);
    };
    e.open_weights = [](const std::filesystem::path&) -> result<std::shared_ptr<const checkpoint::weights>> {
      return nullptr;
    };
    e.trace = trace_;
    executor_ = keep(spawn_executor(system_, e));
    auto cache_manager = keep(spawn_cache_manager(system_, {.blocks = settings_.blocks()}));
    scheduler_options o;
    o.planner = planner_settings(settings_, options.plans_in_flight);
    o.trace = trace_;
    scheduler_ = keep(spawn_scheduler(system_, o));
    tell(scheduler_, "executor", executor_);
    tell(scheduler_, "cache_manager", cache_manager);
  }
  void load_model() {
    wire::LoadModelT load;
    load.name = "bench";
    load.checkpoint = "none";
    const auto bytes = model_->program.bytes();
    load.program.assign(bytes.begin(), bytes.end());
    caf::scoped_actor self{system_};
    self->request(executor_, caf::infinite, message<wire::LoadModel>::pack(load))
        .receive([&](const message<wire::ModelLoaded>& m) { self->send(scheduler_, m); },
                 [](const caf::error&) { throw std::runtime_error("the model was not loaded"); });
  }
  template <class To, class Peer>
  void tell(const To& to, const std::string& id, const Peer& peer) {
    caf::anon_send(to, peer_atom::value, id, caf::actor_cast<caf::strong_actor_ptr>(peer));
  }
  template <class Handle>
  Handle keep(Handle h) {
    kept_.push_back(caf::actor_cast<caf::strong_actor_ptr>(h));
    return h;
  }

  caf::actor_system& system_;
  settings settings_;
  prepared_model_ptr model_;
  recorder& times_;
  step_trace trace_;
  executor_actor executor_;
  scheduler_actor scheduler_;
  std::vector<caf::strong_actor_ptr> kept_;
};

}  // namespace

std::vector<double> recorder::between(hop from, hop to, std::uint64_t first, std::uint64_t last) const {
  return differences(marks_, from, to, first, last);
}

std::vector<double> recorder::leases() const {
  return differences(leases_, hop::leases_asked, hop::leases_granted, 1, leases_.size());
}

std::vector<double> recorder::intervals(hop at, std::uint64_t first, std::uint64_t last) const {
  std::vector<double> x;
  for (std::uint64_t s = first + 1; s < last; ++s)
    x.push_back(marks_[s][static_cast<std::size_t>(at)] - marks_[s - 1][static_cast<std::size_t>(at)]);
  return x;
}

std::vector<double> recorder::to_door() const {
  std::vector<double> sent;
  for (const auto& m : batches_)
    if (m[static_cast<std::size_t>(hop::batch_sent)] > 0)
      sent.push_back(m[static_cast<std::size_t>(hop::batch_sent)]);
  if (arrivals_.size() != sent.size()) return {};
  std::vector<double> x;
  for (std::size_t i = sent.size() / 10; i < sent.size() - sent.size() / 10; ++i)
    x.push_back(arrivals_[i] - sent[i]);
  return x;
}

void run_actor_path(caf::actor_system& system, const settings& s, const prepared_model_ptr& model,
                    const path_options& options, recorder& times) {
  stage all(system, s, model, options, times);
  options.with_text ? all.run_with_text() : all.run_tokens_only();
}

}  // namespace troupe::bench
