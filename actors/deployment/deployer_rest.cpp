// Models that rest: drained, asleep, woken. Where their weights are then, and what operators hear of it.
#include <fmt/format.h>

#include <caf/send.hpp>
#include <string>

#include "actors/deployment/deployer_state.hpp"
#include "actors/errors.hpp"
#include "kernel/base/text.hpp"

namespace troupe::deployment {

namespace {

// "43.8 GiB in 812 ms (57.9 GB/s)"
std::string transfer_text(std::uint64_t bytes, double ms) {
  return fmt::format("{} in {:.0f} ms ({:.1f} GB/s)", human_bytes(bytes), ms,
                     ms > 0 ? static_cast<double>(bytes) / ms / 1e6 : 0.0);
}

}  // namespace

// The streams have ended. What sleeps gives its memory back, and its host loads nothing until it is woken.
void deployer_state::rest(const operation& o) {
  const job& mine = job_of(o.id);
  if (o.course.verb == verb::drain) return advance(o.id, event::passed);
  options.catalogue->take_version(mine.old->id);
  const auto version = options.catalogue->version_of(mine.old->id)->version;
  options.catalogue->run(mine.old->id, {nullptr, version});
  if (const auto host = host_of(*mine.old)) self->send(host, adopt_atom::value);
  job_of(o.id).model = mine.old;
  unload_instance(o.id);
}

void deployer_state::wake(const operation& o) {
  job& mine = job_of(o.id);
  const auto known = options.catalogue->version_of(mine.old->id);
  mine.slept = known && !known->model;
  options.catalogue->run(mine.old->id, {mine.old, known ? known->version : 0});
  const auto host = host_of(*mine.old);
  if (!host) return fail_operation(o.id, {error_code::unavailable, "the host is being restarted: try again"});
  self->send(host, adopt_atom::value);
}

void deployer_state::tell_of_sleep(job& mine, const wire::ModelUnloaded& done) const {
  auto& report = mine.measured.report;
  if (done.kept_bytes() > 0)
    report.push_back(fmt::format("weights in host memory: {}; {} of the device are free",
                                 transfer_text(done.kept_bytes(), done.rest_ms()),
                                 human_bytes(done.freed_bytes())));
  if (done.not_kept() != nullptr && done.not_kept()->size() > 0)
    report.push_back(fmt::format("no copy in host memory: {}; wake loads the files", done.not_kept()->str()));
  if (done.dropped_bytes() > 0)
    report.push_back(fmt::format("its copy in host memory is gone: {}", human_bytes(done.dropped_bytes())));
}

void deployer_state::tell_of_waking(std::uint64_t id, const wire::ModelLoaded& done) const {
  job& mine = job_of(id);
  if (!mine.slept) return;
  mine.measured.report.push_back(
      done.woken_bytes() > 0
          ? fmt::format("woken from host memory: {}", transfer_text(done.woken_bytes(), done.load_ms()))
          : fmt::format("loaded from its files in {:.0f} ms: there was no copy in host memory",
                        done.load_ms()));
}

}  // namespace troupe::deployment
