#include "actors/gateway/gateway.hpp"

#include <caf/actor_cast.hpp>
#include <caf/exit_reason.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <deque>
#include <optional>
#include <utility>

#include "actors/gateway/request_reader.hpp"
#include "actors/gateway/worker_pools.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {
namespace {

using gateway::arrival;
using gateway::request_message;
using gateway::session;
using gateway::steady_ns;

std::uint64_t to_ns(std::chrono::milliseconds t) {
  return static_cast<std::uint64_t>(t.count()) * 1'000'000;
}

message<wire::Abort> abort_of(std::uint64_t stream) {
  flatbuffers::FlatBufferBuilder b(64);
  return message<wire::Abort>::finish(b, wire::CreateAbort(b, stream, -1));
}

reply_message alive_reply(std::uint64_t id) {
  flatbuffers::FlatBufferBuilder b(64);
  return make_reply(b, id, wire::CreateAlive(b));
}

// Of a Generate that no tokenizer has seen.
reply_message cancelled_reply(std::uint64_t id, std::uint32_t choices) {
  if (choices == 0) return error_reply(id, error_code::cancelled, "cancelled by the client");
  wire::FinalT final;
  final.usage = std::make_unique<wire::UsageT>();
  for (std::uint32_t i = 0; i < choices; ++i) {
    auto end = std::make_unique<wire::ChoiceEndT>();
    end->choice = i;
    end->finish = wire::FinishReason::cancelled;
    final.choices.push_back(std::move(end));
  }
  flatbuffers::FlatBufferBuilder b(256);
  return make_reply(b, id, wire::CreateFinal(b, &final));
}

// Under the id 0: with the id itself it would look like the end of the request that is open.
reply_message reused_reply(std::uint64_t id) {
  return error_reply(
      0, error_code::invalid_request,
      fmt::format("id: {} is that of a request of yours that is still open: choose another", id));
}

bool is_overdue(const request_message& request, std::uint64_t received_ns, std::uint64_t now) {
  const auto* generate = request->body_as_Generate();
  const std::uint64_t ms = generate ? generate->deadline_ms() : 0;
  return ms != 0 && now >= received_ns && now - received_ns >= ms * 1'000'000;
}

constexpr std::uint32_t most_choices = 64;  // of one request, as the tokenizers have it
constexpr std::string_view going_down =
    "the server is shutting down: send the request to another one, or later";

struct served {
  explicit served(const served_model& m) : model(m.model), workers(std::max(m.workers, 1U)) {}
  prepared_model_ptr model;
  gateway::worker_pool<tokenizer_actor> workers;
  scheduler_actor scheduler;
  bool was_ready = false;
};

// A request that waits for a worker of its model.
struct parked {
  std::uint64_t stream = 0;
  request_message request;
  std::uint64_t received_ns = 0;
};

// A stream of the gateway before, to be dropped by whoever still works on it.
struct orphan {
  std::uint64_t stream = 0;
  model_id model;
  int worker = -1;
};

// One ServerStatus or ListModels whose answers are being gathered.
struct inquiry {
  std::string client;
  std::uint64_t id = 0;
  bool whole_server = false;
  std::size_t open = 1;  // answers that are still to come, and one for the asking itself
  std::vector<gateway::model_facts> models;
  std::optional<message<wire::CacheStatus>> cache;
};

struct gateway_state {
  static inline const char* name = "gateway";
  ~gateway_state() {
    if (options.door) options.door->unlisten(listener);
  }

  gateway_actor::pointer self = nullptr;
  gateway_options options;
  std::uint64_t listener = 0;
  std::vector<served> models;
  cache_manager_actor cache_manager;
  std::deque<parked> waiting;
  std::vector<orphan> orphans;
  bool draining = false;
  bool stopping = false;
  std::uint64_t drain_end_ns = 0;
  std::optional<caf::typed_response_promise<bool>> drained;
  std::uint64_t next_housekeeping_ns = 0;

  gateway::session_table& sessions() const { return options.door->sessions(); }

  // start and peers
  void start();
  void end_what_was_open();
  void meet(const std::string& id, const caf::strong_actor_ptr& peer);
  void meet_worker(served& m, std::uint32_t worker, const caf::strong_actor_ptr& peer);
  void lose(const caf::actor_addr& who);

  // from clients
  void take_arrivals();
  void arrive(const std::string& client, const request_message& request, std::uint64_t received_ns);
  void open(const std::string& client, const request_message& request, std::uint64_t received_ns,
            const flatbuffers::String* model, std::uint32_t choices);
  void cancel(const std::string& client, std::uint64_t target);
  void drop_client(const std::string& client);
  void end_slow_client(const std::string& client);
  void probe(const std::string& client);
  void inquire(const std::string& client, std::uint64_t id, bool whole_server);
  void report(inquiry& q);

  // to workers
  bool hand_over(const session& s, const request_message& request, std::uint64_t received_ns);
  void abandon(const session& s, error_code why);
  void retry_waiting();

  // to clients
  void forward(const outgoing_batch& batch);
  void reply(const std::string& client, reply_message r);
  void end(std::uint64_t stream, error_code code, std::string_view text);
  void refuse_to_start(const std::string& client, std::uint64_t id);

  // housekeeping
  void keep_house();
  void close(std::uint64_t stream);
  void finish_drain_if_empty();
  caf::result<bool> drain(std::uint64_t deadline_ms);
  void cut_drain();
  void shut_down();

  served* find_model(const flatbuffers::String* asked);
  std::string model_names() const;
};

// ---- start and peers --------------------------------------------------------------------------------------

void gateway_state::start() {
  for (const auto& m : options.models) models.emplace_back(m);
  end_what_was_open();
  auto me = caf::actor_cast<caf::actor_addr>(self);
  listener = options.door->listen([me] {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send(caf::actor_cast<gateway_actor>(alive), tick_atom::value);
  });
  take_arrivals();
}

void gateway_state::end_what_was_open() {
  for (const auto stream : sessions().streams()) {
    const auto& s = *sessions().find(stream);
    orphans.push_back({stream, s.model, s.worker});
    end(stream, error_code::unavailable, "the server's gateway was restarted: send the request again");
  }
  if (!orphans.empty())
    log::warning("gateway", "open requests ended by a restart", {{"requests", orphans.size()}});
}

void gateway_state::meet(const std::string& id, const caf::strong_actor_ptr& peer) {
  if (!peer) return;
  if (id == "cache_manager") {
    cache_manager = caf::actor_cast<cache_manager_actor>(peer);
    return;
  }
  for (auto& m : models) {
    const auto number = m.model->id.value;
    if (auto n = gateway::numbers_of(id, "scheduler"); n && n->size() == 1 && n->front() == number)
      m.scheduler = caf::actor_cast<scheduler_actor>(peer);
    else if (n = gateway::numbers_of(id, "tokenizer");
             n && n->size() == 2 && n->front() == number && m.workers.has(n->back()))
      meet_worker(m, n->back(), peer);
  }
}

void gateway_state::meet_worker(served& m, std::uint32_t worker, const caf::strong_actor_ptr& peer) {
  auto handle = caf::actor_cast<tokenizer_actor>(peer);
  if (m.workers.at(worker) == handle) return;
  if (const auto& before = m.workers.at(worker)) lose(before.address());  // its end may still be on the way
  self->monitor(handle);
  m.workers.set(worker, handle);
  std::erase_if(orphans, [&](const orphan& o) {
    const bool its = o.model == m.model->id && (o.worker < 0 || o.worker == static_cast<int>(worker));
    if (its)
      self->send(handle, abandon_atom::value, o.stream, static_cast<std::uint16_t>(error_code::cancelled));
    return its;
  });
  retry_waiting();
}

// A worker has ended, and the streams with it.
void gateway_state::lose(const caf::actor_addr& who) {
  for (auto& m : models)
    for (std::uint32_t w = 0; w < m.workers.size(); ++w) {
      if (!m.workers.at(w) || m.workers.at(w).address() != who) continue;
      m.workers.clear(w);
      const auto streams = sessions().streams_of(m.model->id, static_cast<int>(w));
      log::warning("gateway", "tokenizer lost",
                   {{"model", m.model->name}, {"worker", w}, {"streams", streams.size()}});
      for (const auto stream : streams) {
        if (m.scheduler) self->send(m.scheduler, abort_of(stream));
        end(stream, error_code::unavailable,
            "the server's tokenizer was restarted and the stream with it: send the request again");
      }
    }
}

// ---- from clients -----------------------------------------------------------------------------------------

void gateway_state::take_arrivals() {
  while (auto a = options.door->take()) {
    switch (a->kind) {
      case arrival::what::request:
        arrive(a->client, a->request, a->received_ns);
        break;
      case arrival::what::gone:
        drop_client(a->client);
        break;
      case arrival::what::suspect:
        probe(a->client);
        break;
      case arrival::what::slow:
        end_slow_client(a->client);
        break;
    }
  }
}

void gateway_state::arrive(const std::string& client, const request_message& request,
                           std::uint64_t received_ns) {
  const auto& r = *request;
  if (r.body_type() != wire::RequestBody::Cancel && sessions().find(client, r.id()))
    return reply(client, reused_reply(r.id()));
  switch (r.body_type()) {
    case wire::RequestBody::Hello:
      return reply(client, gateway::answer_hello(r.id(), *r.body_as_Hello(), options.server));
    case wire::RequestBody::Generate:
      if (const auto n = r.body_as_Generate()->n(); n < 1 || n > most_choices)
        return reply(client, error_reply(r.id(), error_code::invalid_request,
                                         fmt::format("n: {} is outside 1 to {}", n, most_choices)));
      return open(client, request, received_ns, r.body_as_Generate()->model(), r.body_as_Generate()->n());
    case wire::RequestBody::Tokenize:
      return open(client, request, received_ns, r.body_as_Tokenize()->model(), 0);
    case wire::RequestBody::Detokenize:
      return open(client, request, received_ns, r.body_as_Detokenize()->model(), 0);
    case wire::RequestBody::Cancel:
      return cancel(client, r.body_as_Cancel()->target());
    case wire::RequestBody::ListModels:
      return inquire(client, r.id(), false);
    case wire::RequestBody::ServerStatus:
      return inquire(client, r.id(), true);
    case wire::RequestBody::NONE:
      break;
  }
  reply(client, error_reply(r.id(), error_code::invalid_request, "body: not a request"));
}

void gateway_state::open(const std::string& client, const request_message& request, std::uint64_t received_ns,
                         const flatbuffers::String* model, std::uint32_t choices) {
  const auto id = request->id();
  if (draining) return refuse_to_start(client, id);
  auto* m = find_model(model);
  if (!m)
    return reply(client, error_reply(id, error_code::unknown_model,
                                     fmt::format("model: '{}' is not served here; served: {}",
                                                 gateway::quotable(model->string_view()), model_names())));
  session wanted;
  wanted.client = client;
  wanted.request = id;
  wanted.choices = choices;
  wanted.bytes = request.bytes().size();
  wanted.model = m->model->id;
  wanted.last_reply_ns = received_ns;
  auto opened = sessions().open(std::move(wanted));
  if (!opened) return reply(client, error_reply(id, opened.error()));
  auto& s = **opened;
  s.worker = m->workers.pick(s.stream);
  if (!hand_over(s, request, received_ns)) waiting.push_back({s.stream, request, received_ns});
}

void gateway_state::cancel(const std::string& client, std::uint64_t target) {
  auto* s = sessions().find(client, target);
  if (!s) return;
  if (s->worker >= 0) return abandon(*s, error_code::cancelled);  // its Final is the answer
  reply(client, cancelled_reply(target, s->choices));
  close(s->stream);
}

void gateway_state::drop_client(const std::string& client) {
  for (const auto stream : sessions().streams_of(client)) {
    abandon(*sessions().find(stream), error_code::cancelled);
    close(stream);
  }
}

void gateway_state::end_slow_client(const std::string& client) {
  const auto streams = sessions().streams_of(client);
  log::warning("gateway", "slow client cut off", {{"requests", streams.size()}});
  for (const auto stream : streams) {
    abandon(*sessions().find(stream), error_code::cancelled);
    end(stream, error_code::overloaded,
        "the client did not read its replies and some were dropped: read faster, or ask for less at once");
  }
}

void gateway_state::probe(const std::string& client) {
  for (const auto stream : sessions().streams_of(client))
    reply(client, alive_reply(sessions().find(stream)->request));
}

// ---- ServerStatus and ListModels --------------------------------------------------------------------------

void gateway_state::inquire(const std::string& client, std::uint64_t id, bool whole_server) {
  if (stopping) return refuse_to_start(client, id);
  auto q = std::make_shared<inquiry>();
  q->client = client;
  q->id = id;
  q->whole_server = whole_server;
  for (const auto& m : models) q->models.push_back({m.model, m.was_ready, std::nullopt});
  const auto answered = [this, q] {
    if (--q->open == 0) report(*q);
  };
  for (std::size_t i = 0; i < models.size(); ++i) {
    if (!models[i].scheduler) continue;
    ++q->open;
    self->request(models[i].scheduler, options.status_wait, status_atom::value)
        .then(
            [this, q, i, answered](const message<wire::SchedulerStatus>& s) {
              q->models[i].scheduler = s;
              models[i].was_ready = models[i].was_ready || s->ready();
              answered();
            },
            [answered](const caf::error&) { answered(); });
  }
  if (whole_server && cache_manager) {
    ++q->open;
    self->request(cache_manager, options.status_wait, status_atom::value)
        .then(
            [q, answered](const message<wire::CacheStatus>& s) {
              q->cache = s;
              answered();
            },
            [answered](const caf::error&) { answered(); });
  }
  answered();
}

void gateway_state::report(inquiry& q) {
  if (!q.whole_server) return reply(q.client, gateway::model_list_reply(q.id, q.models));
  gateway::server_facts facts;
  facts.version = options.server;
  facts.uptime_ms = (steady_ns() - options.door->opened_ns()) / 1'000'000;
  facts.clients = options.door->clients();
  facts.open_requests = static_cast<std::uint32_t>(sessions().size());
  facts.bad_frames = options.door->bad_frames();
  facts.cache = q.cache;
  facts.models = std::move(q.models);
  if (options.restarts) facts.restarts = options.restarts();
  reply(q.client, gateway::status_reply(q.id, facts));
}

// ---- to workers -------------------------------------------------------------------------------------------

bool gateway_state::hand_over(const session& s, const request_message& request, std::uint64_t received_ns) {
  if (s.worker < 0) return false;
  for (auto& m : models)
    if (m.model->id == s.model)
      self->send(m.workers.at(static_cast<std::uint32_t>(s.worker)), admit_atom::value, s.stream, request,
                 received_ns);
  return true;
}

void gateway_state::abandon(const session& s, error_code why) {
  if (s.worker < 0) return;
  for (auto& m : models)
    if (const auto worker = static_cast<std::uint32_t>(s.worker);
        m.model->id == s.model && m.workers.at(worker))
      self->send(m.workers.at(worker), abandon_atom::value, s.stream, static_cast<std::uint16_t>(why));
}

void gateway_state::retry_waiting() {
  std::deque<parked> still;
  const auto now = steady_ns();
  for (auto& p : waiting) {
    auto* s = sessions().find(p.stream);
    if (!s) continue;
    if (is_overdue(p.request, p.received_ns, now)) {
      end(p.stream, error_code::deadline_exceeded,
          "the deadline of the request passed before the model was ready");
      continue;
    }
    for (auto& m : models)
      if (m.model->id == s->model) s->worker = m.workers.pick(s->stream);
    if (hand_over(*s, p.request, p.received_ns)) continue;
    if (now > p.received_ns + to_ns(options.worker_wait))
      end(p.stream, error_code::unavailable, "the model is not ready: try again later");
    else
      still.push_back(std::move(p));
  }
  waiting = std::move(still);
}

// ---- to clients -------------------------------------------------------------------------------------------

void gateway_state::forward(const outgoing_batch& batch) {
  std::vector<std::pair<std::string, reply_message>> replies;
  replies.reserve(batch.size());
  const auto now = steady_ns();
  for (const auto& out : batch) {
    auto* s = sessions().find(out.stream);
    if (!s) continue;
    s->last_reply_ns = now;
    replies.emplace_back(s->client, out.reply);
    if (out.last) sessions().close(out.stream);
  }
  options.door->send(std::move(replies));
  finish_drain_if_empty();
}

void gateway_state::reply(const std::string& client, reply_message r) {
  options.door->send({{client, std::move(r)}});
}

void gateway_state::end(std::uint64_t stream, error_code code, std::string_view text) {
  const auto* s = sessions().find(stream);
  if (!s) return;
  reply(s->client, error_reply(s->request, code, text));
  close(stream);
}

void gateway_state::refuse_to_start(const std::string& client, std::uint64_t id) {
  reply(client, error_reply(id, error_code::shutting_down, going_down));
}

// ---- housekeeping -----------------------------------------------------------------------------------------

void gateway_state::keep_house() {
  const auto now = steady_ns();
  if (now < next_housekeeping_ns) return;
  next_housekeeping_ns = now + to_ns(std::chrono::milliseconds(100));
  retry_waiting();
  for (const auto stream : sessions().streams()) {
    auto& s = *sessions().find(stream);
    if (now < s.last_reply_ns + to_ns(options.keep_alive)) continue;
    s.last_reply_ns = now;
    reply(s.client, alive_reply(s.request));
  }
  if (drained && now >= drain_end_ns) cut_drain();
}

void gateway_state::close(std::uint64_t stream) {
  sessions().close(stream);
  finish_drain_if_empty();
}

void gateway_state::finish_drain_if_empty() {
  if (!drained || !sessions().empty()) return;
  drained->deliver(true);
  drained.reset();
}

caf::result<bool> gateway_state::drain(std::uint64_t deadline_ms) {
  draining = true;
  drain_end_ns = steady_ns() + deadline_ms * 1'000'000;
  if (drained) drained->deliver(false);  // who asks last is answered
  drained = self->make_response_promise<bool>();
  auto promise = *drained;
  finish_drain_if_empty();
  return promise;
}

// Ends what is open; a drain that is under way was not in time.
void gateway_state::cut_drain() {
  if (!sessions().empty())
    log::warning("gateway", "open requests ended by the shutdown", {{"requests", sessions().size()}});
  auto promise = std::exchange(drained, std::nullopt);
  for (const auto stream : sessions().streams()) {
    abandon(*sessions().find(stream), error_code::cancelled);
    end(stream, error_code::shutting_down, going_down);
  }
  if (promise) promise->deliver(false);
}

// The server stops, drained or not. What has arrived meanwhile is answered, too.
void gateway_state::shut_down() {
  draining = true;
  stopping = true;
  take_arrivals();
  cut_drain();
}

served* gateway_state::find_model(const flatbuffers::String* asked) {
  if (!asked || asked->size() == 0) return &models.front();
  for (auto& m : models)
    if (m.model->name == asked->string_view()) return &m;
  return nullptr;
}

std::string gateway_state::model_names() const {
  std::string names;
  for (const auto& m : models) names += (names.empty() ? "" : ", ") + m.model->name;
  return names;
}

gateway_actor::behavior_type behave(gateway_actor::stateful_pointer<gateway_state> self,
                                    gateway_options options) {
  auto* state = &self->state;
  state->self = self;
  state->options = std::move(options);
  self->set_down_handler([state](caf::down_msg& down) { state->lose(down.source); });
  self->set_exit_handler([state](caf::exit_msg& stop) {
    if (stop.reason == caf::exit_reason::user_shutdown) state->shut_down();
    state->self->quit(std::move(stop.reason));
  });
  state->start();
  return {
      [state](peer_atom, const std::string& id, const caf::strong_actor_ptr& peer) { state->meet(id, peer); },
      [state](arrive_atom, const std::string& client, const request_message& request) {
        state->arrive(client, request, steady_ns());
      },
      [state](const outgoing_batch& batch) { state->forward(batch); },
      [state](tick_atom) {
        state->take_arrivals();
        state->keep_house();
      },
      [state](drain_atom, std::uint64_t deadline_ms) { return state->drain(deadline_ms); }};
}

}  // namespace

gateway_actor spawn_gateway(caf::actor_system& system, gateway_options options) {
  return system.spawn(behave, std::move(options));
}

}  // namespace troupe
