#include "actors/deployment/deployer.hpp"

#include <fmt/format.h>

#include <caf/actor_cast.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <stdexcept>
#include <utility>

#include "actors/errors.hpp"
#include "kernel/config/config.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::deployment {

using staged_ptr = std::shared_ptr<const staged>;

}  // namespace troupe::deployment

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::deployment::staged_ptr)

namespace troupe {

namespace {

using namespace deployment;

using stage_function = std::function<result<staged>(const model_request&)>;
using go_atom = caf::atom_constant<caf::atom("go")>;  // to a stager: once, then it ends
using stager_actor = caf::typed_actor<caf::replies_to<go_atom>::with<staged_ptr>>;
using gone_atom =
    caf::atom_constant<caf::atom("gone")>;  // to the deployer: (operation) its instance's actors are gone

using private_deployer = deployer_actor::extend<caf::reacts_to<gone_atom, std::uint64_t>>;

stager_actor::behavior_type stager(stager_actor::pointer self, stage_function work, model_request request) {
  return {[self, work = std::move(work), request = std::move(request)](go_atom) -> caf::result<staged_ptr> {
    self->quit();
    try {
      auto done = work(request);
      if (!done) return to_caf(done.error());
      return staged_ptr(std::make_shared<const staged>(std::move(*done)));
    } catch (const std::exception& problem) {
      return to_caf({error_code::internal, problem.what()});
    }
  }};
}

struct follower {
  std::uint64_t request = 0;
  std::string model;  // empty = all
};

struct deployer_state {
  static inline const char* name = "deployer";

  private_deployer::pointer self = nullptr;
  deployer_options options;
  gateway_actor gateway;
  executor_actor executor;
  cache_manager_actor cache_manager;
  std::map<std::uint64_t, follower> followers;  // by stream

  book& all() const { return *options.book; }
  job& job_of(std::uint64_t id) const { return (*options.jobs)[id]; }

  void start();
  void meet(const std::string& id, const caf::strong_actor_ptr& peer);

  // from operators
  void admit(std::uint64_t stream, const wire::ClientRequest& request);
  void operate(std::uint64_t stream, std::uint64_t id, const wire::Operate& wanted);
  void abandon(std::uint64_t stream);
  void answer(std::uint64_t stream, reply_message reply, bool last = true);

  // operations
  void take(const book::changes& changes);
  void advance(std::uint64_t id, event what, std::string_view reason = {});
  void act(const operation& o);
  void stage(const operation& o, const stage_function& how);
  void switch_over(const operation& o);
  void retire(const operation& o);
  void stop_instance(const operation& o);
  void unload(std::uint64_t id);
  void end(const operation& o);
  void loaded(std::uint32_t model, const std::function<void(std::uint64_t)>& then) const;
  void failed(std::uint64_t id, const caf::error& problem);
};

// What its predecessor has left undone.
void deployer_state::start() {
  take(all().fail_all("the part of the server that runs operations was restarted", unix_ms()));
}

void deployer_state::meet(const std::string& id, const caf::strong_actor_ptr& peer) {
  if (id == "gateway") {
    gateway = caf::actor_cast<gateway_actor>(peer);
    followers.clear();  // it has ended them
    for (auto& [operation, job] : *options.jobs) job.stream = 0;
    for (const auto& o : all().under_way())
      if (o.state == state::retiring) act(o);  // the question went down with the gateway before
  }
  if (id == "executor") executor = caf::actor_cast<executor_actor>(peer);
  if (id == "cache_manager") cache_manager = caf::actor_cast<cache_manager_actor>(peer);
}

// ---- from operators ---------------------------------------------------------------------------------------

void deployer_state::admit(std::uint64_t stream, const wire::ClientRequest& request) {
  const auto id = request.id();
  if (const auto* wanted = request.body_as_Operate()) return operate(stream, id, *wanted);
  if (const auto* wanted = request.body_as_FollowEvents()) {
    followers[stream] = {id, wanted->model() ? wanted->model()->str() : std::string()};
    return;
  }
  const auto* wanted = request.body_as_ListHistory();
  auto list = all().history();
  if (wanted->model() && wanted->model()->size() > 0)
    std::erase_if(list, [&](const operation& o) { return o.model != wanted->model()->string_view(); });
  if (wanted->limit() != 0 && list.size() > wanted->limit())
    list.erase(list.begin(), list.end() - static_cast<std::ptrdiff_t>(wanted->limit()));
  answer(stream, history_reply(id, list, unix_ms()));
}

result<request> read(const wire::Operate& from) {
  request to;
  to.model = from.model() ? from.model()->str() : std::string();
  to.expected_generation = from.expected_generation();
  to.queue = from.queue();
  to.course.dry_run = from.dry_run();
  if (const auto* load = from.verb_as_Load()) {
    to.course.verb = verb::load;
    to.wanted = {
        .checkpoint = load->checkpoint()->str(), .max_context = load->max_context(), .module_sha256 = {}};
    if (to.wanted.checkpoint.empty() || to.wanted.checkpoint.front() != '/')
      return fail(error_code::invalid_request,
                  "checkpoint: \"{}\" is not an absolute path: the server's folder is not yours",
                  to.wanted.checkpoint);
    to.model = config::name_of({.name = to.model, .path = to.wanted.checkpoint});
    return to;
  }
  if (from.verb_as_Unload() == nullptr)
    return fail(error_code::invalid_request, "verb: not one that this server has");
  to.course.verb = verb::unload;
  if (to.model.empty())
    return fail(error_code::invalid_request, "model: name the one that is to be unloaded");
  return to;
}

void deployer_state::operate(std::uint64_t stream, std::uint64_t id, const wire::Operate& from) {
  auto wanted = read(from);
  if (!wanted) return answer(stream, error_reply(id, wanted.error()));
  auto opened = all().open(*wanted, unix_ms());
  if (!opened) return answer(stream, error_reply(id, opened.error()));
  job& mine = job_of(opened->id);
  mine.stream = stream;
  mine.request = id;
  if (const auto* unload = from.verb_as_Unload()) mine.deadline_ms = unload->deadline_ms();
  take({*opened});
}

void deployer_state::abandon(std::uint64_t stream) {
  followers.erase(stream);
  for (auto& [id, job] : *options.jobs)
    if (job.stream == stream) job.stream = 0;
}

void deployer_state::answer(std::uint64_t stream, reply_message reply, bool last) {
  if (stream != 0 && gateway) self->send(gateway, outgoing_batch{{stream, last, std::move(reply)}});
}

// ---- operations -------------------------------------------------------------------------------------------

// Tells everybody who listens, then does what each state asks for.
void deployer_state::take(const book::changes& changes) {
  options.catalogue->tell(all().under_way());
  for (const operation& o : changes) {
    log::info("deployer", "operation",
              {{"operation", o.id},
               {"model", o.model},
               {"verb", name_of(o.course.verb)},
               {"state", name_of(o.state)},
               {"reason", o.reason}});
    for (const auto& [stream, f] : followers)
      if (f.model.empty() || f.model == o.model) answer(stream, event_reply(f.request, o, unix_ms()), false);
  }
  for (const operation& o : changes) act(o);
}

void deployer_state::advance(std::uint64_t id, event what, std::string_view reason) {
  take(all().advance(id, what, reason, unix_ms()));
}

void deployer_state::act(const operation& o) {
  switch (o.state) {
    case state::queued:
      return;
    case state::staging:
      job_of(o.id).refused_with = error_code::internal;  // who refuses it from now on says more
      if (o.course.verb == verb::unload) return advance(o.id, event::passed);
      return stage(o, options.stage);
    case state::verifying:
      return stage(o, options.prepare);
    case state::loading:
      return options.start_instance(job_of(o.id).model);
    case state::committing:
      return advance(o.id, event::passed);
    case state::switching:
      return switch_over(o);
    case state::retiring:
      return retire(o);
    case state::clearing:
      return stop_instance(o);
    case state::done:
    case state::refused:
    case state::undone:
      return end(o);
    case state::watching:
    case state::undoing:
      break;
  }
  throw std::logic_error("an operation in a state that no verb of this server has");
}

void deployer_state::stage(const operation& o, const stage_function& how) {
  model_request wanted{{}, o.model, o.wanted.checkpoint, o.wanted.max_context};
  if (o.state == state::verifying) wanted.id = options.catalogue->take_id();
  const auto worker = options.detached ? self->system().spawn<caf::detached>(stager, how, wanted)
                                       : self->system().spawn(stager, how, wanted);
  const auto in = o.state;
  const auto still = [this, id = o.id, in] {
    const operation* now = all().find(id);
    return now != nullptr && now->state == in;
  };
  self->request(worker, caf::infinite, go_atom::value)
      .then(
          [this, id = o.id, still](const staged_ptr& found) {
            if (!still()) return;
            job& mine = job_of(id);
            mine.measured.report.insert(mine.measured.report.end(), found->report.begin(),
                                        found->report.end());
            mine.measured.bytes_loaded = std::max(mine.measured.bytes_loaded, found->bytes);
            if (found->model) {
              mine.model = found->model;
              if (found->model->module) all().set_module(id, found->model->module->sha256());
            }
            advance(id, event::passed);
          },
          [this, id = o.id, still](const caf::error& problem) {
            if (still()) failed(id, problem);
          });
}

void deployer_state::failed(std::uint64_t id, const caf::error& problem) {
  const error e = from_caf(problem, self->system().render(problem));
  job_of(id).refused_with = e.code;
  advance(id, event::failed, e.text);
}

void deployer_state::switch_over(const operation& o) {
  job& mine = job_of(o.id);
  if (o.course.verb == verb::unload) {
    mine.model = options.catalogue->find(o.model);
    if (mine.model) options.catalogue->withdraw(mine.model->id);
  } else {
    options.catalogue->serve({mine.model, options.workers, o.new_generation});
  }
  if (gateway) self->send(gateway, changed_atom::value);
  advance(o.id, event::passed);
}

// First the streams, then the actors, then what they were served from.
void deployer_state::retire(const operation& o) {
  const job& mine = job_of(o.id);
  if (!mine.model) return advance(o.id, event::passed);
  if (!gateway) return;  // asked when it comes
  self->request(gateway, caf::infinite, vacate_atom::value, mine.model->id.value, mine.deadline_ms)
      .then(
          [this, id = o.id](std::uint32_t finished, std::uint32_t ended) {
            const operation* now = all().find(id);
            if (now == nullptr || now->state != state::retiring) return;
            job_of(id).measured.streams_finished = finished;
            job_of(id).measured.streams_ended = ended;
            stop_instance(*now);
          },
          [](const caf::error&) {});  // the gateway has ended: asked again when the next one comes
}

void deployer_state::stop_instance(const operation& o) {
  const job& mine = job_of(o.id);
  if (!mine.model) return advance(o.id, event::passed);
  auto me = caf::actor_cast<caf::actor_addr>(self);
  options.stop_instance(mine.model, [me, id = o.id] {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send(caf::actor_cast<private_deployer>(alive), gone_atom::value, id);
  });
}

message<wire::UnloadModel> unload_message(model_id model) {
  flatbuffers::FlatBufferBuilder b(64);
  return message<wire::UnloadModel>::finish(b, wire::CreateUnloadModel(b, model.value));
}

// An executor or cache-manager that is not there, or ends meanwhile, holds nothing of the model.
void deployer_state::unload(std::uint64_t id) {
  const job& mine = job_of(id);
  if (!mine.model) return;
  const auto gone = unload_message(mine.model->id);
  const auto then = [this, id] {
    job_of(id).model.reset();
    advance(id, event::passed);
  };
  if (cache_manager)
    self->request(cache_manager, caf::infinite, gone)
        .then([](const message<wire::ModelUnloaded>&) {}, [](const caf::error&) {});
  if (!executor) return then();
  self->request(executor, caf::infinite, gone)
      .then(
          [this, id, then](const message<wire::ModelUnloaded>& done) {
            job_of(id).measured.bytes_freed = done->freed_bytes();
            then();
          },
          [then](const caf::error&) { then(); });
}

void deployer_state::loaded(std::uint32_t model, const std::function<void(std::uint64_t)>& then) const {
  for (const operation& o : all().under_way()) {
    const auto found = options.jobs->find(o.id);
    if (o.state != state::loading || found == options.jobs->end() || !found->second.model) continue;
    if (found->second.model->id.value == model) return then(o.id);
  }
}

void deployer_state::end(const operation& o) {
  const auto found = options.jobs->find(o.id);
  if (found != options.jobs->end()) {
    const job mine = std::move(found->second);
    options.jobs->erase(found);
    if (o.state == state::done)
      answer(mine.stream, operated_reply(mine.request, o, mine.measured));
    else
      answer(mine.stream, error_reply(mine.request, mine.refused_with, o.reason));
  }
  if (options.after_operation) options.after_operation();
}

private_deployer::behavior_type deployer(private_deployer::stateful_pointer<deployer_state> self,
                                         deployer_options options) {
  auto* core = &self->state;
  core->self = self;
  core->options = std::move(options);
  core->start();
  return {
      [core](peer_atom, const std::string& id, const caf::strong_actor_ptr& peer) { core->meet(id, peer); },
      [core](admit_atom, std::uint64_t stream, const message<wire::ClientRequest>& request, std::uint64_t) {
        core->admit(stream, *request);
      },
      [core](abandon_atom, std::uint64_t stream, std::uint16_t) { core->abandon(stream); },
      [core](loaded_atom, std::uint32_t model, std::uint64_t bytes) {
        core->loaded(model, [&](std::uint64_t id) {
          core->job_of(id).measured.bytes_loaded = bytes;
          core->advance(id, event::passed);
        });
      },
      [core](loaded_atom, std::uint32_t model, std::uint16_t code, const std::string& text) {
        core->loaded(model, [&](std::uint64_t id) {
          core->job_of(id).refused_with = static_cast<error_code>(code);
          core->advance(id, event::failed, text);
        });
      },
      [core](gone_atom, std::uint64_t id) { core->unload(id); }};
}

}  // namespace

deployer_actor spawn_deployer(caf::actor_system& system, deployer_options options) {
  return system.spawn(deployer, std::move(options));
}

}  // namespace troupe
