#include "troupe/operations.hpp"

#include <algorithm>
#include <limits>

#include "call.hpp"

namespace troupe::client {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

flatbuffers::DetachedBuffer finish(FlatBufferBuilder& b, std::uint64_t id, wire::RequestBody type,
                                   Offset<void> body) {
  b.Finish(wire::CreateClientRequest(b, spoken_version, id, type, body));
  return b.Release();
}

operated operate(link& l, FlatBufferBuilder& b, const std::string& model, wire::Verb verb, Offset<void> body,
                 const operation_options& how) {
  const auto id = l.next_id();
  const auto name = b.CreateString(model);
  const std::int64_t expected =
      how.expected_generation ? static_cast<std::int64_t>(*how.expected_generation) : -1;
  const auto wanted = wire::CreateOperate(b, name, verb, body, expected, how.dry_run, how.queue);
  const auto r =
      call<wire::Operated>(l, id, finish(b, id, wire::RequestBody::Operate, wanted.Union()), forever);
  const auto& answer = *r->body_as_Operated();
  operated done;
  done.info = read_operation(*answer.info());
  if (const auto* report = answer.report())
    for (const auto* line : *report) done.report.push_back(line->str());
  done.bytes_loaded = answer.bytes_loaded();
  done.bytes_freed = answer.bytes_freed();
  done.streams_finished = answer.streams_finished();
  done.streams_ended = answer.streams_ended();
  done.sequences_continued = answer.sequences_continued();
  done.sequences_recomputed = answer.sequences_recomputed();
  done.bytes_shared = answer.bytes_shared();
  done.caches_kept = answer.caches_kept();
  done.pause_ms = answer.pause_ms();
  done.usual_pause_ms = answer.usual_pause_ms();
  return done;
}

std::uint32_t ms_of(milliseconds t) {
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(t.count(), 0, std::numeric_limits<std::uint32_t>::max()));
}

// In the order of the schema.
wire::Move wire_of(move m) {
  return static_cast<wire::Move>(m);
}
wire::Verify wire_of(verify v) {
  return static_cast<wire::Verify>(v);
}

}  // namespace

operations::operations(connection to) : link_(std::move(to.link_)) {}

operated operations::load(const std::string& checkpoint, const std::string& model, std::uint32_t max_context,
                          const operation_options& how) const {
  FlatBufferBuilder b(256);
  const auto folder = b.CreateString(checkpoint);
  const auto body = wire::CreateLoad(b, folder, max_context);
  return operate(*link_, b, model, wire::Verb::Load, body.Union(), how);
}

operated operations::unload(const std::string& model, milliseconds deadline,
                            const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreateUnload(b, ms_of(deadline));
  return operate(*link_, b, model, wire::Verb::Unload, body.Union(), how);
}

operated operations::swap(const std::string& model, const std::string& module, const swap_options& wanted,
                          const operation_options& how) const {
  FlatBufferBuilder b(256);
  const auto file = b.CreateString(module);
  const auto body =
      wire::CreateSwap(b, file, wire_of(wanted.move), ms_of(wanted.deadline), wire_of(wanted.verify),
                       wanted.max_logit_diff, ms_of(wanted.probation), wanted.probation_requests);
  return operate(*link_, b, model, wire::Verb::Swap, body.Union(), how);
}

operated operations::deploy(const std::string& model, const std::string& checkpoint,
                            const deploy_options& wanted, const operation_options& how) const {
  FlatBufferBuilder b(256);
  const auto folder = b.CreateString(checkpoint);
  const auto file = wanted.module.empty() ? 0 : b.CreateString(wanted.module);
  const auto body =
      wire::CreateDeploy(b, folder, file, wanted.max_context, wanted.share_percent, wanted.sticky,
                         wire_of(wanted.move), ms_of(wanted.deadline), wire_of(wanted.verify),
                         wanted.max_logit_diff, ms_of(wanted.probation), wanted.probation_requests);
  return operate(*link_, b, model, wire::Verb::Deploy, body.Union(), how);
}

operated operations::promote(const std::string& model, const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreatePromote(b);
  return operate(*link_, b, model, wire::Verb::Promote, body.Union(), how);
}

operated operations::rollback(const std::string& model, milliseconds deadline,
                              const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreateRollback(b, ms_of(deadline));
  return operate(*link_, b, model, wire::Verb::Rollback, body.Union(), how);
}

operated operations::sleep(const std::string& model, milliseconds deadline,
                           const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreateSleep(b, ms_of(deadline));
  return operate(*link_, b, model, wire::Verb::Sleep, body.Union(), how);
}

operated operations::drain(const std::string& model, milliseconds deadline,
                           const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreateDrain(b, ms_of(deadline));
  return operate(*link_, b, model, wire::Verb::Drain, body.Union(), how);
}

operated operations::wake(const std::string& model, const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreateWake(b);
  return operate(*link_, b, model, wire::Verb::Wake, body.Union(), how);
}

operated operations::pin(const std::string& model, bool pinned, const operation_options& how) const {
  FlatBufferBuilder b(128);
  const auto body = wire::CreatePin(b, pinned);
  return operate(*link_, b, model, wire::Verb::Pin, body.Union(), how);
}

std::vector<operation_info> operations::history(const std::string& model, std::uint32_t limit) const {
  FlatBufferBuilder b(128);
  const auto id = link_->next_id();
  const auto name = b.CreateString(model);
  const auto wanted = wire::CreateListHistory(b, name, limit);
  const auto r = call<wire::History>(
      *link_, id, finish(b, id, wire::RequestBody::ListHistory, wanted.Union()), link_->options.call_timeout);
  std::vector<operation_info> all;
  for (const auto* o : *r->body_as_History()->operations()) all.push_back(read_operation(*o));
  return all;
}

// ---- events -----------------------------------------------------------------------------------------------

struct event_stream::state {
  std::shared_ptr<link> owner;
  std::shared_ptr<mailbox> box = std::make_shared<mailbox>();
  std::uint64_t id = 0;

  ~state() {
    owner->forget(id);
    owner->send(cancel_request(owner->next_id(), id));
  }
};

event_stream::event_stream(std::unique_ptr<state> s) : state_(std::move(s)) {}
event_stream::event_stream(event_stream&&) noexcept = default;
event_stream& event_stream::operator=(event_stream&&) noexcept = default;
event_stream::~event_stream() = default;

std::optional<operation_info> event_stream::next(milliseconds timeout) {
  const auto r = state_->box->take(timeout);
  if (!r) return std::nullopt;
  if (const auto* e = (*r)->body_as<wire::Error>()) throw read_error(*e);
  const auto* event = (*r)->body_as<wire::Event>();
  if (!event)
    throw failure(error_code::invalid_frame,
                  state_->owner->endpoint + " answered with a message of another type");
  return read_operation(*event->info());
}

event_stream operations::events(const std::string& model) const {
  auto s = std::make_unique<event_stream::state>();
  s->owner = link_;
  s->id = link_->next_id();
  FlatBufferBuilder b(128);
  const auto name = b.CreateString(model);
  const auto wanted = wire::CreateFollowEvents(b, name);
  link_->open(s->id, s->box, finish(b, s->id, wire::RequestBody::FollowEvents, wanted.Union()));
  return event_stream(std::move(s));
}

}  // namespace troupe::client
