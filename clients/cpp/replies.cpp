#include "messages.hpp"

namespace troupe::client {
namespace {

std::string text_of(const flatbuffers::String* s) {
  return s ? s->str() : std::string{};
}

std::vector<token_logprob> read_tokens(
    const flatbuffers::Vector<flatbuffers::Offset<wire::TokenLogprob>>* from) {
  std::vector<token_logprob> to;
  if (!from) return to;
  to.reserve(from->size());
  for (const auto* t : *from) {
    token_logprob token{t->token(), t->logprob(), {}, {}};
    if (const auto* bytes = t->text()) token.bytes.assign(bytes->begin(), bytes->end());
    if (const auto* top = t->top())
      for (const auto* a : *top) token.top.push_back({a->token(), a->logprob()});
    to.push_back(std::move(token));
  }
  return to;
}

}  // namespace

chunk read_chunk(const wire::Chunk& from) {
  return {from.choice(), text_of(from.text()), read_tokens(from.tokens()), read_tokens(from.prompt())};
}

final_message read_final(const wire::Final& from) {
  final_message to;
  for (const auto* c : *from.choices())
    to.choices.push_back({c->choice(), c->finish(), c->stop_token(), text_of(c->stop_string()),
                          c->generated_tokens(), c->seed()});
  const auto* u = from.usage();
  to.usage = {u->prompt_tokens(), u->cached_tokens(),  u->generated_tokens(),
              u->queue_ms(),      u->first_token_ms(), u->total_ms()};
  return to;
}

model_info read_model(const wire::ModelInfo& from) {
  model_info to;
  to.name = text_of(from.name());
  to.architecture = text_of(from.architecture());
  to.module = text_of(from.module_());
  to.module_sha256 = text_of(from.module_sha256());
  to.context_tokens = from.context_tokens();
  to.vocabulary = from.vocabulary();
  to.parameters = from.parameters();
  to.state = text_of(from.state());
  to.waiting = from.waiting();
  to.running = from.running();
  to.generated_tokens = from.generated_tokens();
  to.steps = from.steps();
  to.generation = from.generation();
  to.checkpoint = text_of(from.checkpoint());
  to.tokens_per_second = from.tokens_per_second();
  to.weight_bytes = from.weight_bytes();
  to.share_percent = from.share_percent();
  to.pinned = from.pinned();
  return to;
}

operation_info read_operation(const wire::OperationInfo& from) {
  return {from.operation(),      text_of(from.model()), text_of(from.verb()), text_of(from.state()),
          from.dry_run(),        from.begun_ms(),       from.took_ms(),       from.old_generation(),
          from.new_generation(), text_of(from.reason())};
}

server_status read_status(const wire::Status& from) {
  server_status to;
  to.version = text_of(from.version());
  to.uptime_ms = from.uptime_ms();
  to.clients = from.clients();
  to.open_requests = from.open_requests();
  to.bad_frames = from.bad_frames();
  if (const auto* c = from.cache())
    to.cache = {c->blocks(), c->free_blocks(), c->cached_blocks(), c->block_bytes()};
  if (const auto* models = from.models())
    for (const auto* m : *models) to.models.push_back(read_model(*m));
  if (const auto* restarts = from.restarts())
    for (const auto* r : *restarts)
      to.restarts.push_back({text_of(r->actor()), r->restarts(), text_of(r->last_reason())});
  if (const auto* operations = from.operations())
    for (const auto* o : *operations) to.operations.push_back(read_operation(*o));
  return to;
}

failure read_error(const wire::Error& from) {
  return {from.code(), text_of(from.text())};
}

}  // namespace troupe::client
