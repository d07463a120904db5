#include "actors/deployment/deployer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <utility>

#include "actors/deployment/deployer_state.hpp"
#include "actors/errors.hpp"
#include "kernel/config/config.hpp"
#include "kernel/telemetry/log.hpp"

namespace troupe {

namespace deployment {

// What its predecessor has left undone.
void deployer_state::start() {
  const auto reason = "the part of the server that runs operations was restarted";
  const auto left = all().under_way();
  take(all().fail_all(reason, unix_ms()));
  for (const operation& o : left)
    if (is_committed(o.course, o.state)) act(o);
}

void deployer_state::meet(const std::string& id, const caf::strong_actor_ptr& peer) {
  if (id == "gateway") {
    gateway = caf::actor_cast<gateway_actor>(peer);
    followers.clear();  // it has ended them
    for (auto& [operation, job] : *options.jobs) job.waiters.clear();
    for (const auto& o : all().under_way())
      if (o.state == state::retiring || o.state == state::undoing || o.state == state::clearing)
        act(o);  // a question may have gone down with the gateway before
    for (const auto& instance : options.catalogue->leaving()) see_off(instance);
  }
  if (id == "executor") executor = caf::actor_cast<executor_actor>(peer);
  if (id == "cache_manager") cache_manager = caf::actor_cast<cache_manager_actor>(peer);
}

// ---- from operators ---------------------------------------------------------------------------------------

void deployer_state::admit(std::uint64_t stream, const wire::ClientRequest& request) {
  const auto id = request.id();
  if (const auto* wanted = request.body_as_Operate()) return operate({stream, id}, *wanted);
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

namespace {

result<void> check_path(std::string_view field, const std::string& path) {
  if (!path.empty() && path.front() == '/') return {};
  return fail(error_code::invalid_request,
              "{}: \"{}\" is not an absolute path: the server's folder is not yours", field, path);
}

result<void> read_load(const wire::Load& from, request& to) {
  to.course.verb = verb::load;
  to.wanted = {.checkpoint = from.checkpoint()->str(), .max_context = from.max_context()};
  if (auto ok = check_path("checkpoint", to.wanted.checkpoint); !ok) return ok;
  to.model = config::name_of({.name = to.model, .path = to.wanted.checkpoint});
  return {};
}

result<void> check_difference(wire::Verify how, float most) {
  if (how != wire::Verify::max_logit_diff || most > 0) return {};
  return fail(error_code::invalid_request, "max_logit_diff: expected a number above 0, found {}", most);
}

result<void> read_swap(const wire::Swap& from, request& to, change& how) {
  to.course.verb = verb::swap;
  how = {.module = from.module_()->str(),
         .move = from.move(),
         .verify = from.verify(),
         .max_logit_diff = from.max_logit_diff(),
         .deadline_ms = from.deadline_ms(),
         .probation_ms = from.probation_ms(),
         .probation_requests = from.probation_requests()};
  if (auto ok = check_difference(how.verify, how.max_logit_diff); !ok) return ok;
  return check_path("module", how.module);
}

result<void> read_deploy(const wire::Deploy& from, request& to, change& how) {
  to.course.verb = verb::deploy;
  to.wanted = {.checkpoint = from.checkpoint()->str(), .max_context = from.max_context()};
  how = {.module = from.module_() ? from.module_()->str() : std::string(),
         .move = from.move(),
         .verify = from.verify(),
         .max_logit_diff = from.max_logit_diff(),
         .deadline_ms = from.deadline_ms(),
         .probation_ms = from.probation_ms(),
         .probation_requests = from.probation_requests(),
         .share_percent = from.share_percent(),
         .sticky = from.sticky()};
  if (how.share_percent < 1 || how.share_percent > 100)
    return fail(error_code::invalid_request, "share_percent: {} is outside 1 to 100", how.share_percent);
  if (how.move == wire::Move::carry)
    return fail(error_code::unsupported,
                "move: what was cached with other weights cannot be carried: choose recompute or finish");
  if (auto ok = check_difference(how.verify, how.max_logit_diff); !ok) return ok;
  if (!how.module.empty())
    if (auto ok = check_path("module", how.module); !ok) return ok;
  return check_path("checkpoint", to.wanted.checkpoint);
}

result<void> read_verb(const wire::Operate& from, request& to, change& how) {
  if (const auto* v = from.verb_as_Load()) return read_load(*v, to);
  if (const auto* v = from.verb_as_Swap()) return read_swap(*v, to, how);
  if (const auto* v = from.verb_as_Deploy()) return read_deploy(*v, to, how);
  if (const auto* unload = from.verb_as_Unload()) {
    to.course.verb = verb::unload;
    how.deadline_ms = unload->deadline_ms();
  } else if (const auto* rollback = from.verb_as_Rollback()) {
    to.course.verb = verb::rollback;
    how.deadline_ms = rollback->deadline_ms();
  } else if (const auto* sleep = from.verb_as_Sleep()) {
    to.course.verb = verb::sleep;
    how.deadline_ms = sleep->deadline_ms();
  } else if (const auto* drain = from.verb_as_Drain()) {
    to.course.verb = verb::drain;
    how.deadline_ms = drain->deadline_ms();
  } else if (const auto* pin = from.verb_as_Pin()) {
    to.course.verb = pin->pinned() ? verb::pin : verb::unpin;
  } else if (from.verb_as_Wake()) {
    to.course.verb = verb::wake;
  } else {
    return fail(error_code::invalid_request, "verb: not one that this server has");
  }
  return {};
}

result<request> read(const wire::Operate& from, change& how) {
  request to;
  to.model = from.model() ? from.model()->str() : std::string();
  to.expected_generation = from.expected_generation();
  to.queue = from.queue();
  to.course.dry_run = from.dry_run();
  if (auto ok = read_verb(from, to, how); !ok) return fail(std::move(ok.error()));
  if (to.model.empty()) return fail(error_code::invalid_request, "model: name the one that is to be changed");
  return to;
}

}  // namespace

// Promote, and Rollback on probation, are about the operation under way.
bool deployer_state::steer(waiter asker, const wire::Operate& from) {
  const bool promote = from.verb_as_Promote() != nullptr;
  if (!promote && from.verb_as_Rollback() == nullptr) return false;
  const std::string model = from.model() ? from.model()->str() : std::string();
  const operation* o = all().current(model);
  const bool watched = o != nullptr && o->state == state::watching;
  if (!watched && !promote) return false;
  if (!watched) {
    answer(asker.stream,
           error_reply(asker.request, error_code::conflict,
                       fmt::format("model {}: nothing is on probation: there is nothing to promote", model)));
    return true;
  }
  const auto expected = from.expected_generation();
  if (expected >= 0 && static_cast<std::uint64_t>(expected) != o->old_generation) {
    answer(asker.stream, error_reply(asker.request, error_code::conflict,
                                     fmt::format("model {}: expected generation {}, found {}", model,
                                                 expected, o->old_generation)));
    return true;
  }
  if (from.dry_run()) {
    outcome told;
    told.report.push_back(promote
                              ? "the probation would end as passed, and the version on probation be promoted"
                              : "the version on probation would be taken back");
    answer(asker.stream, operated_reply(asker.request, *o, told));
    return true;
  }
  const auto id = o->id;
  asker.takes_back = !promote;
  job_of(id).waiters.push_back(asker);
  if (!promote) job_of(id).refused_with = error_code::cancelled;
  advance(id, promote ? event::passed : event::withdrawn,
          promote ? "promoted by the operator" : "rolled back by the operator");
  return true;
}

void deployer_state::operate(waiter asker, const wire::Operate& from) {
  if (steer(asker, from)) return;
  change how;
  auto wanted = read(from, how);
  if (!wanted) return answer(asker.stream, error_reply(asker.request, wanted.error()));
  auto opened = all().open(*wanted, unix_ms());
  if (!opened) return answer(asker.stream, error_reply(asker.request, opened.error()));
  job& mine = job_of(opened->id);
  mine.waiters.push_back(asker);
  mine.how = std::move(how);
  take({*opened});
}

void deployer_state::abandon(std::uint64_t stream) {
  followers.erase(stream);
  for (auto& [id, job] : *options.jobs)
    std::erase_if(job.waiters, [&](const waiter& w) { return w.stream == stream; });
}

void deployer_state::answer(std::uint64_t stream, reply_message reply, bool last) {
  if (stream != 0 && gateway) self->send(gateway, outgoing_batch{{stream, last, std::move(reply)}});
}

}  // namespace deployment

namespace {

using namespace deployment;

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
      [core](loaded_atom, const message<wire::ModelLoaded>& done) {
        core->loaded(done->model(), [&](std::uint64_t id) {
          core->job_of(id).measured.bytes_loaded = done->weight_bytes();
          core->tell_of_waking(id, *done);
          core->advance(id, event::passed);
        });
      },
      [core](loaded_atom, std::uint32_t model, std::uint16_t code, const std::string& text) {
        core->loaded(model, [&](std::uint64_t id) {
          core->fail_operation(id, {static_cast<error_code>(code), text});
        });
      },
      [core](gone_atom, std::uint64_t id) { core->unload_instance(id); },
      [core](tick_atom) { core->tick(); }};
}

}  // namespace

deployer_actor spawn_deployer(caf::actor_system& system, deployer_options options) {
  return system.spawn(deployer, std::move(options));
}

}  // namespace troupe
