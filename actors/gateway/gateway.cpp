#include "actors/gateway/gateway.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/exit_reason.hpp>
#include <caf/send.hpp>
#include <iterator>
#include <utility>

#include "actors/gateway/gateway_state.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {
namespace gateway {
namespace {

std::uint64_t to_ns(std::chrono::milliseconds t) {
  return static_cast<std::uint64_t>(t.count()) * 1'000'000;
}

message<wire::Abort> abort_of(std::uint64_t stream) {
  flatbuffers::FlatBufferBuilder b(64);
  return message<wire::Abort>::finish(b, wire::CreateAbort(b, stream, -1));
}

bool is_overdue(const request_message& request, std::uint64_t received_ns, std::uint64_t now) {
  const auto* generate = request->body_as_Generate();
  const std::uint64_t ms = generate ? generate->deadline_ms() : 0;
  return ms != 0 && now >= received_ns && now - received_ns >= ms * 1'000'000;
}

constexpr std::size_t arrivals_at_the_end = 10'000;  // more than wait at the door; clients may go on sending

constexpr std::string_view going_down =
    "the server is shutting down: send the request to another one, or later";

}  // namespace

// ---- start and peers --------------------------------------------------------------------------------------

void gateway_state::start() {
  follow_catalogue();
  end_what_was_open();
  auto me = caf::actor_cast<caf::actor_addr>(self);
  listener = options.door->listen([me] {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send(caf::actor_cast<gateway_actor>(alive), tick_atom::value);
  });
  tick(false);
}

void gateway_state::end_what_was_open() {
  for (const auto stream : sessions().streams()) {
    const auto& s = *sessions().find(stream);
    if (s.model != no_model) orphans.push_back({stream, s.model, s.worker});
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
  if (id == "deployer") {
    auto handle = caf::actor_cast<deployer_actor>(peer);
    if (deployer && deployer != handle) lose(deployer.address());
    deployer = handle;
    self->monitor(deployer);
    return;
  }
  for (auto& m : models) meet_for(m, id, peer);
}

void gateway_state::meet_for(served& m, const std::string& id, const caf::strong_actor_ptr& peer) {
  const auto number = m.model->id.value;
  if (auto n = numbers_of(id, "scheduler"); n && n->size() == 1 && n->front() == number)
    m.scheduler = caf::actor_cast<scheduler_actor>(peer);
  else if (n = numbers_of(id, "tokenizer");
           n && n->size() == 2 && n->front() == number && m.workers.has(n->back()))
    meet_worker(m, n->back(), peer);
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
  if (deployer && deployer.address() == who) {
    deployer = deployer_actor{};
    for (const auto stream : sessions().streams_of(no_model, -1))
      end(stream, error_code::unavailable,
          "the part of the server that runs operations was restarted: `troupe history` tells what became of "
          "them");
  }
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

// ---- the catalogue ----------------------------------------------------------------------------------------

void gateway_state::follow_catalogue() {
  const auto now_served = options.models->served();
  for (auto& m : models) {
    const auto entry = std::ranges::find(now_served, m.model->id, [](const auto& s) { return s.model->id; });
    m.closed = entry == now_served.end();
    if (m.closed) continue;
    m.entry = *entry;
    m.model = entry->model;
  }
  for (const auto& s : now_served)
    if (find_instance(s.model->id) == nullptr) open_model(s);
}

// Its actors run already: they were announced before anybody here knew the model.
void gateway_state::open_model(const deployment::served_model& m) {
  served& opened = models.emplace_back(m);
  if (!options.find_peer) return;
  std::vector<std::string> ids = {fmt::format("scheduler/{}", m.model->id.value)};
  for (std::uint32_t w = 0; w < m.workers; ++w)
    ids.push_back(fmt::format("tokenizer/{}/{}", m.model->id.value, w));
  for (const auto& id : ids)
    if (auto peer = options.find_peer(id)) meet_for(opened, id, peer);
}

served* gateway_state::find_instance(model_id model) {
  const auto found = std::ranges::find(models, model, [](const served& m) { return m.model->id; });
  return found == models.end() ? nullptr : &*found;
}

caf::result<std::uint32_t, std::uint32_t> gateway_state::vacate(model_id model, std::uint64_t deadline_ms) {
  auto* m = find_instance(model);
  if (m == nullptr) return {0U, 0U};
  m->vacated = self->make_response_promise<std::uint32_t, std::uint32_t>();
  m->vacate_end_ns = deadline_ms == 0 ? 0 : steady_ns() + deadline_ms * 1'000'000;
  m->streams_to_leave = static_cast<std::uint32_t>(sessions().streams_of(model).size());
  auto promise = *m->vacated;
  finish_vacating(false);
  return promise;
}

// `overdue_too`: streams that are open beyond the deadline are ended.
void gateway_state::finish_vacating(bool overdue_too) {
  const auto now = steady_ns();
  for (auto m = models.begin(); m != models.end();) {
    auto& at = *m++;
    if (!at.vacated) continue;
    const auto open = sessions().streams_of(at.model->id);
    std::uint32_t ended = 0;
    if (overdue_too && at.vacate_end_ns != 0 && now >= at.vacate_end_ns)
      for (const auto stream : open) {
        abandon(*sessions().find(stream), error_code::cancelled);
        end(stream, error_code::unavailable,
            fmt::format("model {} is not served any more and the time that its streams had is over",
                        at.model->name));
        ++ended;
      }
    if (open.size() > ended) continue;
    at.vacated->deliver(at.streams_to_leave - ended, ended);
    at.vacated.reset();
    if (at.closed) models.erase(std::prev(m));
  }
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

// The scheduler is told at once: the worker may be busy with megabytes of another's text for a while.
void gateway_state::abandon(const session& s, error_code why) {
  if (s.model == no_model && deployer)
    self->send(deployer, abandon_atom::value, s.stream, static_cast<std::uint16_t>(why));
  if (s.worker < 0) return;
  for (auto& m : models) {
    if (m.model->id != s.model) continue;
    if (s.choices > 0 && m.scheduler) self->send(m.scheduler, abort_of(s.stream));
    if (const auto& worker = m.workers.at(static_cast<std::uint32_t>(s.worker)))
      self->send(worker, abandon_atom::value, s.stream, static_cast<std::uint16_t>(why));
  }
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
  finish_vacating(true);
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
  for (const auto stream : sessions().streams_of(no_model, -1)) {  // they might have no end
    abandon(*sessions().find(stream), error_code::cancelled);
    end(stream, error_code::shutting_down, going_down);
  }
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
  take_arrivals(arrivals_at_the_end);
  cut_drain();
}

}  // namespace gateway

namespace {

using gateway::gateway_state;
using gateway::request_message;
using gateway::steady_ns;

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
      [state](tick_atom) { state->tick(state->self->current_sender() == state->self->ctrl()); },
      [state](changed_atom) { state->follow_catalogue(); },
      [state](vacate_atom, std::uint32_t model, std::uint64_t deadline_ms) {
        return state->vacate({model}, deadline_ms);
      },
      [state](drain_atom, std::uint64_t deadline_ms) { return state->drain(deadline_ms); }};
}

}  // namespace

gateway_actor spawn_gateway(caf::actor_system& system, gateway_options options) {
  return system.spawn(behave, std::move(options));
}

}  // namespace troupe
