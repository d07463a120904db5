// What clients ask for: arrivals at the door, cancellation, status.
#include <caf/actor_cast.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "actors/gateway/gateway_state.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::gateway {
namespace {

constexpr std::size_t arrivals_in_a_row = 64;  // then it is the turn of what else waits

std::string_view name_of(const wire::Hello& hello) {
  return hello.client() ? hello.client()->string_view() : std::string_view{};
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

}  // namespace

// ---- from clients -----------------------------------------------------------------------------------------

// While clients send, the door never runs dry: others' replies must have their turn.
void gateway_state::tick(bool own) {
  if (own) more_arrivals = false;
  if (take_arrivals(arrivals_in_a_row) && !more_arrivals) {
    more_arrivals = true;
    self->send(gateway_actor{self}, tick_atom::value);
  }
  keep_house();
}

bool gateway_state::take_arrivals(std::size_t at_most) {
  for (std::size_t taken = 0; taken < at_most; ++taken) {
    auto a = options.door->take();
    if (!a) return false;
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
  return true;
}

void gateway_state::arrive(const std::string& client, const request_message& request,
                           std::uint64_t received_ns) {
  const auto& r = *request;
  if (r.body_type() != wire::RequestBody::Cancel && sessions().find(client, r.id()))
    return reply(client, reused_reply(r.id()));
  switch (r.body_type()) {
    case wire::RequestBody::Hello:
      log::debug("gateway", "hello", {{"client", quotable(name_of(*r.body_as_Hello()))}});
      return reply(client, answer_hello(r.id(), *r.body_as_Hello(), options.server));
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
    case wire::RequestBody::Operate:
    case wire::RequestBody::ListHistory:
    case wire::RequestBody::FollowEvents:
      return open_for_operator(client, request, received_ns);
    case wire::RequestBody::NONE:
      break;
  }
  reply(client, error_reply(r.id(), error_code::invalid_request, "body: not a request"));
}

void gateway_state::open(const std::string& client, const request_message& request, std::uint64_t received_ns,
                         const flatbuffers::String* model, std::uint32_t choices) {
  const auto id = request->id();
  if (draining) return refuse_to_start(client, id);
  auto* m = find_model(client, model);
  if (!m) return reply(client, error_reply(id, not_served(model)));
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

// The deployer answers them like a tokenizer its streams.
void gateway_state::open_for_operator(const std::string& client, const request_message& request,
                                      std::uint64_t received_ns) {
  const auto id = request->id();
  if (draining) return refuse_to_start(client, id);
  if (request->body_type() == wire::RequestBody::Operate && !options.takes_operations)
    return reply(client,
                 error_reply(id, error_code::unsupported,
                             "this server listens beyond its own machine, so it takes no operations: let "
                             "server.listen name only loopback or ipc endpoints"));
  if (!deployer)
    return reply(client, error_reply(id, error_code::unavailable,
                                     "the part of the server that runs operations is not there: try again"));
  session wanted;
  wanted.client = client;
  wanted.request = id;
  wanted.bytes = request.bytes().size();
  wanted.model = no_model;
  wanted.last_reply_ns = received_ns;
  auto opened = sessions().open(std::move(wanted));
  if (!opened) return reply(client, error_reply(id, opened.error()));
  self->send(deployer, admit_atom::value, (*opened)->stream, request, received_ns);
}

void gateway_state::cancel(const std::string& client, std::uint64_t target) {
  auto* s = sessions().find(client, target);
  if (!s) return;
  abandon(*s, error_code::cancelled);
  if (s->worker >= 0) return;  // its Final is the answer
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
  if (auto& own = inquiries[client]; own < options.inquiries_per_client)
    ++own;
  else
    return reply(client, error_reply(id, error_code::overloaded,
                                     fmt::format("{} ListModels and ServerStatus of this client wait for "
                                                 "their answers, as many as may: wait for some",
                                                 own)));
  questions.push_back({client, id, whole_server});
  if (!under_way) gather();
}

// For all that have asked so far. Who asks meanwhile is answered by the next one, with nothing older than the question.
void gateway_state::gather() {
  under_way = std::make_shared<gathering>();
  auto g = under_way;
  g->askers = std::exchange(questions, {});
  for (const auto& m : models)
    g->models.push_back(
        {m.model, m.was_ready, m.closed, m.entry, sessions().streams_of(m.model->id).size(), std::nullopt});
  const auto answered = [this, g] {
    if (--g->open > 0) return;
    report(*g);
    under_way.reset();
    if (!questions.empty()) gather();
  };
  std::size_t place = 0;
  for (const auto& m : models) {
    const std::size_t i = place++;
    if (!m.scheduler) continue;
    ++g->open;
    self->request(m.scheduler, options.status_wait, status_atom::value)
        .then(
            [this, g, i, id = m.model->id, answered](const message<wire::SchedulerStatus>& s) {
              g->models[i].scheduler = s;
              if (auto* known = find_instance(id)) known->was_ready = known->was_ready || s->ready();
              answered();
            },
            [answered](const caf::error&) { answered(); });
  }
  if (cache_manager) {
    ++g->open;
    self->request(cache_manager, options.status_wait, status_atom::value)
        .then(
            [g, answered](const message<wire::CacheStatus>& s) {
              g->cache = s;
              answered();
            },
            [answered](const caf::error&) { answered(); });
  }
  answered();
}

void gateway_state::report(gathering& g) {
  server_facts facts;
  facts.version = options.server;
  facts.uptime_ms = (steady_ns() - options.door->opened_ns()) / 1'000'000;
  facts.clients = options.door->clients();
  facts.open_requests = static_cast<std::uint32_t>(sessions().size());
  facts.bad_frames = options.door->bad_frames();
  facts.cache = g.cache;
  facts.models = std::move(g.models);
  facts.operations = options.models->under_way();
  if (options.restarts) facts.restarts = options.restarts();
  std::vector<std::pair<std::string, reply_message>> replies;
  for (const auto& q : g.askers) {
    replies.emplace_back(q.client,
                         q.whole_server ? status_reply(q.id, facts) : model_list_reply(q.id, facts.models));
    forget_inquiry(q.client);
  }
  options.door->send(std::move(replies));
}

void gateway_state::forget_inquiry(const std::string& client) {
  auto own = inquiries.find(client);
  if (own != inquiries.end() && --own->second == 0) inquiries.erase(own);
}

// Of two instances of one name the second has the share that it names, of requests or of clients.
served* gateway_state::find_model(const std::string& client, const flatbuffers::String* asked) {
  const bool any = !asked || asked->size() == 0;
  served* first = nullptr;
  for (auto& m : models) {
    if (!m.takes_requests()) continue;
    if (first == nullptr) {
      if (any || m.model->name == asked->string_view()) first = &m;
      continue;
    }
    if (m.model->name != first->model->name) continue;
    // By 61, so that a share of 10 % is every tenth request, not ten in a row; 61 has no factor of 100.
    const auto turn = m.entry.sticky ? std::hash<std::string>()(client) : std::size_t{61} * turns++;
    return turn % 100 < m.entry.share_percent ? &m : first;
  }
  return first;
}

error gateway_state::not_served(const flatbuffers::String* asked) const {
  std::string names;
  for (const auto& m : models) {
    if (m.takes_requests()) names += (names.empty() ? "" : ", ") + m.model->name;
    if (m.closed || m.takes_requests() || (asked && m.model->name != asked->string_view())) continue;
    return {error_code::unavailable,
            fmt::format("model {}: it is {} and takes no requests now", m.model->name, m.entry.resting)};
  }
  if (names.empty())
    return {error_code::unknown_model, "model: none is served here now: ask the operator to load one"};
  return {error_code::unknown_model,
          fmt::format("model: '{}' is not served here; served: {}", quotable(asked->string_view()), names)};
}

}  // namespace troupe::gateway
