// How clients get from one version to another. Within an instance: its scheduler writes another number into the next plan. From one
// instance to a second one: the catalogue shares the name's requests between them.
#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <fstream>
#include <string>
#include <utility>

#include "actors/deployment/deployer_state.hpp"
#include "actors/errors.hpp"
#include "actors/host/host.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe::deployment {

namespace {

constexpr float most_step_ratio = 5;       // median against median of steps of like size
constexpr float most_logprob_drift = 1.5;  // nats

constexpr std::string_view other_front =
    "it has another context, other end-of-sequence ids or another chat template, which running streams have "
    "taken "
    "for granted: choose finish";

// Whether a file is mapped into this process.
bool is_mapped(const std::string& file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.size() >= file.size() && line.compare(line.size() - file.size(), file.size(), file) == 0)
      return true;
  return false;
}

}  // namespace

scheduler_actor deployer_state::scheduler_of(const prepared_model& instance) const {
  return caf::actor_cast<scheduler_actor>(options.find_peer(fmt::format("scheduler/{}", instance.id.value)));
}

host_actor deployer_state::host_of(const prepared_model& instance) const {
  return caf::actor_cast<host_actor>(options.find_peer(fmt::format("host/{}", instance.id.value)));
}

// What the operator leaves open follows from the two Programs.
result<void> deployer_state::choose_move(const operation& o, job& mine) const {
  if (o.course.verb == verb::load || mine.beside) return {};
  const staged& found = mine.found;
  auto& report = mine.measured.report;
  const bool may_carry = found.same_front && found.same_layout && !found.recurrent;
  auto move = mine.how.move;
  if (move == wire::Move::automatic)
    move = may_carry ? wire::Move::carry : found.same_front ? wire::Move::recompute : wire::Move::finish;
  if (move == wire::Move::carry && !may_carry)
    return fail(error_code::unsupported, "model {}: running sequences cannot be carried over: {}", o.model,
                !found.same_front ? std::string(other_front)
                : !found.same_layout
                    ? "the cache layouts differ: choose recompute"
                    : "recurrent state lives with the version that computed it: choose recompute");
  if (move == wire::Move::recompute && !found.same_front)
    return fail(error_code::unsupported, "model {}: running sequences cannot be recomputed: {}", o.model,
                other_front);
  mine.recompute = move == wire::Move::recompute;
  mine.measured.caches_kept = move == wire::Move::carry;
  mine.measured.bytes_shared = found.bytes_shared;
  if (move == wire::Move::finish) {  // an instance of its own after all
    mine.beside = true;
    auto own = std::make_shared<prepared_model>(*mine.model);
    own->id = options.catalogue->take_id();
    mine.model = std::move(own);
  }
  report.push_back(
      move == wire::Move::carry       ? "running sequences stay where they are, with what they have cached"
      : move == wire::Move::recompute ? "running sequences are recomputed from their tokens"
                                      : "running sequences stay with the old version to their end");
  return {};
}

// ---- within an instance -----------------------------------------------------------------------------------

// The old version is asked for, too: what is loaded is answered at once, and an undo needs to know its blocks.
void deployer_state::load_version(const operation& o) {
  job& mine = job_of(o.id);
  if (!executor)
    return fail_operation(o.id, {error_code::unavailable, "the executor is being restarted: try again"});
  mine.new_version = options.catalogue->take_version(mine.old->id);
  mine.old_version = options.catalogue->version_of(mine.old->id)->version;
  const auto fails = [this, id = o.id](const caf::error& problem) {
    if (still(id, state::loading) != nullptr) failed(id, problem);
  };
  self->request(executor, caf::infinite, load_request(*mine.old, mine.old_version))
      .then(
          [this, id = o.id](const message<wire::ModelLoaded>& loaded) {
            if (still(id, state::loading) != nullptr) job_of(id).old_loaded = loaded;
          },
          fails);
  self->request(executor, caf::infinite, load_request(*mine.model, mine.new_version))
      .then(
          [this, id = o.id](const message<wire::ModelLoaded>& loaded) {
            if (still(id, state::loading) == nullptr) return;
            job& now = job_of(id);
            now.new_loaded = loaded;
            now.measured.bytes_loaded =
                loaded->weight_bytes() - std::min(loaded->weight_bytes(), now.measured.bytes_shared);
            if (!now.old_loaded || now.old_loaded->pool() != loaded->pool())
              return fail_operation(
                  id, {error_code::unavailable, "the executor was restarted meanwhile: try again"});
            advance(id, event::passed);
          },
          fails);
}

void deployer_state::switch_version(const operation& o) {
  job& mine = job_of(o.id);
  const auto scheduler = scheduler_of(*mine.old);
  if (!scheduler)
    return fail_operation(o.id, {error_code::unavailable, "the scheduler is being restarted: try again"});
  mine.probation = mine.how.probation_ms > 0 || mine.how.probation_requests > 0;
  wire::SwitchVersionT m;
  m.version = mine.new_version;
  m.block_tokens = mine.new_loaded->block_tokens();
  m.state_bytes = mine.new_loaded->state_bytes();
  m.recompute = mine.recompute;
  m.keeps_prefixes = !mine.recompute && mine.found.same_results;
  m.probation = mine.probation;
  m.max_step_ratio = most_step_ratio;
  m.max_logprob_drift = most_logprob_drift;
  self->request(scheduler, caf::infinite, message<wire::SwitchVersion>::pack(m))
      .then(
          [this, id = o.id](const message<wire::Switched>& done) {
            if (still(id, state::switching) == nullptr) return;
            auto& measured = job_of(id).measured;
            measured.sequences_continued += done->continued();
            measured.sequences_recomputed += done->recomputed();
            advance(id, event::passed);
          },
          [this, id = o.id](const caf::error&) {
            if (still(id, state::switching) != nullptr)
              fail_operation(id, {error_code::unavailable, "the scheduler ended meanwhile: try again"});
          });
}

// Probation begins or ends.
void deployer_state::settle(const prepared_model& instance, std::uint32_t version, bool probation) const {
  wire::SwitchVersionT m;
  m.version = version;
  m.probation = probation;
  tell_scheduler(instance, m);
}

void deployer_state::tell_scheduler(const prepared_model& instance, const wire::SwitchVersionT& what) const {
  if (const auto scheduler = scheduler_of(instance))
    self->request(scheduler, caf::infinite, message<wire::SwitchVersion>::pack(what))
        .then([](const message<wire::Switched>&) {}, [](const caf::error&) {});
}

void deployer_state::promote_version(const operation& o) {
  const job& mine = job_of(o.id);
  const auto instance = mine.old->id;
  options.catalogue->run(instance, {mine.model, mine.new_version});
  options.catalogue->change(instance, [&](served_model& m) {
    m.model = mine.model;
    m.generation = o.new_generation;
  });
  // It runs already, unless an alarm was raised while the commit was written: what is committed is promised.
  wire::SwitchVersionT m;
  m.version = mine.new_version;
  m.block_tokens = mine.new_loaded->block_tokens();
  m.state_bytes = mine.new_loaded->state_bytes();
  m.recompute = true;
  tell_scheduler(*mine.old, m);
  if (const auto host = host_of(*mine.old)) self->send(host, adopt_atom::value);
  tell_gateway();
  unload_version(o.id, mine.old_version);
}

// If the scheduler has fallen back by itself, this only ends the probation there.
void deployer_state::undo_version(const operation& o) {
  const job& mine = job_of(o.id);
  const auto then = [this, id = o.id, version = mine.new_version] {
    if (still(id, state::undoing) != nullptr) unload_version(id, version);
  };
  const auto scheduler = scheduler_of(*mine.old);
  if (!scheduler || !mine.old_loaded) return then();
  wire::SwitchVersionT m;
  m.version = mine.old_version;
  m.block_tokens = mine.old_loaded->block_tokens();
  m.state_bytes = mine.old_loaded->state_bytes();
  m.keeps_prefixes = mine.found.same_results && mine.found.same_layout;
  m.recompute = !m.keeps_prefixes || mine.found.recurrent;
  self->request(scheduler, caf::infinite, message<wire::SwitchVersion>::pack(m))
      .then(
          [this, id = o.id, then](const message<wire::Switched>& done) {
            if (still(id, state::undoing) != nullptr) {
              job_of(id).measured.sequences_recomputed += done->recomputed();
              job_of(id).measured.sequences_continued += done->continued();
            }
            then();
          },
          [then](const caf::error&) { then(); });
}

// The executor answers when the version is destroyed: with the last reference to its native ops their library is closed.
void deployer_state::unload_version(std::uint64_t id, std::uint32_t version) {
  const operation* o = all().find(id);
  if (o == nullptr) return;
  const job& mine = job_of(id);
  const auto gone = o->state == state::retiring ? mine.old : mine.model;
  const auto then = [this, id, in = o->state, gone](std::uint64_t freed) {
    if (still(id, in) == nullptr) return;
    job& now = job_of(id);
    now.measured.bytes_freed += freed;
    if (gone && gone->module && !gone->module->declared_ops().empty()) {
      const bool mapped = is_mapped(gone->module->staged_path().filename().string());
      now.measured.report.push_back(fmt::format(
          "library of {} {} ({}): {}", gone->module->name(), gone->module->version(),
          gone->module->sha256().substr(0, 12),
          mapped ? "still mapped: another model uses it" : "closed, and absent from the process map"));
    }
    if (in == state::retiring) now.old.reset();
    advance(id, event::passed);
  };
  if (!executor) return then(0);
  self->request(executor, caf::infinite,
                unload_message(mine.old ? mine.old->id : mine.model->id, static_cast<std::int32_t>(version)))
      .then([then](const message<wire::ModelUnloaded>& done) { then(done->freed_bytes()); },
            [then](const caf::error&) { then(0); });
}

// ---- from one instance to another -------------------------------------------------------------------------

void deployer_state::serve_candidate(const operation& o) {
  job& mine = job_of(o.id);
  mine.probation = mine.how.probation_ms > 0 || mine.how.probation_requests > 0;
  settle(*mine.model, 0, mine.probation);
  served_model candidate{.model = mine.model, .workers = options.workers, .generation = o.old_generation};
  candidate.share_percent = mine.how.share_percent;
  candidate.sticky = mine.how.sticky;
  options.catalogue->change(mine.old->id, [&](served_model& m) {
    m.share_percent = 100 - mine.how.share_percent;
    m.sticky = mine.how.sticky;
  });
  options.catalogue->serve(std::move(candidate));
  tell_gateway();
  advance(o.id, event::passed);
}

void deployer_state::promote_candidate(const operation& o) {
  job& mine = job_of(o.id);
  options.catalogue->withdraw(mine.old->id);
  options.catalogue->change(mine.model->id, [&](served_model& m) {
    m.generation = o.new_generation;
    m.share_percent = 100;
    m.sticky = false;
  });
  settle(*mine.model, 0, false);
  tell_gateway();
  if (mine.how.move == wire::Move::recompute) return move_on(o, mine.old, mine.model);
  if (mine.how.deadline_ms > 0) {
    mine.redirect_at_ms = unix_ms() + mine.how.deadline_ms;
    start_ticking();
  }
  vacate(o, mine.old, 0);
}

// Streams that the candidate has begun go on with the version before.
void deployer_state::undo_candidate(const operation& o) {
  const job& mine = job_of(o.id);
  options.catalogue->withdraw(mine.model->id);
  options.catalogue->change(mine.old->id, [](served_model& m) {
    m.share_percent = 100;
    m.sticky = false;
  });
  tell_gateway();
  move_on(o, mine.model, mine.old);
}

void deployer_state::redirect(const prepared_model& from, const prepared_model& to) const {
  const auto scheduler = options.find_peer(fmt::format("scheduler/{}", to.id.value));
  if (!scheduler) return;
  for (std::uint32_t worker = 0; worker < options.workers; ++worker)
    if (const auto tokenizer = caf::actor_cast<tokenizer_actor>(
            options.find_peer(fmt::format("tokenizer/{}/{}", from.id.value, worker))))
      self->send(tokenizer, redirect_atom::value, to.id.value, scheduler);
}

// The streams go on with another instance, so this one's engine can go at once; its tokenizers stay for them.
void deployer_state::move_on(const operation& o, const prepared_model_ptr& from,
                             const prepared_model_ptr& to) {
  job& mine = job_of(o.id);
  const auto goes = from;
  mine.measured.streams_finished = 0;
  if (!mine.moved_on) {
    mine.moved_on = true;
    redirect(*goes, *to);
    options.catalogue->leave(goes);
    see_off(goes);
  }
  mine.model = goes;
  auto me = caf::actor_cast<caf::actor_addr>(self);
  options.stop_engine(goes, [me, id = o.id] {
    if (auto alive = caf::actor_cast<caf::strong_actor_ptr>(me))
      caf::anon_send(caf::actor_cast<private_deployer>(alive), gone_atom::value, id);
  });
}

// With its last stream the rest of it ends.
void deployer_state::see_off(const prepared_model_ptr& instance) const {
  if (!gateway) return;
  self->request(gateway, caf::infinite, vacate_atom::value, instance->id.value, std::uint64_t{0})
      .then(
          [this, instance](std::uint32_t, std::uint32_t) {
            options.catalogue->left(instance->id);
            options.stop_instance(instance, {});
          },
          [](const caf::error&) {});  // asked again when the next gateway comes
}

// ---- probation --------------------------------------------------------------------------------------------

// While a candidate is built and loaded, too: the version before is observed, to be compared with.
void deployer_state::poll(const operation& o) {
  job& mine = job_of(o.id);
  const auto& watched = mine.beside && o.state == state::watching ? mine.model : mine.old;
  if (mine.asked || !watched) return;
  const auto scheduler = scheduler_of(*watched);
  if (!scheduler) return;
  mine.asked = true;
  self->request(scheduler, caf::infinite, watch_atom::value)
      .then(
          [this, id = o.id](const message<wire::WatchReport>& seen) {
            if (const auto known = options.jobs->find(id); known != options.jobs->end())
              known->second.asked = false;
            if (const operation* now = still(id, state::watching)) judge(*now, *seen);
          },
          [this, id = o.id](const caf::error&) {
            if (const auto known = options.jobs->find(id); known != options.jobs->end())
              known->second.asked = false;
          });
}

void deployer_state::judge(const operation& o, const wire::WatchReport& seen) {
  job& mine = job_of(o.id);
  auto& measured = mine.measured;
  measured.pause_ns = std::max(measured.pause_ns, seen.pause_ns());
  if (measured.usual_pause_ns == 0) measured.usual_pause_ns = seen.usual_pause_ns();
  const std::string alarm = seen.alarm() ? seen.alarm()->str() : std::string();
  if (!alarm.empty())
    return fail_operation(o.id, {error_code::conflict, fmt::format("taken back on probation: {}", alarm)});
  if (!mine.beside && seen.version() != mine.new_version)
    return fail_operation(
        o.id, {error_code::conflict, "taken back on probation: the scheduler was restarted while it ran"});
  const bool time = mine.how.probation_ms > 0 && unix_ms() >= mine.watched_since_ms + mine.how.probation_ms;
  const bool requests = mine.how.probation_requests > 0 && seen.sequences() >= mine.how.probation_requests;
  if (!time && !requests) return;
  measured.report.push_back(fmt::format(
      "probation: {} steps, {} tokens, {} sequences ended{}", seen.steps(), seen.tokens(), seen.sequences(),
      seen.step_ratio() > 0 ? fmt::format(", steps took {:.2f} times as long as before", seen.step_ratio())
                            : ""));
  advance(o.id, event::passed);
}

}  // namespace troupe::deployment
