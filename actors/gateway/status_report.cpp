#include "actors/gateway/status_report.hpp"

#include "actors/deployment/answers.hpp"

namespace troupe::gateway {
namespace {

using deployment::unix_ms;

wire::ModelInfoT info_of(const model_facts& m) {
  wire::ModelInfoT info;
  const auto& p = *m.model;
  info.name = p.name;
  info.architecture = p.checkpoint.architecture;
  if (p.module) {
    info.module_ = p.module->name() + " " + p.module->version();
    info.module_sha256 = p.module->sha256();
  }
  info.context_tokens = p.context_tokens;
  info.vocabulary = p.vocabulary;
  info.parameters = p.parameters;
  info.state = state_of(m);
  info.generation = m.entry.generation;
  info.share_percent = m.entry.share_percent;
  info.pinned = m.entry.pinned;
  info.checkpoint = p.checkpoint.folder.string();
  if (m.scheduler) {
    info.waiting = (*m.scheduler)->waiting();
    info.running = (*m.scheduler)->running();
    info.generated_tokens = (*m.scheduler)->generated_tokens();
    info.steps = (*m.scheduler)->steps();
    info.tokens_per_second = (*m.scheduler)->tokens_per_second();
    if (m.entry.resting != "asleep" || m.streams > 0) info.weight_bytes = (*m.scheduler)->weight_bytes();
  }
  return info;
}

template <class Native>
void add_models(Native& to, const std::vector<model_facts>& models) {
  for (const auto& m : models) to.models.push_back(std::make_unique<wire::ModelInfoT>(info_of(m)));
}

}  // namespace

const char* state_of(const model_facts& m) {
  if (m.closed) return "closing";
  if (!m.entry.resting.empty()) return m.streams > 0 ? "draining" : m.entry.resting.c_str();
  if (m.scheduler && (*m.scheduler)->ready()) return "ready";
  return m.was_ready ? "recovering" : "loading";
}

reply_message model_list_reply(std::uint64_t id, const std::vector<model_facts>& models) {
  wire::ModelListT list;
  add_models(list, models);
  flatbuffers::FlatBufferBuilder b(512);
  return make_reply(b, id, wire::CreateModelList(b, &list));
}

reply_message status_reply(std::uint64_t id, const server_facts& server) {
  wire::StatusT s;
  s.version = server.version;
  s.uptime_ms = server.uptime_ms;
  s.clients = server.clients;
  s.open_requests = server.open_requests;
  s.bad_frames = server.bad_frames;
  s.cache = std::make_unique<wire::CacheInfoT>();
  if (server.cache) {
    const auto& c = **server.cache;
    s.cache->blocks = c.blocks();
    s.cache->free_blocks = c.free_blocks();
    s.cache->cached_blocks = c.cached_blocks();
    s.cache->block_bytes = c.block_bytes();
  }
  add_models(s, server.models);
  for (const auto& r : server.restarts) {
    if (r.restarts == 0) continue;
    auto info = std::make_unique<wire::RestartInfoT>();
    info->actor = r.actor;
    info->restarts = r.restarts;
    info->last_reason = r.last_reason;
    s.restarts.push_back(std::move(info));
  }
  for (const auto& o : server.operations) s.operations.push_back(deployment::info_of(o, unix_ms()));
  flatbuffers::FlatBufferBuilder b(1024);
  return make_reply(b, id, wire::CreateStatus(b, &s));
}

}  // namespace troupe::gateway
