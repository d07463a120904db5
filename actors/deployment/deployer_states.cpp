// What each state of an operation asks for. The states themselves: operation.hpp.
#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "actors/deployment/deployer_state.hpp"
#include "actors/errors.hpp"
#include "kernel/base/background.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::deployment {

namespace {

constexpr auto beat = std::chrono::milliseconds(20);  // while something is watched

stager_actor::behavior_type stager(stager_actor::pointer self, std::function<result<staged>()> work) {
  return {[self, work = std::move(work)](go_atom) -> caf::result<staged_ptr> {
    self->quit();
    try {
      auto done = work();
      if (!done) return to_caf(done.error());
      return staged_ptr(std::make_shared<const staged>(std::move(*done)));
    } catch (const std::exception& problem) {
      return to_caf({error_code::internal, problem.what()});
    }
  }};
}

}  // namespace

const operation* deployer_state::still(std::uint64_t id, state in) const {
  const operation* now = all().find(id);
  return now != nullptr && now->state == in ? now : nullptr;
}

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

void deployer_state::fail_operation(std::uint64_t id, const error& why) {
  job_of(id).refused_with = why.code;
  advance(id, event::failed, why.text);
}

void deployer_state::failed(std::uint64_t id, const caf::error& problem) {
  fail_operation(id, from_caf(problem, self->system().render(problem)));
}

void deployer_state::act(const operation& o) {
  switch (o.state) {
    case state::queued:
      return;
    case state::staging:
      return stage(o);
    case state::verifying:
      return verify(o);
    case state::loading:
      return load(o);
    case state::committing:
      return advance(o.id, event::passed);
    case state::switching:
      return switch_over(o);
    case state::watching:
      return watch(o);
    case state::retiring:
      return retire(o);
    case state::clearing:
      return clear(o);
    case state::undoing:
      return undo(o);
    case state::done:
    case state::refused:
    case state::undone:
      return end(o);
  }
}

// ---- staging and verifying, beside everything else ----------------------------------------------------

void deployer_state::stage(const operation& o) {
  job& mine = job_of(o.id);
  mine.refused_with = error_code::internal;  // who refuses it from now on says more
  const auto known = options.catalogue->find(o.model);
  if (known) mine.old = known->model;
  const bool wakes = o.course.verb == verb::wake;
  if (known && o.course.verb != verb::unload && o.course.verb != verb::pin && o.course.verb != verb::unpin &&
      wakes == known->resting.empty())
    return fail_operation(
        o.id, {error_code::conflict, wakes ? fmt::format("model {}: it is awake and takes requests", o.model)
                                           : fmt::format("model {}: it is {}: `troupe wake {}` first",
                                                         o.model, known->resting, o.model)});
  if (o.course.verb != verb::load && o.course.verb != verb::deploy) return advance(o.id, event::passed);
  run_stager(o, [stage = options.stage,
                 wanted = model_request{{}, o.model, o.wanted.checkpoint, o.wanted.max_context}] {
    return stage(wanted);
  });
}

void deployer_state::verify(const operation& o) {
  job& mine = job_of(o.id);
  model_request wanted{{}, o.model, o.wanted.checkpoint, o.wanted.max_context};
  if (o.course.verb == verb::rollback) {
    mine.how.module_sha256 = o.wanted.own_module ? o.wanted.module_sha256 : std::string();
    mine.how.probation_ms = 0;
  }
  const bool same_weights = mine.old && o.wanted.checkpoint == mine.old->checkpoint.folder.string();
  mine.beside = o.course.verb == verb::load || o.course.verb == verb::deploy || !same_weights ||
                mine.how.move == wire::Move::finish;
  wanted.id = mine.beside ? options.catalogue->take_id() : mine.old->id;
  start_ticking();
  if (!mine.old) return run_stager(o, [prepare = options.prepare, wanted] { return prepare(wanted); });
  run_stager(o, [prepare = options.prepare_candidate,
                 candidate = candidate_request{wanted, mine.how, mine.old}] { return prepare(candidate); });
}

void deployer_state::run_stager(const operation& o, std::function<result<staged>()> work) {
  const auto aside = [work] {
    run_in_background();
    return work();
  };
  const auto worker = options.detached ? self->system().spawn<caf::detached>(stager, aside)
                                       : self->system().spawn(stager, std::move(work));
  self->request(worker, caf::infinite, go_atom::value)
      .then(
          [this, id = o.id, in = o.state](const staged_ptr& found) {
            const operation* now = still(id, in);
            if (now == nullptr) return;
            job& mine = job_of(id);
            auto& report = mine.measured.report;
            report.insert(report.end(), found->report.begin(), found->report.end());
            mine.measured.bytes_loaded = std::max(mine.measured.bytes_loaded, found->bytes);
            if (found->model) {
              mine.model = found->model;
              mine.found = *found;
              if (found->model->module)
                all().set_module(id, found->model->module->sha256(),
                                 !mine.how.module.empty() || !mine.how.module_sha256.empty());
              if (auto ok = choose_move(*now, mine); !ok) return fail_operation(id, ok.error());
            }
            advance(id, event::passed);
          },
          [this, id = o.id, in = o.state](const caf::error& problem) {
            if (still(id, in) != nullptr) failed(id, problem);
          });
}

// ---- loading ----------------------------------------------------------------------------------------------

void deployer_state::load(const operation& o) {
  if (o.course.verb == verb::wake) return wake(o);
  const job& mine = job_of(o.id);
  start_ticking();
  if (mine.beside) return options.start_instance(mine.model);
  load_version(o);
}

void deployer_state::loaded(std::uint32_t model, const std::function<void(std::uint64_t)>& then) const {
  for (const operation& o : all().under_way()) {
    const auto found = options.jobs->find(o.id);
    if (o.state != state::loading || found == options.jobs->end()) continue;
    const job& mine = found->second;
    if (o.course.verb == verb::wake ? mine.old && mine.old->id.value == model
                                    : mine.beside && mine.model && mine.model->id.value == model)
      return then(o.id);
  }
}

// ---- switching and watching -------------------------------------------------------------------------------

void deployer_state::tell_gateway() const {
  if (gateway) self->send(gateway, changed_atom::value);
}

void deployer_state::switch_over(const operation& o) {
  job& mine = job_of(o.id);
  switch (o.course.verb) {
    case verb::unload:
      mine.model = mine.old;
      if (mine.model) options.catalogue->withdraw(mine.model->id);
      break;
    case verb::load:
      options.catalogue->serve(
          {.model = mine.model, .workers = options.workers, .generation = o.new_generation});
      break;
    case verb::sleep:
    case verb::drain:
    case verb::wake:
      options.catalogue->change(mine.old->id, [&](served_model& m) {
        m.resting = o.course.verb == verb::wake ? "" : o.course.verb == verb::sleep ? "asleep" : "drained";
      });
      break;
    default:
      return mine.beside ? serve_candidate(o) : switch_version(o);
  }
  tell_gateway();
  advance(o.id, event::passed);
}

void deployer_state::watch(const operation& o) {
  job& mine = job_of(o.id);
  mine.watched_since_ms = unix_ms();
  if (!mine.probation) return advance(o.id, event::passed);
  start_ticking();
}

void deployer_state::start_ticking() {
  if (std::exchange(ticking, true)) return;
  self->delayed_send(self, beat, tick_atom::value);
}

void deployer_state::tick() {
  ticking = false;
  for (const operation& o : all().under_way()) {
    const bool comes =
        o.state == state::verifying || o.state == state::loading;  // what is to be compared with
    if (comes || o.state == state::watching) {
      start_ticking();
      poll(o);
    }
    job& mine = job_of(o.id);
    if (o.state != state::retiring || mine.redirect_at_ms == 0) continue;
    start_ticking();
    if (unix_ms() < mine.redirect_at_ms) continue;
    mine.redirect_at_ms = 0;
    move_on(o, mine.old, mine.model);
  }
}

// ---- what ends --------------------------------------------------------------------------------------------

void deployer_state::retire(const operation& o) {
  if (!gateway) return;  // asked when it comes
  const job& mine = job_of(o.id);
  switch (o.course.verb) {
    case verb::unload:
      return mine.model ? vacate(o, mine.model, mine.how.deadline_ms) : advance(o.id, event::passed);
    case verb::sleep:
    case verb::drain:
      return vacate(o, mine.old, mine.how.deadline_ms);
    default:
      return mine.beside ? promote_candidate(o) : promote_version(o);
  }
}

// First the streams, then the actors, then what they were served from.
void deployer_state::vacate(const operation& o, const prepared_model_ptr& instance,
                            std::uint64_t deadline_ms) {
  self->request(gateway, caf::infinite, vacate_atom::value, instance->id.value, deadline_ms)
      .then(
          [this, id = o.id, in = o.state, instance](std::uint32_t finished, std::uint32_t ended) {
            const operation* now = still(id, in);
            if (now == nullptr || job_of(id).moved_on) return;
            job_of(id).measured.streams_finished = finished;
            job_of(id).measured.streams_ended = ended;
            if (now->course.verb == verb::sleep || now->course.verb == verb::drain) return rest(*now);
            stop_instance(*now, instance);
          },
          [](const caf::error&) {});  // the gateway has ended: asked again when the next one comes
}

void deployer_state::stop_instance(const operation& o, const prepared_model_ptr& instance) {
  job_of(o.id).model = instance;  // what goes
  auto me = caf::actor_cast<caf::actor_addr>(self);
  options.stop_instance(instance, [me, id = o.id] {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send(caf::actor_cast<private_deployer>(alive), gone_atom::value, id);
  });
}

message<wire::UnloadModel> unload_message(model_id model, std::int32_t version) {
  flatbuffers::FlatBufferBuilder b(64);
  return message<wire::UnloadModel>::finish(b, wire::CreateUnloadModel(b, model.value, version));
}

message<wire::UnloadModel> rest_message(model_id model) {
  flatbuffers::FlatBufferBuilder b(64);
  return message<wire::UnloadModel>::finish(b, wire::CreateUnloadModel(b, model.value, -1, true));
}

// An executor or cache-manager that is not there, or ends meanwhile, holds nothing of the model.
void deployer_state::unload_instance(std::uint64_t id) {
  const operation* o = all().find(id);
  if (o == nullptr || is_over(o->state)) return;
  const job& mine = job_of(id);
  if (!mine.model) return;
  const bool is_over_for_good = o->course.verb != verb::sleep && o->course.verb != verb::wake;
  const auto gone = is_over_for_good ? unload_message(mine.model->id) : rest_message(mine.model->id);
  const auto then = [this, id, in = o->state, instance = mine.model->id, is_over_for_good] {
    if (still(id, in) == nullptr) return;
    if (is_over_for_good) options.catalogue->forget(instance);
    advance(id, event::passed);
  };
  if (cache_manager)
    self->request(cache_manager, caf::infinite, gone)
        .then([](const message<wire::ModelUnloaded>&) {}, [](const caf::error&) {});
  if (!executor) return then();
  self->request(executor, caf::infinite, gone)
      .then(
          [this, id, in = o->state, then](const message<wire::ModelUnloaded>& done) {
            if (still(id, in) != nullptr) {
              job_of(id).measured.bytes_freed += done->freed_bytes();
              tell_of_sleep(job_of(id), *done);
            }
            then();
          },
          [then](const caf::error&) { then(); });
}

void deployer_state::clear(const operation& o) {
  const job& mine = job_of(o.id);
  if (o.course.verb == verb::wake) return rest(o);
  if (mine.beside) {
    if (!mine.model) return advance(o.id, event::passed);
    return stop_instance(o, mine.model);
  }
  if (gateway) unload_version(o.id, mine.new_version);
}

void deployer_state::undo(const operation& o) {
  if (!gateway) return;  // asked when it comes
  const job& mine = job_of(o.id);
  if (o.course.verb == verb::wake) {
    options.catalogue->change(mine.old->id, [](served_model& m) { m.resting = "asleep"; });
    tell_gateway();
    return rest(o);
  }
  if (o.course.verb == verb::sleep || o.course.verb == verb::drain) {
    options.catalogue->change(mine.old->id, [](served_model& m) { m.resting.clear(); });
    tell_gateway();
    return advance(o.id, event::passed);
  }
  mine.beside ? undo_candidate(o) : undo_version(o);
}

void deployer_state::end(const operation& o) {
  if (o.state == state::done && (o.course.verb == verb::pin || o.course.verb == verb::unpin))
    if (const auto known = options.catalogue->find(o.model)) {
      options.catalogue->change(known->model->id,
                                [&](served_model& m) { m.pinned = o.course.verb == verb::pin; });
      tell_gateway();
    }
  const auto found = options.jobs->find(o.id);
  if (found != options.jobs->end()) {
    const job mine = std::move(found->second);
    options.jobs->erase(found);
    const bool as_wished = o.state == state::done;
    for (const waiter& w : mine.waiters)
      answer(w.stream, as_wished || w.takes_back ? operated_reply(w.request, o, mine.measured)
                                                 : error_reply(w.request, mine.refused_with, o.reason));
  }
  if (options.after_operation) options.after_operation();
}

}  // namespace troupe::deployment
